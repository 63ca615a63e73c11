"""What stands in for Windows programs behaves as they do: streams, exit status, files, installers, conda and pip."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from windows_lab import PYTHON, ROOT, Machine, wait_until

from lab.windows import prerequisites
from lab.windows.machine import make


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A fresh machine, with the stand-in Miniforge in C:\\labwright\\conda."""
    one = Machine("t-programs", 15883, 15884)
    one.wipe()
    one.up(gpu="rtx-2080-windows.xml")
    folder, files = make.installers(make.cache_folder())
    for name, file in files.items():
        shutil.copyfile(folder / file, one.file(rf"C:\{name}.exe"))
    installed = one.run(r"C:\miniforge3.exe /InstallationType=AllUsers /RegisterPython=0 /S /D=C:\labwright\conda")
    assert installed.status == 0, installed
    yield one
    one.wipe()


NSSM = r"C:\labwright\lib\nssm.exe"


def test_words_folder_variables_and_exit_status_arrive(machine: Machine) -> None:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['topic']])); sys.exit(7)"
    done = machine.python(code, "two words", 'a "quote"', "back\\", TOPIC="näher 中")
    assert done.status == 7, done
    assert json.loads(done.out) == [["two words", 'a "quote"', "back\\"], "C:\\", "näher 中"]


def test_megabytes_go_through_unchanged(machine: Machine) -> None:
    data = os.urandom(6_000_000) + b"\r\n\x1a\x00"
    done = machine.python("import sys; b = sys.stdin.buffer.read(); sys.stdout.buffer.write(b)", stdin=data)
    assert hashlib.sha256(done.out).digest() == hashlib.sha256(data).digest()


def test_it_is_windows_to_what_runs_in_it(machine: Machine) -> None:
    code = r"""
import os, pathlib, platform, sys, tempfile
try:
    import fcntl
except ImportError:
    print("no fcntl")
print(sys.platform, os.name, platform.system(), hasattr(os, "getuid"), sys.executable)
print(type(pathlib.Path("x")).__name__, tempfile.gettempdir(), os.path.join("a", "b"))
"""
    said = machine.python(code).out.decode().splitlines()
    assert said == [
        "no fcntl",
        rf"win32 nt Windows False {PYTHON}",
        r"WindowsPath C:\windows\temp a\b",
    ]


@pytest.mark.trap("line-ends", "code-page")
def test_text_is_of_the_code_page_with_crlf_unless_told_otherwise(machine: Machine) -> None:
    code = "from pathlib import Path; Path(r'C:\\t.txt').write_text('ä\\n'); print(Path(r'C:\\t.txt').read_bytes())"
    assert machine.python(code).out == rb"b'\xe4\r\n'" + b"\r\n"
    assert machine.python(code, PYTHONUTF8="1").out == rb"b'\xc3\xa4\r\n'" + b"\r\n"
    done = machine.python("print('中')")
    assert (done.status, b"UnicodeEncodeError" in done.err) == (1, True)


@pytest.mark.trap("file-in-use", "program-moves")
def test_what_is_open_or_runs_cannot_be_removed(machine: Machine) -> None:
    code = r"""
import os, sys
one = open(r"C:\open.txt", "w")
def write(path):
    open(path, "r+b").close()
for act, *paths in (
    (os.unlink, one.name), (os.rename, one.name, one.name + "x"), (os.unlink, sys.executable), (write, sys.executable),
    (os.rename, r"C:\labwright", r"C:\elsewhere"), (os.rename, r"C:\elsewhere", r"C:\labwright"),
):
    try:
        act(*paths)
        print("done")
    except PermissionError as error:
        print(error.winerror)
one.close()
os.unlink(one.name)
print(os.path.exists(one.name))
"""
    assert machine.python(code).out.split() == [b"32", b"32", b"5", b"32", b"done", b"done", b"False"]


@pytest.mark.trap("program-moves", "read-only")
def test_hostkit_removes_nothing_of_what_runs_and_then_everything(machine: Machine) -> None:
    place = machine.file(r"C:\removal\one")
    (place / "Lib").mkdir(parents=True)
    (place / "Lib" / "read-only.txt").touch(mode=0o444)
    (place / ".labwright.json").write_text("{}")  # ours
    shutil.copyfile(machine.file(PYTHON), place / "Lib" / "python.exe")
    with zipfile.ZipFile(machine.file(r"C:\hostkit.pyz"), "w") as pack:
        pack.writestr("__main__.py", "import sys; from hostkit.__main__ import main; sys.exit(main(sys.argv[1:]))")
        for file in (ROOT / "plugins/module_utils/hostkit").glob("*.py"):
            pack.write(file, f"hostkit/{file.name}")
    machine.file(r"C:\asked.json").write_text(json.dumps({"path": r"C:\removal\one", "state": "absent"}))
    line = rf"{PYTHON} -I C:\hostkit.pyz model C:\asked.json"
    whole = sorted(place.rglob("*"))
    program = machine.start(r'C:\removal\one\Lib\python.exe -c "print(1, flush=True); input()"')
    assert program.stdout is not None
    assert program.stdout.readline().strip() == b"1"
    done = machine.run(line)
    said = json.loads(done.out)
    assert (done.status, said["code"]) == (1, "LW-HOSTKIT-011")
    assert r"C:\removal\one cannot be replaced or removed: The process cannot access the file" in said["message"]
    assert r"(C:\removal\one\Lib\python.exe)" in said["message"]
    assert sorted(place.rglob("*")) == whole
    program.communicate(b"\n", timeout=60)
    assert json.loads(machine.run(line).out)["message"] == "removed 1 models"
    assert list(place.parent.iterdir()) == []


@pytest.mark.trap("junction")
def test_a_junction_is_no_link_and_is_never_replaced(machine: Machine) -> None:
    code = r"""
import os, shutil, subprocess
from pathlib import Path
real, link, part = (Path(r"C:\j") / name for name in ("real", "link", "part"))
real.mkdir(parents=True)
part.mkdir()
(real / "x").write_text("x")
print(subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(real)], capture_output=True).returncode)
print(link.is_symlink(), os.readlink(link), (link / "x").exists(), link.resolve())
for act, other in ((part.replace, link), (link.symlink_to, real)):
    try:
        act(other)
    except OSError as error:
        print(error.winerror)
os.rmdir(link)
print((real / "x").exists())
shutil.rmtree(real.parent)
"""
    said = machine.python(code).out.decode().splitlines()
    assert said == ["0", r"False \\?\C:\j\real True C:\j\real", "5", "1314", "True"]


@pytest.mark.trap("long-path")
def test_long_paths_want_the_switch_of_the_registry(machine: Machine) -> None:
    code = r"""
import os, sys, winreg
key = winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem")
winreg.SetValueEx(key, "LongPathsEnabled", 0, winreg.REG_DWORD, int(sys.argv[1]))
try:
    os.makedirs("C:\\long" + "\\long" * 60)
except OSError as error:
    print(error.winerror)
"""
    assert machine.python(code, "0").out.strip() == b"206"
    assert machine.python(code, "1").out.strip() == b""


def test_programs_are_found_and_run_with_the_exact_words(machine: Machine) -> None:
    code = r"""
import subprocess, sys
inner = "import os, sys; print(ascii(sys.argv[1:] + [os.environ['A']]))"
env = {"A": "ä 1", "SYSTEMROOT": r"C:\windows"}
done = subprocess.run([sys.executable, "-c", inner, "a b", '"'], env=env, capture_output=True, text=True)
print(done.returncode, done.stdout.strip())
print(subprocess.run(["cmd", "/c", "exit 5"]).returncode)
for name in ("no-such-program", r"C:\t.txt"):
    try:
        subprocess.run([name])
    except OSError as error:
        print(type(error).__name__)
"""
    said = machine.python(code).out.decode().splitlines()
    assert said == [r"""0 ['a b', '"', '\xe4 1']""", "5", "FileNotFoundError", "OSError"]


def test_what_runs_for_a_terminated_process_ends_with_it(machine: Machine) -> None:
    process = machine.start(f"{PYTHON} -c \"import time; open(r'C:\\up', 'w').close(); time.sleep(600)\"")
    wait_until(machine.file(r"C:\up").exists)
    process.kill()
    process.wait()
    wait_until(lambda: machine.journal()[-1].get("ended") == "with its Windows process")


def test_a_program_that_is_killed_ends_and_lets_go_of_what_it_holds(machine: Machine) -> None:
    """Its output ends only when it has: reading to the end would wait for ever."""
    code = r"""
import subprocess, sys
options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
process = subprocess.Popen(["cmd"], **options)
print(len(process.stdout.readline()) > 0)
process.kill()
print(len(process.stdout.read()) >= 0, process.wait())
try:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], capture_output=True, timeout=2)
except subprocess.TimeoutExpired as error:
    print(error.timeout)
"""
    assert machine.python(code).out.split() == [b"True", b"True", b"1", b"2"]


def test_a_program_ends_before_one_that_it_started_and_left(machine: Machine) -> None:
    last = "import os, time\nwhile not os.path.exists('C:/go'): time.sleep(0.1)\nos.unlink('C:/go')"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {last!r}]); print('left')"
    assert machine.python(code).out.strip() == b"left"
    go = machine.file(r"C:\go")
    go.touch()
    wait_until(lambda: not go.exists())


def test_nobody_without_the_token_is_served(machine: Machine) -> None:
    ini = machine.file(r"C:\windows\labwright-machine.ini")
    text = ini.read_text(encoding="ascii")
    ini.write_text(re.sub("token=.*", "token=another", text), encoding="ascii")
    try:
        done = machine.python("print('served')")
        assert (done.status, done.out) == (250, b"")
        assert machine.journal()[-1] == {
            "at": machine.journal()[-1]["at"],
            "refused": "the token is not this machine's",
        }
    finally:
        ini.write_text(text, encoding="ascii")


@pytest.fixture(scope="module")
def nssm(machine: Machine) -> str:
    place = machine.file(r"C:\labwright\lib")
    place.mkdir(exist_ok=True)
    shutil.copyfile(prerequisites.nssm(make.cache_folder() / "windows"), place / "nssm.exe")
    return NSSM


def test_nssm_stops_it_with_ctrl_c(machine: Machine, nssm: str) -> None:
    machine.file(r"C:\svc.py").write_text(
        "import time\nprint('up', flush=True)\ntry:\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print('asked to end', flush=True)\n"
    )
    for words in (
        f"install toy {PYTHON} C:\\svc.py",
        "set toy AppStdout C:\\svc.log",
        "set toy AppEnvironmentExtra PYTHONUTF8=1",
        "set toy AppStopMethodConsole 20000",  # a second and a half otherwise, and then it is killed
    ):
        assert machine.run(f"{nssm} {words}").status == 0, words
    started = machine.run(f"{nssm} start toy")
    assert started.status == 0 or b"SERVICE_START_PENDING" in started.err  # what it says where a start takes its time
    log = machine.file(r"C:\svc.log")
    wait_until(lambda: log.exists() and log.read_text().split() == ["up"])
    assert machine.run(f"{nssm} stop toy").status == 0
    assert log.read_text().split() == ["up", "asked", "to", "end"]
    assert machine.run(f"{nssm} remove toy confirm").status == 0


def test_nvidia_smi_answers_as_the_recording(machine: Machine) -> None:
    done = machine.run("nvidia-smi.exe --query-gpu=name,driver_version --format=csv,noheader")
    assert (done.status, done.out) == (0, b"NVIDIA GeForce RTX 2080, 516.59\r\n")


UNINSTALL = r"Software\Microsoft\Windows\CurrentVersion\Uninstall"


@pytest.mark.trap("nsis-quotes", "conda-path")
@pytest.mark.parametrize(
    ("line", "status", "folder"),
    [
        (r"C:\miniforge3.exe /InstallationType=AllUsers /S /D=C:\mf one", 0, r"C:\mf one"),
        (r'C:\miniforge3.exe /InstallationType=AllUsers /S "/D=C:\mf two"', 0, r"C:\ProgramData\Miniforge3"),
        (r"C:\miniforge3.exe /InstallationType=AllUsers /S /D=C:\labwright", 2, ""),
        (r"C:\miniforge3.exe /InstallationType=AllUsers /D=C:\mf three", 1, ""),
    ],
)
def test_miniforges_traps(machine: Machine, line: str, status: int, folder: str) -> None:
    assert machine.run(line).status == status
    for place in (r"C:\mf one", r"C:\mf two", r"C:\mf three", r"C:\ProgramData\Miniforge3"):
        assert machine.file(place).exists() == (place == folder), place
    if folder:
        assert machine.key(rf"{UNINSTALL}\Miniforge3")["installlocation"] == folder
        assert machine.run(f'"{folder}\\Uninstall-Miniforge3.exe" /S').status == 0
        wait_until(lambda: not machine.file(folder).exists())
        wait_until(lambda: machine.key(rf"{UNINSTALL}\Miniforge3") == {})


@pytest.mark.trap("installer-asks")
def test_gits_installer(machine: Machine) -> None:
    line = r'C:\git-for-windows.exe /VERYSILENT /SUPPRESSMSGBOXES /NORESTART /NOCANCEL /SP- /COMPONENTS="gitlfs,assoc"'
    assert machine.run(r"C:\git-for-windows.exe /NORESTART").status == 2
    assert machine.run(line).status == 0
    assert machine.key(r"Software\GitForWindows")["currentversion"] == str(
        make.catalogue()["git-for-windows"]["version"]
    )
    assert machine.key(rf"{UNINSTALL}\Git_is1")["inno setup: selected components"] == "gitlfs,assoc"
    assert machine.run(r'"C:\Program Files\Git\cmd\git.exe" --version').out == b"git version 2.51.0.windows.1\r\n"
    path = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
    assert machine.key(path)["path"].endswith(r";C:\Program Files\Git\cmd")
    assert machine.run(r'"C:\Program Files\Git\unins000.exe" /VERYSILENT').status == 0
    wait_until(
        lambda: machine.key(r"Software\GitForWindows") == {} and not machine.file(r"C:\Program Files\Git").exists()
    )
    assert not machine.key(path)["path"].endswith("cmd")


@pytest.mark.trap("installer-asks")
def test_the_runtimes_installer(machine: Machine) -> None:
    key = r"SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes\X64"
    line = r"C:\vc-redist-2015-2022-x64.exe"
    assert machine.run(f"{line} /install").status == 1602 % 256
    assert machine.run(f"{line} /install /quiet /norestart").status == 0
    assert machine.key(key)["version"] == "v14.44.35211.00"
    assert machine.run(f"{line} /uninstall /quiet").status == 0
    assert machine.key(key) == {}


@pytest.mark.trap("installer-asks", "docker-licence")
def test_docker_desktops_installer(machine: Machine) -> None:
    key, line = r"SOFTWARE\Docker Inc.\Docker\1.0", r"C:\docker-desktop.exe"
    assert machine.run(f"{line} install").status == 1
    assert machine.run(f"{line} install --quiet --accept-license --backend=wsl-2").status == 0
    assert machine.key(key)["standinswitches"] == "install --quiet --accept-license --backend=wsl-2"
    place = r"C:\Program Files\Docker\Docker"
    assert machine.run(f'"{place}\\Docker Desktop Installer.exe" uninstall --quiet').status == 0
    wait_until(lambda: machine.key(key) == {} and not machine.file(r"C:\Program Files\Docker").exists())


@pytest.fixture(scope="module")
def environment(machine: Machine) -> str:
    """A prefix made by the real conda from the stand-in package of Python, as hostkit does it."""
    part = make.folder(make.cache_folder())
    store, prefix = machine.file(r"C:\store"), r"C:\labwright\envs\toy"
    store.mkdir()
    lines = ["@EXPLICIT"]
    for path in json.loads((part / "windows.json").read_text(encoding="utf-8"))["conda"]["environment"]:
        shutil.copyfile(part / path, store / Path(path).name)
        lines.append(f"file:///C:/store/{Path(path).name}")
    (store / "explicit.txt").write_text("\n".join(lines) + "\n")
    history = machine.file(prefix) / "conda-meta/history"
    history.parent.mkdir(parents=True)
    history.touch()
    line = rf"C:\labwright\conda\Scripts\conda.exe install -y -q --offline -p {prefix} --file C:\store\explicit.txt"
    done = machine.run(line, CONDA_PKGS_DIRS=rf"{prefix}\.pkgs")
    assert done.status == 0, done
    return prefix


def test_conda_makes_a_prefix_for_windows(machine: Machine, environment: str) -> None:
    place = machine.file(environment)
    assert (place / "Lib/site-packages/pip/__init__.py").is_file()
    assert (place / "Scripts/pip.exe").is_file()
    assert (place / "python.exe").is_file()
    assert not (place / "bin").exists()
    names = sorted(path.name.split("-")[0] for path in (place / "conda-meta").glob("*.json"))
    assert names == ["packaging", "pip", "python", "setuptools", "wheel"]


def wheel(folder: Path, name: str, tag: str, needs: str = "") -> str:
    """A wheel with one module and one command; its sha256."""
    stem = f"{name}-1.0"
    path = folder / f"{stem}-{tag}.whl"
    files = {
        f"{name}.py": "def main():\n    print('ran', __file__)\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    rows = "".join(f"{one},,\n" for one in [*files, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for one, text in {**files, f"{stem}.dist-info/RECORD": rows}.items():
            archive.writestr(one, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pip_takes_wheels_for_windows_by_their_hashes(machine: Machine, environment: str) -> None:
    store = machine.file(r"C:\wheels")
    store.mkdir()
    wheel(store, "toy", "cp311-cp311-manylinux_2_17_x86_64")
    right = wheel(store, "toy", "cp311-cp311-win_amd64", 'Requires-Dist: lost ; sys_platform == "linux"\n')
    lock = machine.file(r"C:\lock.txt")
    line = (
        rf"{environment}\python.exe -m pip install -q --require-hashes --no-index --find-links C:\wheels -r C:\lock.txt"
    )
    lock.write_text(f"toy==1.0 --hash=sha256:{'0' * 64}\n")
    wrong = machine.run(line)
    assert (wrong.status, b"DO NOT MATCH THE HASHES" in wrong.err) == (1, True), wrong
    lock.write_text(f"toy==1.0 --hash=sha256:{right}\n")
    done = machine.run(line)
    assert done.status == 0, done
    assert (machine.file(environment) / "Lib/site-packages/toy.py").is_file()
    assert machine.run(rf"{environment}\python.exe -m pip check").status == 0
    assert (machine.file(environment) / "Scripts/toy.exe").read_bytes()[:2] == b"MZ"
    ran = machine.run(rf"{environment}\Scripts\toy.exe")
    assert (ran.status, re.fullmatch(rb"ran .*/Lib/site-packages/toy\.py\r\n", ran.out) is not None) == (0, True), ran
