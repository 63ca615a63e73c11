; Stands in for the installer of Git for Windows (Inno Setup): /VERYSILENT /SUPPRESSMSGBOXES /NORESTART /NOCANCEL /SP-
; /COMPONENTS="…" /DIR="…". Unknown components are ignored, as Inno Setup does.
!include common.nsh
Name "Git"
OutFile "${OUT}"
InstallDir "$PROGRAMFILES64\Git"
Var Components

Function .onInit
  SetRegView 64
  ${GetParameters} $R9
  ${Has} "/VERYSILENT"
  ${If} $R8 == 0
    ${Has} "/SILENT"
    ${If} $R8 == 0
      !insertmacro Fail 2 "Git: without /VERYSILENT this opens a window"
    ${EndIf}
  ${EndIf}
  ClearErrors
  ${GetOptions} $R9 "/COMPONENTS=" $Components
  ClearErrors
  ${GetOptions} $R9 "/DIR=" $R0
  ${IfNot} ${Errors}
    StrCpy $INSTDIR $R0
  ${EndIf}
FunctionEnd

Section
  SetOutPath "$INSTDIR\cmd"
  File /oname=git.exe "${PROGRAMS}/shim.exe"
  SetOutPath "$INSTDIR\bin"
  File /oname=git.exe "${PROGRAMS}/shim.exe"
  SetOutPath "$INSTDIR"
  File "stand-in.txt"
  WriteUninstaller "$INSTDIR\unins000.exe"
  WriteRegStr HKLM "Software\GitForWindows" "CurrentVersion" "${VERSION}"
  WriteRegStr HKLM "Software\GitForWindows" "InstallPath" "$INSTDIR"
  WriteRegStr HKLM "Software\GitForWindows" "LibexecPath" "$INSTDIR\mingw64\libexec\git-core"
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "DisplayName" "Git (stand-in)"
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "InstallLocation" "$INSTDIR\"
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "Inno Setup: Selected Components" "$Components"
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "UninstallString" '"$INSTDIR\unins000.exe"'
  WriteRegStr HKLM "${UNINSTALL}\Git_is1" "QuietUninstallString" '"$INSTDIR\unins000.exe" /SILENT'
  !insertmacro AddToPath "$INSTDIR\cmd"
SectionEnd

Section Uninstall
  SetRegView 64
  !insertmacro RemoveFromPath "$INSTDIR\cmd"
  RMDir /r "$INSTDIR"
  DeleteRegKey HKLM "Software\GitForWindows"
  DeleteRegKey HKLM "${UNINSTALL}\Git_is1"
SectionEnd
