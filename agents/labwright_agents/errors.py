"""The faults that a person can set right, as sentences with ids."""

from __future__ import annotations

import re


class AgentError(Exception):
    """A fault whose text starts with an id: what was found, what was expected, what to set or run."""


# FastChat names what it serves in this sentence (error 40301), joined with `&&`.
ONLY = re.compile(r"Only (.*?) allowed now, your model")


def endpoint_sentence(status: int | None, words: str, base_url: str, model: str) -> str:
    """Say what an endpoint's refusal means: its HTTP status (None when nothing answered) and its own words."""
    where = f"the endpoint {base_url}"
    if status is None:
        return (
            f"LW-AGENT-011: {where} did not answer ({words}). Check that the API service runs, and that base_url in "
            "the configuration is its address and ends in /v1."
        )
    if match := ONLY.search(words):
        served = match[1].replace("&&", ", ").strip()
        found = f"serves {served}" if served else "serves no model at present; is a worker running?"
        return (
            f"LW-AGENT-012: {where} does not serve the model {model!r}; it {found}. "
            "Set `model` in the configuration to the name under which the worker registered."
        )
    if status == 404:
        return (
            f"LW-AGENT-013: {where} answered 404: {words}. Either base_url does not end in /v1, or it does not serve "
            f"the model {model!r}."
        )
    if status == 401:
        return f"LW-AGENT-014: {where} refused the key: {words}. Set `api_key` in the configuration."
    if "50002" in words or "out of memory" in words.lower():
        return (
            f"LW-AGENT-015: the worker behind {base_url} ran out of GPU memory: {words}. "
            "Choose a smaller quantisation for this model, or a shorter task."
        )
    if "40303" in words or "maximum context length" in words:
        return f"LW-AGENT-016: the conversation is longer than the model's context: {words}."
    return f"LW-AGENT-017: {where} answered {status}: {words}. The logs of the API service and of the worker say more."
