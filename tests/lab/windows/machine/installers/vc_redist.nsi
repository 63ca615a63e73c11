; Stands in for VC_redist.x64.exe: /install /quiet /norestart, /uninstall /quiet. 1638: a newer one is there. Wine brings
; the runtime's DLLs itself.
!include common.nsh
!define KEY "SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes\X64"
!define ID "{labwright-stand-in-vc-redist-x64}"
Name "Microsoft Visual C++ Redistributable"
OutFile "${OUT}"

Function .onInit
  SetRegView 64
  SetShellVarContext all
  ${GetParameters} $R9
  ${Has} "/quiet"
  ${If} $R8 == 0
    ${Has} "/passive"
    ${If} $R8 == 0
      !insertmacro Fail 1602 "VC_redist: without /quiet this opens a window"
    ${EndIf}
  ${EndIf}
  ${Has} "/uninstall"
  ${If} $R8 == 1
    DeleteRegKey HKLM "${KEY}"
    DeleteRegKey HKLM "${UNINSTALL}\${ID}"
    DeleteRegKey /ifempty HKLM "SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes"
    DeleteRegKey /ifempty HKLM "SOFTWARE\Microsoft\VisualStudio\14.0\VC"
    DeleteRegKey /ifempty HKLM "SOFTWARE\Microsoft\VisualStudio\14.0"
    DeleteRegKey /ifempty HKLM "SOFTWARE\Microsoft\VisualStudio"
    Delete /REBOOTOK "$APPDATA\Package Cache\${ID}\VC_redist.x64.exe"
    RMDir "$APPDATA\Package Cache\${ID}"
    RMDir "$APPDATA\Package Cache"
    SetErrorLevel 0
    Quit
  ${EndIf}
  ReadRegDWORD $0 HKLM "${KEY}" "Bld"
  ${If} $0 > ${BUILD}
    SetErrorLevel 1638
    Quit
  ${EndIf}
FunctionEnd

Section
  SetShellVarContext all
  CreateDirectory "$APPDATA\Package Cache\${ID}"
  CopyFiles /SILENT "$EXEPATH" "$APPDATA\Package Cache\${ID}\VC_redist.x64.exe"
  WriteRegDWORD HKLM "${KEY}" "Installed" 1
  WriteRegDWORD HKLM "${KEY}" "Major" 14
  WriteRegDWORD HKLM "${KEY}" "Minor" ${MINOR}
  WriteRegDWORD HKLM "${KEY}" "Bld" ${BUILD}
  WriteRegDWORD HKLM "${KEY}" "Rbld" 0
  WriteRegStr HKLM "${KEY}" "Version" "v14.${MINOR}.${BUILD}.00"
  WriteRegStr HKLM "${UNINSTALL}\${ID}" "DisplayName" "Microsoft Visual C++ 2015-2022 Redistributable (x64) (stand-in)"
  WriteRegStr HKLM "${UNINSTALL}\${ID}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL}\${ID}" "QuietUninstallString" \
    '"$APPDATA\Package Cache\${ID}\VC_redist.x64.exe" /uninstall /quiet'
SectionEnd
