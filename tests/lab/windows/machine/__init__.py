"""What stands in for Windows programs on a target: python.exe, conda.exe, nvidia-smi.exe, and the Linux side of them.

`start` before Wine boots, `stop` after it ended; `gpu` at any time. See README.md in the folder above.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.windows.machine import make, settings

__all__ = ["gpu", "start", "stop"]
HERE = Path(__file__).resolve().parent
WAIT_S = 30
RECORDED = HERE.parents[2] / "unit/labwright/recorded"


def start(folder: Path, prefix: Path, *, recording: str | Path | None = None, code_page: str = "cp1252") -> int:
    """Start the Linux side of a target and return its process id; nothing happens where it runs.

    `folder` is the target's own, `prefix` Wine's; `recording` is of nvidia-smi (see `gpu`); `code_page` is that of the
    machine's text files. Raises LabError.
    """
    if pid := running(folder):
        return pid
    cache = make.cache_folder()
    made = make.programs(cache)
    here = settings.Settings(
        str(prefix.resolve()), str(folder.resolve()), str(cache), str(make.base(cache)), str(made), code_page
    )
    here.write()
    shutil.copyfile(made / "reach.exe", here.drive_c / "windows/labwright-reach.exe")
    shutil.copyfile(made / "shim.exe", here.drive_c / "windows/system32/icacls.exe")
    gpu(prefix, recording)
    with (folder / "machine.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py"), str(folder.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit and process.poll() is None:
        if running(folder) == process.pid:
            return process.pid
        time.sleep(0.05)
    raise LabError(
        "LW-LAB-140",
        f"the Linux side of the Windows target in {folder} did not start; its last words stand in {folder}/machine.log",
    )


def gpu(prefix: Path, recording: str | Path | None) -> None:
    """Lay nvidia-smi.exe down, which answers as a recording has it (a path, or a name of RECORDED), or take it away."""
    program = prefix / "drive_c/windows/system32/nvidia-smi.exe"
    if not recording:
        program.unlink(missing_ok=True)
        return
    path = Path(recording) if Path(recording).is_file() else RECORDED / recording
    if not path.is_file():
        names = sorted(one.name for one in RECORDED.glob("*.*") if one.suffix in (".xml", ".csv", ".txt"))
        raise LabError(
            "LW-LAB-141", f"--gpu {recording}: there is no such recording; expected a file, or one of {names}"
        )
    (prefix / settings.GPU).write_text(f"{path.resolve()}\n", encoding="utf-8")
    shutil.copyfile(make.programs(make.cache_folder()) / "shim.exe", program)


def running(folder: Path) -> int:
    """The process id of a target's Linux side; 0 where none runs."""
    try:
        pid = int((folder / "machine.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if os.fsencode(HERE / "serve.py") in words and os.fsencode(folder.resolve()) in words else 0


def stop(folder: Path) -> None:
    """End the Linux side and whatever it runs."""
    pid = running(folder)
    if pid:
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + WAIT_S
        while running(folder) and time.monotonic() < limit:
            time.sleep(0.05)
        if running(folder):
            os.kill(pid, signal.SIGKILL)
    (folder / "machine.pid").unlink(missing_ok=True)
