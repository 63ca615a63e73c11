"""Read and judge the configuration of an agent: AutoGen's list of endpoints, as a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labwright_agents.errors import AgentError

# The names that the recipe of 2023 used, and what has become of them in openai 1.x.
RENAMED = {
    "api_base": "is called `base_url` now (with the ending /v1)",
    "api_type": "is to be left out",
    "api_version": "is to be left out",
}
NEEDED = ("base_url", "model")


def read_config(path: Path) -> list[dict[str, Any]]:
    """Return the endpoints of a configuration file; raise AgentError on anything that AutoGen would stumble over."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AgentError(
            f"LW-AGENT-001: the configuration {path} cannot be read ({error.strerror}). "
            "Give the file that the autogen role wrote, with --config."
        ) from error
    except ValueError as error:
        raise AgentError(f"LW-AGENT-002: the configuration {path} is not JSON: {error}.") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise AgentError(
            f"LW-AGENT-003: the configuration {path} must be a list of endpoints, such as "
            '[{"base_url": "http://127.0.0.1:9527/v1", "model": "NAME", "api_key": "NULL"}].'
        )
    for entry in entries:
        _judge(entry, path)
    return [{"api_key": "NULL", **entry} for entry in entries]


def _judge(entry: dict[str, Any], path: Path) -> None:
    for name, advice in RENAMED.items():
        if name in entry:
            raise AgentError(f"LW-AGENT-004: {path} holds `{name}`, which {advice}; openai 1.x does not know it.")
    for name in NEEDED:
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise AgentError(f"LW-AGENT-005: an endpoint in {path} has no `{name}`.")
    address = urlsplit(entry["base_url"])
    if address.scheme not in {"http", "https"} or not address.hostname or not address.path.rstrip("/").endswith("/v1"):
        raise AgentError(
            f"LW-AGENT-006: base_url in {path} is {entry['base_url']!r}; "
            "expected an address that ends in /v1, such as http://127.0.0.1:9527/v1."
        )
