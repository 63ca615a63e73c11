; What the stand-in installers share. Each is given PROGRAMS (the folder of shim.exe) and VERSION by make.py.
Unicode true
Target amd64-unicode
SetCompressor lzma
SetDateSave off
RequestExecutionLevel admin
SilentInstall silent
SilentUnInstall silent
!include LogicLib.nsh
!include FileFunc.nsh
!include WordFunc.nsh
!include x64.nsh
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall"
!define VARIABLES "SYSTEM\CurrentControlSet\Control\Session Manager\Environment"

; ${Has} "/quiet" leaves 1 in $R8 where that switch is among the words of the command line ($R9), else 0.
!macro Has SWITCH
  StrCpy $R8 0
  ${WordFind} " $R9 " " ${SWITCH} " "E+1{" $R7
  IfErrors +2
  StrCpy $R8 1
  ClearErrors
!macroend
!define Has "!insertmacro Has"

!macro AddToPath FOLDER
  ReadRegStr $R6 HKLM "${VARIABLES}" "Path"
  ${WordAdd} "$R6" ";" "+${FOLDER}" $R6
  WriteRegExpandStr HKLM "${VARIABLES}" "Path" "$R6"
!macroend

!macro RemoveFromPath FOLDER
  ReadRegStr $R6 HKLM "${VARIABLES}" "Path"
  ${WordAdd} "$R6" ";" "-${FOLDER}" $R6
  WriteRegExpandStr HKLM "${VARIABLES}" "Path" "$R6"
!macroend

!macro Fail STATUS SENTENCE
  System::Call 'kernel32::GetStdHandle(i -12) p .r9'
  FileWrite $9 "${SENTENCE}$\r$\n"
  SetErrorLevel ${STATUS}
  Quit
!macroend
