"""Who may read and write a file or folder on Windows, said as Linux says it: by a mode, and the account that owns it.

SYSTEM and Administrators may do all; everybody may read where the mode lets others read; a service's own account may
read what is for it, and write where it shall. Accounts are named by their SIDs: their names are translated there.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hostkit.result import Problem

SYSTEM, ADMINISTRATORS, USERS = "S-1-5-18", "S-1-5-32-544", "S-1-5-32-545"
SHORT = {"SY": SYSTEM, "BA": ADMINISTRATORS, "BU": USERS}  # as Windows writes them in a descriptor
# What icacls calls a right, and how a descriptor says it.
FULL, READ, MODIFY = ("F", "FA"), ("RX", "0x1200a9"), ("M", "0x1301bf")
SERVICE = "NT SERVICE\\"


def sid(account: str) -> str:
    """The SID of a service's virtual account: Windows makes it from the service's name, so it is known before."""
    name = account[len(SERVICE) :] if account.upper().startswith(SERVICE) else account
    words = struct.unpack("<5I", hashlib.sha1(name.upper().encode("utf-16-le")).digest())  # noqa: S324 (Windows' rule)
    return "S-1-5-80-" + "-".join(str(word) for word in words)


def wanted(mode: int, owner: str = "", writes: bool = False) -> dict[str, tuple[str, str]]:
    """Each SID with its right."""
    found = {SYSTEM: FULL, ADMINISTRATORS: FULL}
    if mode & 0o004:
        found[USERS] = READ
    if owner:
        found[sid(owner)] = MODIFY if writes else READ
    return found


def fits(path: Path, rights: dict[str, tuple[str, str]]) -> bool:
    """Whether exactly these rights are set on ``path``, inherited from nowhere."""
    flags = "OICI" if path.is_dir() else ""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "acl"
        told(path, "/save", str(saved))
        if not saved.is_file():  # Wine's icacls does nothing and says that all is well
            return True
        text = saved.read_bytes().decode("utf-16-le", "replace")
    head, _, entries = text.partition("(")
    found = {
        (kind, SHORT.get(who, who), flag, right.lower())
        for kind, flag, right, who in re.findall(r"\(([^;]*);([^;]*);([^;]*);[^;]*;[^;]*;([^;)]*)\)", f"({entries}")
    }
    return "P" in head.rsplit("D:", 1)[-1] and found == {
        ("A", who, flags, right.lower()) for who, (_name, right) in rights.items()
    }


def grant(path: Path, rights: dict[str, tuple[str, str]]) -> None:
    """Set exactly these rights."""
    flags = "(OI)(CI)" if path.is_dir() else ""
    told(path, "/reset")
    told(path, "/inheritance:r", "/grant:r", *(f"*{who}:{flags}({name})" for who, (name, _right) in rights.items()))


def told(path: Path, *words: str) -> None:
    """Run icacls."""
    argv = ["icacls.exe", str(path), *words]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        said: Any = (done.stderr or done.stdout).strip() or done.returncode
        raise Problem("LW-TREE-002", f"`icacls {path} {words[0]}` was refused: {said}. Expected an NTFS disk.")
