"""systemd as the backend of the verb ``service``: where a unit's files are, what systemd says, what it is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ETC = Path("/etc/systemd/system")
# Where a person's hand, `systemctl edit`, `set-property` and `mask` leave what outranks or adds to a unit of ours.
OTHERS = (
    Path("/etc/systemd/system.control"),
    Path("/run/systemd/system.control"),
    Path("/run/systemd/system"),
)
PROPERTIES = ("ActiveState", "SubState", "Result", "UnitFileState", "NeedDaemonReload", "NRestarts")


def unit(name: str) -> Path:
    """The service's own file."""
    return ETC / f"{name}.service"


def farewell(name: str) -> Path:
    """The unit that says aloud that the service was given up; no `labwright-*`, for it is no service of the lab."""
    return ETC / f"gave-up-{name}.service"


def others(name: str) -> list[Path]:
    """The other services of the lab on this host."""
    return [path for path in ETC.glob("gave-up-*.service") if path != farewell(name)]


def by_hand(name: str) -> list[Path]:
    """What others put beside our unit: drop-ins, and units and masks that outrank it."""
    found = [folder / f"{name}.service" for folder in OTHERS]
    found += [folder / f"{name}.service.d" for folder in (ETC, *OTHERS)]
    return [path for path in found if path.is_symlink() or path.exists()]


def links(name: str) -> list[Path]:
    """What starts it at boot; also where the unit itself is gone."""
    return [link for folder in sorted(ETC.glob("*.wants")) if (link := folder / f"{name}.service").is_symlink()]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; also the folder that `systemctl set-property` made for it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if path.parent in OTHERS[:2] and not any(path.parent.iterdir()):
        path.parent.rmdir()


def control(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl; the caller judges."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)


def state(name: str) -> dict[str, str]:
    """What systemd says of it."""
    shown = control("show", "-p", ",".join(PROPERTIES), f"{name}.service").stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def last_words(name: str) -> str:
    """The end of its log."""
    argv = ["journalctl", "--namespace=labwright", "-u", f"{name}.service", "-n", "12", "-o", "cat", "--no-pager"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return " | ".join(line[:400] for line in said.splitlines())
