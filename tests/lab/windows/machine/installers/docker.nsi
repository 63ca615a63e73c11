; Stands in for "Docker Desktop Installer.exe": install --quiet --accept-license --backend=wsl-2, uninstall --quiet.
; It brings no engine and no WSL.
!include common.nsh
!define KEY "SOFTWARE\Docker Inc.\Docker\1.0"
Name "Docker Desktop"
OutFile "${OUT}"
InstallDir "$PROGRAMFILES64\Docker\Docker"

Function .onInit
  SetRegView 64
  SetShellVarContext all
  ${GetParameters} $R9
  ${Has} "--quiet"
  ${If} $R8 == 0
    !insertmacro Fail 1 "Docker Desktop Installer: without --quiet this opens a window"
  ${EndIf}
  ${Has} "uninstall"
  ${If} $R8 == 1
    ; No program can remove itself: a copy goes on, and this one returns at once.
    ${If} $EXEDIR == $INSTDIR
      CopyFiles /SILENT "$EXEPATH" "$TEMP\docker-uninstall.exe"
      Exec '"$TEMP\docker-uninstall.exe" uninstall --quiet'
      SetErrorLevel 0
      Quit
    ${EndIf}
    Sleep 500
    !insertmacro RemoveFromPath "$INSTDIR\resources\bin"
    RMDir /r "$INSTDIR"
    RMDir "$PROGRAMFILES64\Docker"
    DeleteRegKey HKLM "SOFTWARE\Docker Inc."
    DeleteRegKey HKLM "${UNINSTALL}\Docker Desktop"
    Delete /REBOOTOK "$EXEPATH"
    SetErrorLevel 0
    Quit
  ${EndIf}
  ${Has} "install"
  ${If} $R8 == 0
    !insertmacro Fail 1 "Docker Desktop Installer: expected install or uninstall"
  ${EndIf}
FunctionEnd

Section
  SetOutPath "$INSTDIR"
  File "stand-in.txt"
  File "/oname=Docker Desktop.exe" "${PROGRAMS}/shim.exe"
  CopyFiles /SILENT "$EXEPATH" "$INSTDIR\Docker Desktop Installer.exe"
  SetOutPath "$INSTDIR\resources\bin"
  File /oname=docker.exe "${PROGRAMS}/shim.exe"
  WriteRegStr HKLM "${KEY}" "AppPath" "$INSTDIR"
  WriteRegStr HKLM "${KEY}" "BinPath" "$INSTDIR\resources\bin"
  WriteRegStr HKLM "${KEY}" "Version" "${VERSION}"
  WriteRegStr HKLM "${KEY}" "StandInSwitches" "$R9"
  WriteRegStr HKLM "${UNINSTALL}\Docker Desktop" "DisplayName" "Docker Desktop (stand-in)"
  WriteRegStr HKLM "${UNINSTALL}\Docker Desktop" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL}\Docker Desktop" "InstallLocation" "$INSTDIR"
  WriteRegStr HKLM "${UNINSTALL}\Docker Desktop" "UninstallString" '"$INSTDIR\Docker Desktop Installer.exe" uninstall'
  !insertmacro AddToPath "$INSTDIR\resources\bin"
SectionEnd
