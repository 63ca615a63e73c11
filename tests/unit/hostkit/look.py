"""Look at a folder, to say that nothing in it was changed; put a Python package into one."""

from __future__ import annotations

from pathlib import Path


def look(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content (of a link: where it leads) of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[path.relative_to(folder).as_posix()] = (path.lstat().st_mode, content_of(path))
    return found


def content_of(path: Path) -> bytes:
    if path.is_symlink():
        return str(path.readlink()).encode()
    return path.read_bytes() if path.is_file() else b""


def package(prefix: Path, name: str, site: str = "lib/python3.11/site-packages") -> Path:
    """What pip leaves of a package (``name-version``) for others to see."""
    info = prefix / site / f"{name}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").touch()
    return info
