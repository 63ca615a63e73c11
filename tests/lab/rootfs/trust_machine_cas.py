"""Give a root file system every certificate authority that this machine trusts and the root does not.

A site with its own authority (a registry proxy, say) has it in the machine's bundle; without it every HTTPS call
of a test host would fail. An image made so is for this machine only. Usage: ``trust_machine_cas.py ROOT``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def certificates(text: str) -> list[str]:
    """Return the base64 bodies of the certificates of a PEM bundle, white space taken out."""
    return ["".join(body.split()) for body in CERTIFICATE.findall(text)]


def pem(body: str) -> str:
    """Write one base64 body as PEM, 64 characters a line."""
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def missing(machine: str, root: str) -> list[str]:
    """Return the bodies that the machine's bundle has and the root's bundle lacks, in the machine's order."""
    known = set(certificates(root))
    return [body for body in dict.fromkeys(certificates(machine)) if body not in known]


def main(root: Path) -> int:
    """Write the missing certificates where ``update-ca-certificates`` of the root finds them."""
    machine_bundle = Path("/") / BUNDLE
    if not machine_bundle.exists():
        return 0
    root_bundle = root / BUNDLE
    bodies = missing(machine_bundle.read_text(), root_bundle.read_text() if root_bundle.exists() else "")
    folder = root / "usr/local/share/ca-certificates"
    folder.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(bodies):
        (folder / f"machine-{number}.crt").write_text(pem(body))
    print(f"certificate authorities added: {len(bodies)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
