<#
Makes a Windows 10, 11 or Server machine ready for Labwright, once, as administrator (docs/windows.md):

  powershell -ExecutionPolicy Bypass -File ready-windows.ps1 -ControlNode 192.0.2.1 -Name 192.0.2.21
  powershell -ExecutionPolicy Bypass -File ready-windows.ps1 -Undo

It lets one address, the control node's, reach WinRM over HTTPS, with a certificate of its own, and makes a local account
of the group Administrators; its password is asked for and stands in no file. It says what it did; a second run changes
nothing, but makes a new certificate for a new -Name, or where the old one has 30 days left. -Undo takes back what it
did, by what it noted in the registry; the .pem stays.

It closes no door: where WinRM over HTTP (port 5985, on Server so by default), SMB or WMI are open, the account comes in
there too, as any administrator.
#>
[CmdletBinding()]
param(
    [string] $ControlNode,
    [string] $Name = $env:COMPUTERNAME,
    [string] $Account = 'labwright-admin',
    [string] $Folder = $env:USERPROFILE,
    [switch] $Undo
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2
$rule = 'Labwright WinRM'
$notes = 'HKLM:\SOFTWARE\Labwright-Ready'
$policy = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System'
$filter = 'LocalAccountTokenFilterPolicy'

# What WinRM's service is to be: no password goes as it is, and nothing unencrypted. Windows is so unless somebody changed it.
$settings = @{
    'Auth\Basic' = 'false'
    'AllowUnencrypted' = 'false'
    'Auth\Negotiate' = 'true'
}
$administrators = 'S-1-5-32-544' # by its number: the group has another name in other languages

function Say($words) {
    Write-Output "ready-windows: $words"
}

function Get-Note($what) {
    if (-not (Test-Path $notes)) {
        return ''
    }
    $row = Get-Item -Path $notes
    return [string] $row.GetValue($what, '')
}

function Set-Note($what, $value) {
    if (-not (Test-Path $notes)) {
        New-Item -Path $notes | Out-Null
    }
    Set-ItemProperty -Path $notes -Name $what -Value $value
}

function Get-Setting($what) {
    return [string] (Get-Item -Path "WSMan:\localhost\Service\$what").Value
}

# Called for what differs alone: where a network is Public, WinRM refuses a value that it has already, too.
function Set-WinRM($path, $value) {
    try {
        Set-Item -Path "WSMan:\localhost\$path" -Value $value -Force
    }
    catch {
        $reason = $_.Exception.Message
        throw ("LW-READY-003: WinRM refuses $path = ${value}: $reason Expected it to be taken. " +
            "Either a network of this machine is Public: Get-NetConnectionProfile tells which, Set-NetConnectionProfile changes it. " +
            "Or group policy rules the setting: gpresult /h report.html tells which. Change that, and run this again.")
    }
    Say "WinRM has $path = $value"
}

# The thumbprints of the certificates that this script made.
function Get-Made {
    return (Get-Note 'Certificate') -split ' ' | Where-Object { $_ }
}

function Remove-Certificate($thumbprints) {
    $found = Get-ChildItem -Path Cert:\LocalMachine\My | Where-Object { $thumbprints -contains $_.Thumbprint }
    foreach ($one in $found) {
        Remove-Item -Path "Cert:\LocalMachine\My\$($one.Thumbprint)" -DeleteKey
        Say "the certificate for $($one.Subject) is gone"
    }
}

function Get-Listener {
    foreach ($one in Get-ChildItem -Path WSMan:\localhost\Listener) {
        if ($one.Keys -contains 'Transport=HTTPS') {
            $path = "Listener\$($one.Name)"
            $used = Get-ChildItem -Path "WSMan:\localhost\$path" | Where-Object { $_.Name -eq 'CertificateThumbprint' }
            New-Object -TypeName PSObject -Property @{ Path = $path; Thumbprint = [string] $used.Value }
        }
    }
}

$me = New-Object -TypeName Security.Principal.WindowsPrincipal -ArgumentList $([Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'LW-READY-001: this needs an administrator; start PowerShell by Run as administrator.'
}

if ($Undo) {
    Get-NetFirewallRule -DisplayName $rule -ErrorAction SilentlyContinue | Remove-NetFirewallRule
    Say 'the firewall rule is gone'
    if (-not (Test-Path $notes)) {
        Say 'nothing else was noted'
        return
    }
    Start-Service -Name WinRM
    $made = @(Get-Made)
    foreach ($one in Get-Listener) {
        if ($made -contains $one.Thumbprint) {
            Remove-Item -Path "WSMan:\localhost\$($one.Path)" -Recurse
            Say 'the HTTPS listener is gone'
        }
    }
    Remove-Certificate $made
    if ((Get-Note 'TokenFilter') -eq 'set') {
        Remove-ItemProperty -Path $policy -Name $filter -ErrorAction SilentlyContinue
        Say 'local accounts have no full token over the network any more'
    }
    foreach ($what in $settings.Keys) {
        $before = Get-Note $what
        if ($before -and $before -ne (Get-Setting $what)) {
            Set-WinRM "Service\$what" $before
        }
    }
    $user = Get-LocalUser | Where-Object { $_.Name -eq (Get-Note 'Member') }
    if ($user) {
        Remove-LocalGroupMember -SID $administrators -Member $user -ErrorAction SilentlyContinue
        Say "the account $($user.Name) is no administrator any more"
    }
    $login = Get-Note 'Account'
    $user = Get-LocalUser | Where-Object { $_.Name -eq $login }
    if ($user) {
        # Its folder below C:\Users first: without the account nobody knows whose it was.
        try {
            Get-CimInstance -ClassName Win32_UserProfile -Filter "SID='$($user.SID.Value)'" | Remove-CimInstance
        }
        catch {
            $reason = $_.Exception.Message
            throw ("LW-READY-005: the folder of $login below C:\Users cannot be removed: $reason Expected nobody to be logged in " +
                "as $login. Restart the machine, and run this again with -Undo.")
        }
        Remove-LocalUser -Name $login
        Say "the account $login is gone, with its folder below C:\Users"
    }
    $before = Get-Note 'WinRM'
    if ($before) {
        Set-Service -Name WinRM -StartupType $before
        Say "the service WinRM starts as before: $before"
        Stop-Service -Name WinRM
    }
    Remove-Item -Path $notes -Recurse
    return
}

if (-not (($ControlNode -split '/')[0] -as [Net.IPAddress])) {
    throw ("LW-READY-002: -ControlNode is missing or no address; expected the address of the machine on which Ansible runs. " +
        "No other will be let in.")
}

$service = Get-CimInstance -ClassName Win32_Service -Filter "Name='WinRM'"
if ($service.StartMode -ne 'Auto') {
    $kind = 'Manual'
    if ($service.StartMode -eq 'Disabled') {
        $kind = 'Disabled'
    }
    Set-Note 'WinRM' $kind
    Set-Service -Name WinRM -StartupType Automatic
    Say 'the service WinRM starts with the machine'
}
Start-Service -Name WinRM

$made = @(Get-Made)
$listeners = @(Get-Listener)
foreach ($one in $listeners) {
    if ($made -notcontains $one.Thumbprint) {
        $serves = $one.Thumbprint
        $place = "WSMan:\localhost\$($one.Path)"
        throw ("LW-READY-004: WinRM has an HTTPS listener of somebody else, with the certificate $serves; expected none. " +
            "Either remove it, and run this again: Remove-Item -Recurse $place. Or keep it, let the control node trust who " +
            "signed its certificate, and do the rest by hand: docs/windows.md, The same by group policy.")
    }
}

foreach ($what in $settings.Keys) {
    $before = Get-Setting $what
    if ($before -ne $settings[$what]) {
        if (-not (Get-Note $what)) {
            Set-Note $what $before
        }
        Set-WinRM "Service\$what" $settings[$what]
    }
}

$fresh = (Get-Date).AddDays(30)
$certificate = Get-ChildItem -Path Cert:\LocalMachine\My |
    Where-Object { $made -contains $_.Thumbprint -and $_.Subject -eq "CN=$Name" -and $_.NotAfter -gt $fresh } |
    Select-Object -First 1
if (-not $certificate) {
    # A name may be an address: then it must stand in the certificate as one, or the control node does not find it there.
    $names = "2.5.29.17={text}DNS=$env:COMPUTERNAME&DNS=$Name"
    if ($Name -as [Net.IPAddress]) {
        $names = "2.5.29.17={text}DNS=$env:COMPUTERNAME&IPAddress=$Name"
    }
    $wishes = @{
        Subject = "CN=$Name"
        TextExtension = $names
        CertStoreLocation = 'Cert:\LocalMachine\My'
        NotAfter = (Get-Date).AddYears(5)
        KeyExportPolicy = 'NonExportable'
        FriendlyName = 'Labwright WinRM'
    }
    $certificate = New-SelfSignedCertificate @wishes
    # With the older ones, until the listener has left them.
    Set-Note 'Certificate' (($made + $certificate.Thumbprint) -join ' ')
    Say "a certificate was made for $Name, for five years"
}
if (-not $listeners) {
    New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -CertificateThumbPrint $certificate.Thumbprint -Force | Out-Null
    Say 'WinRM listens on port 5986 over HTTPS'
}
foreach ($one in $listeners) {
    if ($one.Thumbprint -ne $certificate.Thumbprint) {
        Set-WinRM "$($one.Path)\CertificateThumbprint" $certificate.Thumbprint
    }
}
Remove-Certificate ($made | Where-Object { $_ -ne $certificate.Thumbprint })
Set-Note 'Certificate' $certificate.Thumbprint

$door = Get-NetFirewallRule -DisplayName $rule -ErrorAction SilentlyContinue
if (-not $door) {
    $wishes = @{
        DisplayName = $rule
        Description = 'Made by Labwright (ready-windows.ps1)'
        Direction = 'Inbound'
        Action = 'Allow'
        Protocol = 'TCP'
        LocalPort = 5986
        RemoteAddress = $ControlNode
        Profile = 'Any'
    }
    New-NetFirewallRule @wishes | Out-Null
    Say "this rule opens port 5986 to $ControlNode alone"
}
else {
    $door | Set-NetFirewallRule -RemoteAddress $ControlNode
}

$user = Get-LocalUser | Where-Object { $_.Name -eq $Account }
if (-not $user) {
    $password = Read-Host -AsSecureString -Prompt "Password for the new account $Account"
    $user = New-LocalUser -Name $Account -Password $password -PasswordNeverExpires -Description 'Labwright logs in as this user'
    Set-Note 'Account' $Account
    Say "the account $Account was made"
}
# Each time, for a run may have ended before it. The list of members is not asked: it fails where one is an account that is gone.
try {
    Add-LocalGroupMember -SID $administrators -Member $user
    Set-Note 'Member' $Account
    Say "the account $Account is an administrator now"
}
catch {
    if ($_.FullyQualifiedErrorId -notlike 'MemberExists*') {
        throw
    }
}
# Without this a local administrator who comes over the network is none.
$now = Get-Item -Path $policy
if ($now.GetValue($filter, 0) -ne 1) {
    Set-Note 'TokenFilter' 'set'
    Set-ItemProperty -Path $policy -Name $filter -Value 1 -Type DWord
    Say 'local administrators have their rights over the network'
}

$file = Join-Path -Path $Folder -ChildPath "$env:COMPUTERNAME.pem"
$text = [Convert]::ToBase64String($certificate.RawData, 'InsertLineBreaks')
Set-Content -Path $file -Value "-----BEGIN CERTIFICATE-----`n$text`n-----END CERTIFICATE-----" -Encoding Ascii
Say "bring $file to the control node: it is the public part of the certificate, which is to be trusted there"
