"""What the inventory wishes for, checked before any host is touched.

The table of `lab_*` variables is ``wishes.yml``. Variables of the roles (``torch_*``, ``fastchat_*`` …) are checked
by name only, against the roles' own argument_specs; their types are checked by each role.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from hostkit.result import Problem
from labwright import paths

PREFIX = "lab_"
# What the plays themselves set on hosts while they run; no wish of a user's.
INTERNAL = {
    "lab_plan",
    "lab_places",
    "lab_secrets",
    "lab_trusted",
    "lab_answers",
    "lab_needs",
    "lab_mirror_answers",
    "hardware_facts",
}
# Values with addresses of servers, and what a password in one looks like.
ADDRESSES = ("lab_mirrors", "lab_bundle_url")
LOGIN_INSIDE = re.compile(r"[@?#]|passw", re.IGNORECASE)


@dataclass(frozen=True)
class Host:
    """One host's wishes: its name, its groups, its `lab_*` variables with the defaults filled in."""

    name: str
    groups: frozenset[str]
    wishes: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Where the other hosts reach this one."""
        return str(self.wishes["lab_address"])

    @property
    def platform(self) -> str:
        """What the inventory says that it is, by its group."""
        return paths.WINDOWS if paths.GROUP in self.groups else paths.LINUX

    @property
    def system(self) -> paths.System:
        """The same, with how paths are written there."""
        return paths.of(self.platform)

    def below(self, wish: str, *parts: str) -> str:
        """A path below one of the host's folders, such as ``lab_root``."""
        return self.system.join(str(self.wishes[wish]), *parts)


@cache  # asked for every host of the lab
def table() -> dict[str, dict[str, Any]]:
    """The table of `lab_*` variables."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("wishes.yml").read_text(encoding="utf-8")
    )
    return found


@cache
def role_variables(roles: Path) -> dict[str, set[str]]:
    """Public variables of each role, from its argument_specs."""
    found = {}
    for spec in sorted(roles.glob("*/meta/argument_specs.yml")):
        main = yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"]["main"]
        found[spec.parent.parent.name] = set(main.get("options", {}))
    return found


def host_of(name: str, groups: Iterable[str], variables: Mapping[str, Any]) -> Host:
    """One host from its inventory variables; defaults from the table. What is secret stays out."""
    wishes = {key: row["default"] for key, row in table().items() if "default" in row}
    wishes["lab_address"] = variables.get("ansible_host", name)
    wishes.update({key: variables[key] for key, row in table().items() if key in variables and "secret" not in row})
    return Host(name, frozenset(groups), wishes)


def problems(name: str, variables: Mapping[str, Any], roles: Mapping[str, set[str]]) -> list[Problem]:
    """Everything that is wrong with one host's variables."""
    known = table()
    found = []
    for key in sorted(variables):
        value = variables[key]
        if key.startswith(PREFIX) and key not in known and key not in INTERNAL:
            found.append(unknown(name, key, known))
        elif key in known and "secret" in known[key]:
            found += wrong_secret(name, key, value, known[key]["schema"])
        elif key in known:
            inside = with_login(name, key, value) if key in ADDRESSES else []
            found += inside or wrong_type(name, key, value, known[key]["schema"])
        else:
            found += misspelt(name, key, roles)
    return found


def with_login(host: str, key: str, value: Any) -> list[Problem]:
    """Each address with a user or a password in it, which would end up in logs; it is not repeated."""
    rows = value if isinstance(value, Mapping) else {"": value}
    return [
        Problem(
            "LW-VAR-003",
            f"{host}: {key}{f'[{part!r}]' if part else ''} has a login or a query in it (it is not shown); expected an "
            "address alone. Set user and password by the server's name in lab_mirror_credentials, from the vault.",
        )
        for part, one in rows.items()
        if LOGIN_INSIDE.search(f"{part} {one}")
    ]


def wrong_secret(host: str, key: str, value: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """Where a secret does not fit its schema, without the secret."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    places = ["".join(f"[{str(part)!r}]" for part in error.absolute_path) for error in errors]
    words = "is not of the form in docs/reference/inventory.md (what it is is not shown)"
    return [Problem("LW-VAR-004", f"{host}: {key}{place} {words}; mend it in the vault.") for place in places]


def wrong_type(host: str, key: str, value: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """Every way in which a value does not fit its schema."""
    found = []
    for one in jsonschema.Draft202012Validator(schema).iter_errors(value):
        error = jsonschema.exceptions.best_match([one])
        if error is not None:
            where = "".join(f"[{part!r}]" for part in error.absolute_path)
            found.append(Problem("LW-VAR-002", f"{host}: {key}{where} is {error.instance!r}; {expected(error)}."))
    return found


def expected(error: jsonschema.ValidationError) -> str:
    """What the schema wants, in words."""
    words = {
        "type": f"expected a value of type {listed(error)}",
        "enum": f"expected one of {error.validator_value}",
        "pattern": f"expected text that fits {error.validator_value}",
        "anyOf": f"expected {listed(error)}",
        "minimum": f"expected at least {error.validator_value}",
        "maximum": f"expected at most {error.validator_value}",
    }
    return words.get(str(error.validator), str(error.message))


def listed(error: jsonschema.ValidationError) -> str:
    """What a value may be; where it stands alone and a list was meant, how one is written."""
    schema = error.schema
    may = kind(schema if isinstance(schema, Mapping) else {}).replace("`", "")
    return may + (
        f", such as [{error.instance}]" if "array of string" in may and isinstance(error.instance, str) else ""
    )


def kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    words = str(schema.get("type", "see the table"))
    if "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    if "properties" in schema:
        words += " with " + ", ".join(f"`{one}`" for one in schema["properties"])
    if "items" in schema:
        words += f" of {kind(schema['items'])}"
    return words


def unknown(host: str, key: str, known: Iterable[str]) -> Problem:
    """A name with our prefix that nobody knows."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else "see docs/reference/inventory.md for the names."
    return Problem("LW-VAR-001", f"{host}: there is no variable {key}; {hint}")


def misspelt(host: str, key: str, roles: Mapping[str, set[str]]) -> list[Problem]:
    """A role's variable that is nearly one of its own; other projects' `docker_*` are none of our business."""
    role = "hardware" if key.startswith("hardware") else key.split("_", 1)[0]
    names = roles.get(role, set()) | {name for name in table() if name.startswith(f"{role}_")}
    if key in names or key in INTERNAL or not names:
        return []
    close = difflib.get_close_matches(key, sorted(names), n=1, cutoff=0.85)
    return (
        [Problem("LW-VAR-001", f"{host}: the role {role} has no variable {key}; did you mean {close[0]}?")]
        if close
        else []
    )
