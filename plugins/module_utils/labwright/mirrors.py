"""`lab_mirrors` resolved: a profile of the catalogue, a site's base address, and the single keys that go before it."""

from __future__ import annotations

from collections.abc import Mapping

from labwright.words import Refused, finding

BASE = "{base}"


def resolve(wish: Mapping[str, str], profiles: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The mirrors in effect, by key; a key without one is not there. Raises ``Refused`` for a profile that is none."""
    own = {key: value for key, value in wish.items() if key not in ("profile", "base")}
    name, base = wish.get("profile", ""), wish.get("base", "")
    if name and name not in profiles:
        raise Refused(finding("LW-MIRROR-010", profile=name, known=sorted(profiles)))
    rows = profiles[name] if name else {}
    takes = any(BASE in address for address in rows.values())
    if takes and not base:
        raise Refused(finding("LW-MIRROR-011", profile=name))
    if base and not takes:
        with_base = [one for one, row in sorted(profiles.items()) if any(BASE in address for address in row.values())]
        raise Refused(finding("LW-MIRROR-012", profiles=with_base))
    filled = {key: address.replace(BASE, base.rstrip("/")) for key, address in rows.items()}
    return {key: address.rstrip("/") for key, address in {**filled, **own}.items()}
