"""Read and judge the configuration of an agent: AutoGen's list of endpoints, and what the lab says beside it.

OAI_CONFIG_LIST is what `autogen.config_list_from_json` reads; each entry but `model` is an argument of the openai
client. lab.json, in the same folder, says what is no endpoint: how many conversations the lab holds at once, and whom
to trust.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labwright_agents.errors import AgentError

# The names that the recipe of 2023 used, of which openai 1.x knows none.
GONE = ("api_base", "api_type", "api_version")
NEEDED = ("base_url", "model")
# The client waits 0.5 s, 1 s, 2 s, … up to 8 s between tries, or as long as the endpoint asks for.
RETRIES = 4


@dataclass(frozen=True)
class Lab:
    """What the lab says: conversations at once, the authority's certificate ("" for the system's), the language."""

    at_once: int = 1
    authority: str = ""
    language: str = "en"


def read_config(path: Path) -> list[dict[str, Any]]:
    """The endpoints of a configuration file; raise AgentError on anything that AutoGen would stumble over."""
    entries = _json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise AgentError("LW-AGENT-003", path=path)
    for entry in entries:
        _judge(entry, path)
    # The client wants a key even where nobody asks for one.
    return [{"api_key": "NULL", "max_retries": RETRIES, **entry} for entry in entries]


def of_model(entries: list[dict[str, Any]], model: str | None, path: Path) -> list[dict[str, Any]]:
    """The endpoints of one model, the first one's by default, so that no other model answers in its place unnoticed."""
    wanted = model or entries[0]["model"]
    found = [entry for entry in entries if entry["model"] == wanted]
    if not found:
        raise AgentError(
            "LW-AGENT-027", model=wanted, path=path, known=", ".join(sorted({entry["model"] for entry in entries}))
        )
    return found


def read_lab(config: Path) -> Lab:
    """What lab.json beside a configuration says; without it, one conversation at once and the system's authorities."""
    path = config.parent / "lab.json"
    if not path.exists():
        return Lab()
    said = _json(path)
    try:
        return Lab(max(1, int(said["at_once"])), str(said.get("authority", "")), str(said.get("language", "en")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AgentError("LW-AGENT-002", path=path, error=f"at_once: {error!r}") from error


def prepare_environment(entries: list[dict[str, Any]], lab: Lab) -> None:
    """Set what AutoGen and the openai client read from the environment of this process."""
    os.environ["AUTOGEN_USE_DOCKER"] = "False"
    if lab.authority:
        os.environ.setdefault("SSL_CERT_FILE", lab.authority)
    # The lab's endpoint is never behind the site's proxy.
    hosts = [urlsplit(entry["base_url"]).hostname or "" for entry in entries]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(dict.fromkeys(filter(None, [os.environ.get(name, ""), *hosts])))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AgentError("LW-AGENT-001", path=path, error=error.strerror) from error
    except ValueError as error:
        raise AgentError("LW-AGENT-002", path=path, error=error) from error


def _judge(entry: dict[str, Any], path: Path) -> None:
    for name in GONE:
        if name in entry:
            raise AgentError("LW-AGENT-004", path=path, name=name)
    for name in NEEDED:
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise AgentError("LW-AGENT-005", path=path, name=name)
    address = urlsplit(entry["base_url"])
    if address.scheme not in {"http", "https"} or not address.hostname or not address.path.rstrip("/").endswith("/v1"):
        raise AgentError("LW-AGENT-006", path=path, found=entry["base_url"])
