"""What stands in for Windows programs: paths, command lines, variables, twins, recordings. No Wine is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.windows import machine
from lab.windows.machine import commands, in_wine, make, nvidia_smi, program, settings, twins
from lab.windows.machine.commands import Call, Refused
from lab.windows.machine.drive import Drive

RECORDED = Path(__file__).parent / "labwright/recorded"


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    (tmp_path / "drive_c/Program Files/Git").mkdir(parents=True)
    (tmp_path / "drive_c/labwright/conda").mkdir(parents=True)
    return Drive(str(tmp_path))


@pytest.fixture
def here(tmp_path: Path) -> settings.Settings:
    return settings.Settings(str(tmp_path), str(tmp_path), str(tmp_path / "cache"), "/base", "/programs")


def call(exe: str, *words: str, **variables: str) -> Call:
    return Call(8, exe, "C:\\", words, variables)


def test_a_name_is_found_whatever_its_case(drive: Drive) -> None:
    assert drive.linux(r"c:\PROGRAM files\git\new.txt") == f"{drive.c}/Program Files/Git/new.txt"
    assert drive.linux("C:/labwright/../labwright/./conda") == f"{drive.c}/labwright/conda"
    assert drive.linux(r"\\?\C:\labwright") == f"{drive.c}/labwright"


def test_a_path_goes_there_and_back(drive: Drive) -> None:
    for path in ("C:\\", r"C:\labwright\conda", r"C:\Program Files\Git\a b"):
        assert drive.windows(drive.linux(path)) == path
    assert drive.windows("/usr/bin") == "/usr/bin"


def test_nothing_leads_out_of_drive_c(drive: Drive) -> None:
    assert drive.linux(r"C:\..\..\etc\passwd") == f"{drive.c}/etc/passwd"
    for path in (r"Z:\etc", r"\\server\share"):
        with pytest.raises(FileNotFoundError):
            drive.linux(path)


def test_a_name_that_windows_forbids_is_refused_with_its_number(drive: Drive) -> None:
    with pytest.raises(OSError, match="syntax is incorrect") as caught:
        drive.linux(r"C:\labwright\a:b")
    assert vars(caught.value)["winerror"] == 123
    assert drive.linux("NUL") == "/dev/null"


def test_words_with_paths_are_mapped_and_others_stay(drive: Drive) -> None:
    assert drive.words(r"C:\labwright") == f"{drive.c}/labwright"
    assert drive.words(r"--prefix=C:\labwright") == f"--prefix={drive.c}/labwright"
    for word in ("--host", "127.0.0.1", "http://c:80/x", "a=C:\\x", "import torch"):
        assert drive.words(word) == word


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1)))
def test_a_command_line_comes_apart_as_it_was_put_together(words: list[str]) -> None:
    assert in_wine.split(subprocess.list2cmdline(words)) == words


@pytest.mark.parametrize(
    ("line", "rest"),
    [('"C:\\a b\\x.exe" /S /D=C:\\y', " /S /D=C:\\y"), ("x.exe a", " a"), ("x.exe", "")],
)
def test_the_words_after_the_first_stay_as_they_were_written(line: str, rest: str) -> None:
    assert in_wine.after_first(line) == rest


@pytest.mark.parametrize(
    ("argv", "kind", "named", "words"),
    [
        (["-c", "print(1)", "a"], "c", "print(1)", ("a",)),
        (["-I", "C:\\x\\hostkit.pyz", "pace", "f"], "file", "C:\\x\\hostkit.pyz", ("pace", "f")),
        (["-u", "-Xutf8", "-m", "labwright_serve", "worker", "-c"], "m", "labwright_serve", ("worker", "-c")),
        (["-Im", "pip", "list"], "m", "pip", ("list",)),
        ([], "stdin", "-", ()),
        (["-V"], "version", "", ()),
    ],
)
def test_pythons_command_line_is_taken_apart(argv: list[str], kind: str, named: str, words: tuple[str, ...]) -> None:
    line = program.parse(argv)
    assert (line.kind, line.program, line.words) == (kind, named, words)


@pytest.mark.parametrize(
    ("argv", "variable", "safe"),
    [
        (["-m", "x"], "", False),
        (["-m", "x"], "1", True),
        (["-P", "-m", "x"], "", True),
        (["-I", "-c", "x"], "", True),
        (["-E", "-c", "x"], "1", False),
    ],
)
def test_the_working_folder_is_looked_into_as_python_does(
    argv: list[str], variable: str, safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", variable)
    assert program.safe(program.parse(argv)) is safe
    told = [sys.executable, *argv[:-2], "-c", "import sys; print('' in sys.path)"]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(not safe)


def test_an_option_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="-Z is not known"):
        program.parse(["-Z", "x.py"])


def test_variables_of_windows_alone_stay_there(drive: Drive) -> None:
    found = {
        "SystemRoot": r"C:\windows", "Path": r"C:\windows", "USERPROFILE": r"C:\labwright", "TEMP": r"C:\labwright",
        "PYTHONPATH": r"C:\labwright\lib;C:\labwright\agents", "PIP_CONFIG_FILE": "nul", "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    assert commands.linux_variables(found, drive) == {
        "PATH": commands.LINUX_PATH, "LANG": "C.UTF-8", "HOME": f"{drive.c}/labwright",
        "TMPDIR": f"{drive.c}/labwright",
        "PYTHONPATH": f"{drive.c}/labwright/lib:{drive.c}/labwright/agents", "PIP_CONFIG_FILE": "/dev/null",
        "OMP_NUM_THREADS": "2",
    }  # fmt: skip


def test_each_program_runs_as_what_it_stands_for(drive: Drive, here: settings.Settings) -> None:
    conda = commands.command(call(r"C:\labwright\conda\Scripts\conda.exe", "install", "-p", r"C:\labwright\x"), here)
    assert conda.kind == "conda"
    assert conda.argv[-3:] == ["install", "-p", f"{drive.c}/labwright/x"]
    assert (conda.variables["CONDA_SUBDIR"], conda.variables["CONDA_ROOT"]) == ("win-64", f"{drive.c}/labwright/conda")
    pip = commands.command(call(r"C:\labwright\conda\python.exe", "-m", "pip", "list"), here)
    assert pip.argv[-4:] == [drive.c, f"{drive.c}/labwright/conda", r"C:\labwright\conda", "list"]
    python = commands.command(call(r"C:\labwright\conda\python.exe", "-c", "print(1)", TOPIC="s3cret"), here)
    assert python.kind == "windows python"
    assert "s3cret" not in json.dumps([python.argv, python.variables])
    python.close()


def test_a_program_that_nothing_stands_in_for_is_refused(drive: Drive, here: settings.Settings) -> None:
    for exe, words in ((r"C:\x\git.exe", ["clone"]), (r"C:\x\ipython.exe", []), (r"C:\x\python.exe", ["-Z"])):
        with pytest.raises(Refused):
            commands.command(call(exe, *words), here)


def test_an_environment_of_other_locks_has_no_twin(drive: Drive, here: settings.Settings) -> None:
    prefix = Path(drive.linux(r"C:\labwright\conda"))
    (prefix / twins.STAMP).write_text(json.dumps({"layers": [["conda", "a"], ["torch", "b"]], "in_progress": ""}))
    with pytest.raises(Refused, match="has no layer of a lock of env/"):
        commands.command(call(r"C:\labwright\conda\python.exe", "-m", "labwright_serve"), here)
    # hostkit never runs in a twin.
    found = commands.command(call(r"C:\labwright\conda\python.exe", "-I", r"C:\l\hostkit.pyz", "pace", "x"), here)
    assert found.kind == "windows python"
    found.close()


def test_a_twin_is_of_the_stack_that_the_prefix_is_named_after() -> None:
    by_path = {path: digest for digest, paths in twins.known().items() for path in paths}
    for stack in ("chatglm2", "current"):
        torch = by_path[twins.ENV / f"stacks/{stack}/torch-cpu-win-64.txt"]
        (lock,) = twins.siblings(["conda's", torch], Path(f"/x/{stack}-cpu-0123456789ab"))
        assert lock == twins.ENV / f"stacks/{stack}/torch-cpu-linux-64.txt"
    agents = by_path[twins.ENV / "agents/autogen-win-64.txt"]
    assert twins.siblings([agents], Path("/x/agents-0")) == [twins.ENV / "agents/autogen-linux-64.txt"]
    assert twins.siblings([torch, agents], Path("/x/agents-0")) == []


def test_every_windows_lock_has_a_sibling_to_make_a_twin_of() -> None:
    for paths in twins.known().values():
        for path in paths:
            assert path.with_name(path.name.replace("-win-64", "-linux-64")).is_file(), path


def test_nvidia_smi_says_what_was_recorded_and_nothing_else() -> None:
    xml, table, failed = (
        RECORDED / name for name in ("rtx-2080-windows.xml", "rtx-2080-super-windows.csv", "no-driver.txt")
    )
    assert nvidia_smi.answer(xml, ["-q", "-x"]) == (xml.read_text(encoding="utf-8"), 0)
    fields = "index,uuid,name,memory.total,memory.used,driver_version"
    said, status = nvidia_smi.answer(xml, [f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    assert (said, status) == (
        "0, GPU-fbd55ed4-1eec-4423-0a47-ad594b4333e3, NVIDIA GeForce RTX 2080, 8192, 862, 516.59\n",
        0,
    )
    said, status = nvidia_smi.answer(table, ["--query-gpu=memory.total,compute_cap", "--format=csv,noheader"])
    assert (said, status) == ("8192 MiB, 7.5\n", 0)
    said, status = nvidia_smi.answer(xml, ["--query-gpu=compute_cap", "--format=csv,noheader"])
    assert ('Field "compute_cap" is not a valid field' in said, status) == (True, 2)
    assert nvidia_smi.answer(failed, ["-L"]) == (failed.read_text(encoding="utf-8"), 9)
    assert nvidia_smi.answer(table, ["-q", "-x"])[1] == 2


def test_a_tool_that_is_missing_or_fails_is_told() -> None:
    with pytest.raises(LabError, match="LW-LAB-142: no-such-tool was expected and is not there"):
        make.run(["no-such-tool", "x"])
    with pytest.raises(LabError, match=r"LW-LAB-143: `sh -c .*` ended with status 3: no room"):
        make.run(["sh", "-c", "echo no room >&2; exit 3"])


def test_a_recording_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"LW-LAB-141: --gpu none: .*tesla-t4.xml"):
        machine.gpu(tmp_path, "none")


def test_a_linux_side_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drive_c/windows/system32").mkdir(parents=True)
    for name in ("reach.exe", "shim.exe"):
        (tmp_path / name).touch()
    for name in ("programs", "base"):
        monkeypatch.setattr(make, name, lambda _cache: tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(LabError, match=f"LW-LAB-140: .* target in {tmp_path} did not start"):
        machine.start(tmp_path, tmp_path)
