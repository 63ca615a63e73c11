"""What the plan says, in English and Chinese: sentences are data (``words.yml``), a finding is an id with its numbers.

Keeping the numbers apart from the words lets the plan stay pure, the report choose the language, and a test read the
numbers without parsing a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hostkit.result import Problem
from labwright.catalog import read

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Finding:
    """Something the plan found: the id of the rule or reason, and the values of its sentence."""

    id: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def say(self, language: str = "en") -> dict[str, str]:
        """``id``, ``message`` (what was found and expected) and ``fix`` (what to set or run; "" for a mere reason)."""
        row = table()[self.id][language]
        values = {key: spoken(value, language) for key, value in self.values.items()}
        return {"id": self.id, "message": row["message"].format(**values), "fix": row.get("fix", "").format(**values)}

    def sentence(self, language: str = "en") -> str:
        """Message and fix in one text."""
        said = self.say(language)
        return f"{said['message']}{'' if language == 'zh' else ' '}{said['fix']}".strip()


def finding(identifier: str, **values: Any) -> Finding:
    """A finding with its values."""
    return Finding(identifier, values)


def spoken(value: Any, language: str) -> Any:
    """A value inside a sentence: findings speak for themselves, lists are joined."""
    if isinstance(value, Finding):
        return value.sentence(language)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(one, Finding) for one in value):
            return ("" if language == "zh" else " ").join(spoken(one, language) for one in value)
        between = "、" if language == "zh" else ", "
        return between.join(str(spoken(one, language)) for one in value)
    return value


class Refused(Problem):
    """A finding that ends the making of something, for those who need it made."""

    def __init__(self, cause: Finding) -> None:
        """``cause`` keeps its values, so that it can be said in any language."""
        super().__init__(cause.id, cause.sentence())
        self.cause = cause


@cache
def table() -> dict[str, dict[str, dict[str, str]]]:
    """All sentences, by id and language."""
    found: dict[str, dict[str, dict[str, str]]] = read(Path(__file__).with_name("words.yml"))
    return found
