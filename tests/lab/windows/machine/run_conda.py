"""Run the real conda on Linux for a Windows prefix: `run_conda.py DRIVE_C WORDS…`, with CONDA_SUBDIR=win-64.

conda decides by the system that it runs on where a noarch package's files go and what a start script looks like; those
few places are told that this is Windows. File addresses of an explicit list (file:///C:/…) are mapped to this machine.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lab.windows.machine.drive import Drive


class Back:
    """A stream that says C:/… where conda says the Linux path."""

    def __init__(self, stream: Any, drive_c: str) -> None:
        """`stream` is the real one."""
        self._stream, self._drive_c = stream, drive_c

    def write(self, text: str) -> int:
        """Write with the path put back."""
        return int(self._stream.write(text.replace(self._drive_c, "C:")))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def explicit(path: str, drive: Drive) -> str:
    """A copy of an explicit list with its file addresses mapped."""

    def address(match: re.Match[str]) -> str:
        return "file://" + quote(drive.linux(unquote(match[1])))

    text = re.sub(r"file:///([A-Za-z]:/[^\s#]*)", address, Path(path).read_text(encoding="utf-8"))
    copy = Path(tempfile.mkdtemp(prefix="explicit-")) / "explicit.txt"
    copy.write_text(text, encoding="utf-8")
    return str(copy)


def windows_places() -> None:
    """Where things go in a Windows prefix."""
    from conda.common import path  # type: ignore[import-not-found, unused-ignore]

    path.get_python_short_path = lambda python_version=None: "python.exe"
    path.get_python_site_packages_short_path = lambda python_version: python_version and "Lib/site-packages"
    path.get_bin_directory_short_path = lambda: "Scripts"
    from conda.base.context import Context  # type: ignore[import-not-found, unused-ignore]
    from conda.core import path_actions  # type: ignore[import-not-found, unused-ignore]

    path_actions.on_win = True
    compile_all = path_actions.compile_multiple_pyc

    def compile_here(_: str, *rest: Any) -> Any:
        return compile_all(sys.executable, *rest)

    path_actions.compile_multiple_pyc = compile_here
    # The start program of a noarch package's command is a copy of conda's own: the one that was compiled for here.
    Context.conda_prefix = property(lambda _: os.environ["LABWRIGHT_PROGRAMS"])


def main() -> int:
    """Run conda."""
    drive_c, words = sys.argv[1], sys.argv[2:]
    drive = Drive(str(Path(drive_c).parent))
    for index, word in enumerate(words[:-1]):
        if word == "--file":
            words[index + 1] = explicit(words[index + 1], drive)
    sys.argv = ["conda", *words]
    sys.stdout, sys.stderr = Back(sys.stdout, drive_c), Back(sys.stderr, drive_c)
    windows_places()
    from conda.cli import main as run  # type: ignore[import-not-found, unused-ignore]

    return int(run() or 0)


if __name__ == "__main__":
    sys.exit(main())
