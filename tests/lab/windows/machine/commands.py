"""What a Windows program of the machine runs as on the Linux side: the command for each name and command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.windows.machine import program, settings, twins
from lab.windows.machine.drive import Drive
from lab.windows.machine.settings import Settings

HERE = Path(__file__).resolve().parent
# Variables of Windows that mean nothing to a Linux program, or something else.
WINDOWS_ONLY = frozenset([
    "ALLUSERSPROFILE", "APPDATA", "COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)", "COMMONPROGRAMW6432",
    "COMPUTERNAME", "COMSPEC", "DRIVERDATA", "HOME", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "LOGONSERVER",
    "NUMBER_OF_PROCESSORS", "OS", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER",
    "PROCESSOR_LEVEL", "PROCESSOR_REVISION", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMW6432",
    "PROMPT", "PSMODULEPATH", "PUBLIC", "PYTHONHOME", "SESSIONNAME", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP",
    "USERDOMAIN", "USERNAME", "USERPROFILE", "WINDIR",
])  # fmt: skip
LINUX_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    """The program cannot run here: a sentence for standard error, and the exit status."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        """`status` is the exit status."""
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Call:
    """A Windows process as it was started; paths are Windows paths."""

    pid: int
    exe: str
    folder: str
    words: Sequence[str]
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The program's name, without its folder and .exe."""
        return self.exe.rpartition("\\")[2].lower().removesuffix(".exe")


@dataclass
class Command:
    """What runs on the Linux side."""

    kind: str
    argv: list[str]
    folder: str
    variables: dict[str, str]
    descriptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Let go of what only the program needs."""
        for number in self.descriptors:
            os.close(number)


def command(call: Call, here: Settings) -> Command:
    """The command for a call; Refused where there is none."""
    known: dict[str, Callable[[Call, Settings, Drive], Command]] = {
        "python": python, "pythonw": python, "conda": conda, "pip": pip, "nvidia-smi": nvidia_smi, "git": git,
        "docker": docker, "icacls": icacls,
    }  # fmt: skip
    if call.name not in known:
        raise Refused(f"{call.name}.exe: nothing stands in for it on the Linux side")
    return known[call.name](call, here, Drive(here.prefix))


def python(call: Call, here: Settings, drive: Drive) -> Command:
    """python.exe: conda and pip as themselves, an environment's programs in its twin, the rest as Windows Python."""
    try:
        line = program.parse(call.words)
    except ValueError as error:
        raise Refused(str(error), 2) from error
    if line.kind == "m" and line.program in ("conda", "pip"):
        return {"conda": conda, "pip": pip}[line.program](_with(call, line.words), here, drive)
    prefix = Path(drive.linux(call.exe)).parent
    of_hostkit = "hostkit" in line.program
    if not of_hostkit and (prefix / twins.STAMP).is_file():
        return twin(call, here, drive, prefix, line)
    return windows_python(call, here, drive)


def _with(call: Call, words: Sequence[str]) -> Call:
    return Call(call.pid, call.exe, call.folder, words, call.variables)


def windows_python(call: Call, here: Settings, drive: Drive) -> Command:
    """What stands in for Windows Python (windows_python.py)."""
    folder = folder_of(call, drive)
    request = {
        "prefix": here.prefix, "exe": call.exe, "argv": list(call.words), "folder": drive.windows(folder),
        "pid": call.pid, "code_page": here.code_page, "environment": dict(call.variables),
    }  # fmt: skip
    number = handed_over(request)
    argv = [f"{here.base}/bin/python", "-I", "-B", str(HERE / "windows_python.py"), str(number)]
    return Command("windows python", argv, folder, linux_variables({}, drive), [number])


def handed_over(request: Mapping[str, object]) -> int:
    """A descriptor of a file in memory with the request: its variables stand in no command line."""
    number = os.memfd_create("request")
    os.write(number, json.dumps(request).encode())
    os.lseek(number, 0, os.SEEK_SET)
    os.set_inheritable(number, True)
    return number


def folder_of(call: Call, drive: Drive) -> str:
    """The working folder; drive C: itself where it is on no drive of the machine."""
    try:
        found = drive.linux(call.folder)
    except OSError:
        return drive.c
    return found if Path(found).is_dir() else drive.c


def linux_variables(found: Mapping[str, str], drive: Drive) -> dict[str, str]:
    """A Windows process's variables for a Linux one: paths mapped, what only Windows knows left out."""
    result = {"PATH": LINUX_PATH, "LANG": "C.UTF-8"}
    for name, value in found.items():
        if name.upper() not in WINDOWS_ONLY:
            result[name] = mapped(value, drive)
    upper = {name.upper(): value for name, value in found.items()}
    for name, of in (("HOME", "HOME"), ("HOME", "USERPROFILE"), ("TMPDIR", "TEMP")):
        if name not in result and drive.holds(upper.get(of, "")):
            result[name] = drive.linux(upper[of])
    return result


def mapped(value: str, drive: Drive) -> str:
    """A variable's value: one path, or several with semicolons between them."""
    if value.lower() == "nul":
        return "/dev/null"
    parts = value.split(";")
    if all(drive.holds(part) for part in parts if part) and value:
        return ":".join(drive.linux(part) for part in parts if part)
    return value


def conda(call: Call, here: Settings, drive: Drive) -> Command:
    """The real conda, told that the platform is win-64 (run_conda.py)."""
    variables = linux_variables(call.variables, drive)
    owner = Path(drive.linux(call.exe)).parent
    root = owner.parent if owner.name.lower() == "scripts" else owner
    variables |= {"CONDA_SUBDIR": "win-64", "CONDA_ROOT": str(root), "LABWRIGHT_PROGRAMS": here.programs}
    argv = [f"{here.base}/bin/python", "-I", "-B", str(HERE / "run_conda.py"), drive.c, *map(drive.words, call.words)]
    return Command("conda", argv, folder_of(call, drive), variables)


def pip(call: Call, here: Settings, drive: Drive) -> Command:
    """The real pip, told that the system is Windows and where the prefix is (run_pip.py); then the twin's own layer."""
    owner = Path(drive.linux(call.exe)).parent
    prefix = owner.parent if owner.name.lower() == "scripts" else owner
    windows = drive.windows(str(prefix))
    argv = [f"{here.base}/bin/python", "-I", "-B", str(HERE / "run_pip.py"), drive.c, str(prefix), windows]
    if call.words[:1] == ["install"]:
        for index, word in enumerate(call.words[:-1]):
            if word in ("-r", "--requirement"):
                twins.begin(Path(drive.linux(call.words[index + 1])), prefix, here)
    variables = linux_variables(call.variables, drive)
    return Command("pip", [*argv, *map(drive.words, call.words)], folder_of(call, drive), variables)


def twin(call: Call, here: Settings, drive: Drive, prefix: Path, line: program.Line) -> Command:
    """An environment's program in the Linux twin of that environment."""
    try:
        interpreter = twins.ready(prefix, here)
    except twins.NoTwin as error:
        raise Refused(f"python.exe: {error}") from error
    variables = linux_variables(call.variables, drive)
    if variables.get("PYTHONUTF8") != "1" and "Xutf8" not in line.values:
        variables.setdefault("PYTHONIOENCODING", here.code_page)
    words = [drive.words(word) for word in line.words]
    text = drive.words(line.program) if line.kind == "file" else line.program
    request = {"kind": line.kind, "program": text, "words": words, "flags": line.flags, "prefix": str(prefix),
               "exe": call.exe}  # fmt: skip
    number = handed_over(request)
    flags = [f"-{flag}" for flag in line.flags] + [f"-{value[0]}{value[1:]}" for value in line.values]
    argv = [str(interpreter), *flags, str(HERE / "twin.py"), str(number)]
    return Command("twin", argv, folder_of(call, drive), variables, [number])


def nvidia_smi(call: Call, here: Settings, drive: Drive) -> Command:
    """nvidia-smi.exe: what a real one said on a real machine."""
    recording = (Path(here.prefix) / settings.GPU).read_text(encoding="utf-8").strip()
    argv = [sys.executable, "-I", str(HERE / "nvidia_smi.py"), recording, *call.words]
    return Command("nvidia-smi", argv, drive.c, {"PATH": LINUX_PATH, "LANG": "C.UTF-8"})


def git(call: Call, here: Settings, drive: Drive) -> Command:
    """git.exe of the stand-in installer: its version, and `git config` by this machine's git on the machine's files."""
    if call.words[:1] != ["config"]:
        return says(call, ["--version"], "git version 2.51.0.windows.1", drive)
    folder = Path(drive.linux(call.exe)).parents[1] / "etc"
    folder.mkdir(exist_ok=True)
    variables = linux_variables(call.variables, drive) | {"GIT_CONFIG_SYSTEM": str(folder / "gitconfig")}
    return Command("git", ["git", *map(drive.words, call.words)], drive.c, variables)


def docker(call: Call, here: Settings, drive: Drive) -> Command:
    """docker.exe of the stand-in installer: its version, and nothing else."""
    return says(call, ["--version"], "Docker version 28.5.1, build e180ab8", drive)


def icacls(call: Call, here: Settings, drive: Drive) -> Command:
    """icacls.exe, which Wine has not got (icacls.py)."""
    argv = [sys.executable, "-I", str(HERE / "icacls.py"), f"{here.folder}/rights.json", drive.c, *call.words]
    return Command("icacls", argv, drive.c, {"PATH": LINUX_PATH, "LANG": "C.UTF-8"})


def says(call: Call, words: Sequence[str], sentence: str, drive: Drive) -> Command:
    """A program that answers one question."""
    if list(call.words) != list(words):
        raise Refused(f"{call.name}.exe: what stands in for it knows {' '.join(words)} only")
    return Command(call.name, ["/usr/bin/printf", "%s\\r\\n", sentence], drive.c, {"PATH": LINUX_PATH})
