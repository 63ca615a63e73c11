; Stands in for Miniforge's installer, which is NSIS too (constructor's main.nsi.tmpl): the same switches and traps.
; /D=… is the last word and not quoted, else the default folder is taken and the exit status is 0 all the same.
!include common.nsh
Name "Miniforge3"
OutFile "${OUT}"
Var Scope
Var Register

Function .onInit
  SetRegView 64
  ${GetParameters} $R9
  StrCpy $Scope "JustMe"
  ${GetOptions} $R9 "/InstallationType=" $Scope
  ${If} $Scope != "AllUsers"
    StrCpy $Scope "JustMe"
    SetShellVarContext current
    StrCpy $Register "1"
  ${Else}
    SetShellVarContext all
    StrCpy $Register "1"
  ${EndIf}
  ClearErrors
  ${GetOptions} $R9 "/RegisterPython=" $R0
  ${IfNot} ${Errors}
    StrCpy $Register $R0
  ${EndIf}
  ${If} $INSTDIR == ""
    ${If} $Scope == "AllUsers"
      StrCpy $INSTDIR "$APPDATA\Miniforge3"
    ${Else}
      StrCpy $INSTDIR "$PROFILE\Miniforge3"
    ${EndIf}
  ${EndIf}
  ; A graphical one would wait for somebody to click.
  ClearErrors
  ${Has} "/S"
  ${If} $R8 == 0
    !insertmacro Fail 1 "Miniforge3: without /S this opens a window"
  ${EndIf}
  ${DirState} "$INSTDIR" $R0
  ${If} $R0 == 1
    !insertmacro Fail 2 "Miniforge3: the folder $INSTDIR is not empty"
  ${EndIf}
FunctionEnd

Section
  SetOutPath "$INSTDIR"
  File /oname=python.exe "${PROGRAMS}/shim.exe"
  File /oname=pythonw.exe "${PROGRAMS}/shim.exe"
  File "stand-in.txt"
  SetOutPath "$INSTDIR\Scripts"
  File /oname=conda.exe "${PROGRAMS}/shim.exe"
  File /oname=pip.exe "${PROGRAMS}/shim.exe"
  SetOutPath "$INSTDIR\conda-meta"
  FileOpen $0 "$INSTDIR\conda-meta\history" w
  FileWrite $0 "==> 2024-01-01 00:00:00 <==$\n"
  FileClose $0
  CreateDirectory "$INSTDIR\Lib\site-packages"
  CreateDirectory "$INSTDIR\pkgs"
  ${If} $Scope == "JustMe"
    FileOpen $0 "$INSTDIR\.nonadmin" w
    FileClose $0
  ${EndIf}
  WriteUninstaller "$INSTDIR\Uninstall-Miniforge3.exe"
  WriteRegStr SHCTX "${UNINSTALL}\Miniforge3" "DisplayName" "Miniforge3 ${VERSION} (stand-in)"
  WriteRegStr SHCTX "${UNINSTALL}\Miniforge3" "DisplayVersion" "${VERSION}"
  WriteRegStr SHCTX "${UNINSTALL}\Miniforge3" "InstallLocation" "$INSTDIR"
  WriteRegStr SHCTX "${UNINSTALL}\Miniforge3" "UninstallString" '"$INSTDIR\Uninstall-Miniforge3.exe"'
  WriteRegStr SHCTX "${UNINSTALL}\Miniforge3" "QuietUninstallString" '"$INSTDIR\Uninstall-Miniforge3.exe" /S'
  ${If} $Register == "1"
    WriteRegStr SHCTX "Software\Python\PythonCore\3.11\InstallPath" "" "$INSTDIR"
  ${EndIf}
SectionEnd

; As every NSIS uninstaller it goes on in a copy of itself and returns at once, unless _?=FOLDER is its last word.
Section Uninstall
  SetRegView 64
  SetShellVarContext current
  IfFileExists "$INSTDIR\.nonadmin" +2
  SetShellVarContext all
  RMDir /r "$INSTDIR"
  DeleteRegKey SHCTX "${UNINSTALL}\Miniforge3"
  ReadRegStr $0 SHCTX "Software\Python\PythonCore\3.11\InstallPath" ""
  ${If} $0 == $INSTDIR
    DeleteRegKey SHCTX "Software\Python\PythonCore\3.11"
    DeleteRegKey /ifempty SHCTX "Software\Python\PythonCore"
    DeleteRegKey /ifempty SHCTX "Software\Python"
  ${EndIf}
SectionEnd
