<#
Makes a Windows 10, 11 or Server machine ready for Labwright, once, as administrator (docs/windows.md):

  powershell -ExecutionPolicy Bypass -File ready-windows.ps1 -ControlNode 192.0.2.1 -Name 192.0.2.21
  powershell -ExecutionPolicy Bypass -File ready-windows.ps1 -Undo

It lets one address, the control node's, reach WinRM over HTTPS, with a certificate of its own, and makes a local account
of the group Administrators; its password is asked for and stands in no file. It says what it did; a second run changes
nothing. -Undo takes back what it did, by what it noted in the registry.
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

$me = New-Object -TypeName Security.Principal.WindowsPrincipal -ArgumentList $([Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'LW-READY-001: this needs an administrator; start PowerShell with "Run as administrator".'
}

if ($Undo) {
    Get-NetFirewallRule -DisplayName $rule -ErrorAction SilentlyContinue | Remove-NetFirewallRule
    Say 'the firewall rule is gone'
    $thumbprint = Get-Note 'Certificate'
    if ($thumbprint) {
        $mine = Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object { $_.Keys -contains 'Transport=HTTPS' }
        foreach ($one in $mine) {
            $used = Get-ChildItem -Path "WSMan:\localhost\Listener\$($one.Name)" | Where-Object { $_.Name -eq 'CertificateThumbprint' }
            if ($used.Value -eq $thumbprint) {
                Remove-Item -Path "WSMan:\localhost\Listener\$($one.Name)" -Recurse
                Say 'the HTTPS listener is gone'
            }
        }
        Remove-Item -Path "Cert:\LocalMachine\My\$thumbprint" -ErrorAction SilentlyContinue
        Say 'the certificate is gone'
    }
    $made = Get-Note 'Account'
    if ($made) {
        Remove-LocalUser -Name $made -ErrorAction SilentlyContinue
        Say "the account $made is gone"
    }
    if ((Get-Note 'TokenFilter') -eq 'set') {
        Remove-ItemProperty -Path $policy -Name $filter -ErrorAction SilentlyContinue
        Say 'local accounts have no full token over the network any more'
    }
    $before = Get-Note 'WinRM'
    if ($before) {
        Set-Service -Name WinRM -StartupType $before
        Say "the service WinRM starts as before: $before"
        if ($before -ne 'Automatic') {
            Stop-Service -Name WinRM
        }
    }
    if (Test-Path $notes) {
        Remove-Item -Path $notes -Recurse
    }
    return
}

if (-not $ControlNode) {
    throw 'LW-READY-002: -ControlNode is missing; expected the address of the machine on which Ansible runs. No other will be let in.'
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

$thumbprint = Get-Note 'Certificate'
$certificate = $null
if ($thumbprint) {
    $certificate = Get-Item -Path "Cert:\LocalMachine\My\$thumbprint" -ErrorAction SilentlyContinue
}
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
    Set-Note 'Certificate' $certificate.Thumbprint
    Say "a certificate was made for $Name, for five years"
}

$listeners = Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object { $_.Keys -contains 'Transport=HTTPS' }
if (-not $listeners) {
    New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -CertificateThumbPrint $certificate.Thumbprint -Force | Out-Null
    Say 'WinRM listens on port 5986 over HTTPS'
}
# Only these two ways in; neither sends a password as it is, and nothing goes unencrypted.
Set-Item -Path WSMan:\localhost\Service\Auth\Basic -Value $false
Set-Item -Path WSMan:\localhost\Service\AllowUnencrypted -Value $false
Set-Item -Path WSMan:\localhost\Service\Auth\Negotiate -Value $true

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
    Say "port 5986 is open to $ControlNode alone"
}
else {
    $door | Set-NetFirewallRule -RemoteAddress $ControlNode
}

if (-not (Get-LocalUser -Name $Account -ErrorAction SilentlyContinue)) {
    $password = Read-Host -AsSecureString -Prompt "Password for the new account $Account"
    New-LocalUser -Name $Account -Password $password -PasswordNeverExpires -Description 'Labwright logs in as this user' | Out-Null
    # By its number: the group has another name in other languages.
    Add-LocalGroupMember -SID 'S-1-5-32-544' -Member $Account
    Set-Note 'Account' $Account
    Say "the account $Account was made, an administrator"
}
# Without this a local administrator who comes over the network is none.
$now = Get-Item -Path $policy
if ($now.GetValue($filter, 0) -ne 1) {
    Set-ItemProperty -Path $policy -Name $filter -Value 1 -Type DWord
    Set-Note 'TokenFilter' 'set'
    Say 'local administrators have their rights over the network'
}

$file = Join-Path -Path $Folder -ChildPath "$env:COMPUTERNAME.pem"
$text = [Convert]::ToBase64String($certificate.RawData, 'InsertLineBreaks')
Set-Content -Path $file -Value "-----BEGIN CERTIFICATE-----`n$text`n-----END CERTIFICATE-----" -Encoding Ascii
Say "bring $file to the control node: it is the public part of the certificate, which is to be trusted there"
