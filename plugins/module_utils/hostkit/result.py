"""The two ways in which a verb ends: a result, or a problem that a person can act on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


class Problem(Exception):
    """Something a person must know: a stable id, what was found, what was expected, what to do."""

    def __init__(self, code: str, message: str) -> None:
        """``code`` is the id (LW-ENV-001), ``message`` whole sentences."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass
class Result:
    """What a verb did: ``before`` and ``after`` are the diff of the Ansible task, ``warning`` is always shown."""

    changed: bool = False
    message: str = ""
    before: str = ""
    after: str = ""
    warning: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that goes back to the control node."""
        return {**asdict(self), "failed": False}
