"""The faults that a person can set right, as sentences with ids, in English and Chinese (words.json)."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from labwright_agents.texts import visible, whole

WORDS = Path(__file__).resolve().parent / "words.json"
# FastChat names what it serves in this sentence (error 40301), joined with `&&`.
ONLY = re.compile(r"Only (.*?) allowed now, your model")


@cache
def words() -> dict[str, dict[str, str]]:
    """Each id with its sentence by language."""
    found: dict[str, dict[str, str]] = json.loads(WORDS.read_text(encoding="utf-8"))
    return found


class AgentError(Exception):
    """A fault whose text starts with an id: what was found, what was expected, what to set or run."""

    def __init__(self, id_: str, **values: Any) -> None:
        """Name the sentence and what stands in its braces."""
        self.id, self.values = id_, values
        super().__init__(self.say())

    def say(self, language: str = "en") -> str:
        """The sentence, with its id. What others said in it is made fit to be shown and written."""
        return visible(whole(f"{self.id}: {words()[self.id][language].format(**self.values)}"))


def endpoint_fault(status: int | None, said: str, base_url: str, model: str) -> AgentError:
    """What an endpoint's refusal means: its HTTP status (None when nothing answered) and its own words."""
    values = {"base_url": base_url, "model": model, "words": said, "status": status}
    if status is None:
        return AgentError("LW-AGENT-011", **values)
    if match := ONLY.search(said):
        served = match[1].replace("&&", ", ").strip()
        return AgentError("LW-AGENT-012", served=served or "-", **values)
    if status == 404:
        return AgentError("LW-AGENT-013", **values)
    if status == 401:
        return AgentError("LW-AGENT-014", **values)
    if "50002" in said or "out of memory" in said.lower():
        return AgentError("LW-AGENT-015", **values)
    if "40303" in said or "maximum context length" in said:
        return AgentError("LW-AGENT-016", **values)
    return AgentError("LW-AGENT-017", **values)
