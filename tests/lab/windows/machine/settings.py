"""What the Linux side of one machine is told: a file beside its Wine prefix."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "machine.json"
GPU = "nvidia-smi-recording"  # beside drive_c: the path of a recording


@dataclass(frozen=True)
class Settings:
    """All as text: `prefix` (Wine's), `folder` (of the target), `cache`, `base` (a Linux Conda with Python 3.11),
    `programs` (what was compiled), `code_page` (of text files)."""

    prefix: str
    folder: str
    cache: str
    base: str
    programs: str
    code_page: str = "cp1252"

    @property
    def drive_c(self) -> Path:
        """The folder that is drive C:."""
        return Path(self.prefix) / "drive_c"

    def write(self) -> None:
        """Leave them for the Linux side."""
        path = Path(self.folder) / NAME
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        part.replace(path)


def read(folder: Path) -> Settings:
    """The settings of a target."""
    return Settings(**json.loads((folder / NAME).read_text(encoding="utf-8")))
