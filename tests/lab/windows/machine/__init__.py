"""What stands in for Windows programs on a target: python.exe, conda.exe, nvidia-smi.exe, and the Linux side of them.

`start` before Wine boots, `stop` after it ended; `gpu` before a start. See README.md in the folder above.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from lab.errors import LabError
from lab.windows.machine import make, settings

__all__ = ["gpu", "start", "stop"]
HERE = Path(__file__).resolve().parent
WAIT_S = 30


def start(folder: Path, prefix: Path, *, recording: Path | None = None, code_page: str = "cp1252") -> int:
    """Start the Linux side of a target and return its process id; nothing happens where it runs.

    `folder` is the target's own, `prefix` Wine's; `recording` is of nvidia-smi. Raises LabError.
    """
    if pid := running(folder):
        return pid
    cache = make.cache_folder()
    here = settings.Settings(
        str(prefix.resolve()), str(folder.resolve()), str(cache), str(make.base(cache)), str(make.programs(cache)),
        code_page=code_page,
    )  # fmt: skip
    shutil.copyfile(make.programs(cache) / "reach.exe", here.drive_c / "windows/labwright-reach.exe")
    gpu(here, recording)
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
        "LW-LAB-060",
        f"the Linux side of the Windows target in {folder} did not start; its last words stand in {folder}/machine.log",
    )


def gpu(here: settings.Settings, recording: Path | None) -> None:
    """Lay nvidia-smi.exe down, which answers as the recording has it, or take it away."""
    program = here.drive_c / "windows/system32/nvidia-smi.exe"
    replace(here, gpu=str(recording.resolve()) if recording else "").write()
    if recording:
        shutil.copyfile(Path(here.programs) / "shim.exe", program)
    else:
        program.unlink(missing_ok=True)


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
