"""Environments or models below one root: all that carry our stamp go, or those that no plan names any more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hostkit import place
from hostkit.result import Problem, Result
from hostkit.state import STAMP


def remove(root: Path, what: str, check: bool, keep: Collection[Path] = (), links: bool = False) -> Result:
    """Take away what is ours, the root itself or what is in it, but ``keep``; an empty root goes too.

    ``links``: those in it are ours as well, and go with what they led to.
    """
    inside = sorted(root.iterdir()) if root.is_dir() else []
    aside = [path for path in inside if path.name.startswith((place.GONE, place.OLD))]  # an interrupted run's
    ours = [path for path in (root, *inside) if path not in aside and not place.is_link(path) and is_ours(path)]
    ours = [path for path in ours if path not in keep]
    loose = [path for path in inside if links and leads_nowhere(path, root, ours)]
    if not check:
        place.discard_folders(ours)
        for path in aside:
            place.remove_tree(path, surely=False)
        for path in loose:
            place.unlink(path)
        place.leave(root)
    gone = [str(path) for path in (*ours, *loose, *aside)]
    before = "".join(f"{path}\n" for path in gone)
    return Result(changed=bool(gone), message=f"removed {len(ours)} {what}", before=before, data={"gone": gone})


def is_ours(folder: Path) -> bool:
    """Whether the folder carries our stamp."""
    return (folder / STAMP).is_file()


def leads_nowhere(path: Path, root: Path, gone: Collection[Path]) -> bool:
    """Whether it is a link to one of those that go, or to one in this folder that somebody removed."""
    led = place.leads_to(path)
    return led is not None and (led in gone or (led.parent == root and not led.exists()))


def see_that_all_is_made(unmade: Collection[Path]) -> None:
    """Refuse to tidy up before what is planned is there: what runs may need what the plan no longer names."""
    for path in unmade:
        raise Problem(
            "LW-HOSTKIT-013",
            f"{path} is not there as planned; expected that the plan was made. Nothing was removed, for what runs may "
            "need what the plan no longer names. Run site.yml, then this again.",
        )
