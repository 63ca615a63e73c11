"""Secrets in what is written down of a conversation: stars for what is known to be one, and for what looks like one.

A conversation is mostly code, so a word such as `token =` hides only a value that can be a secret: a text in quotes, or
letters with digits in one piece. What is masked stays masked, and no line is added or lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from labwright_agents.texts import whole

STARS = "***"
NAMES = r"(?:passwords?|passwd|passphrase|secret|token|(?:api|access|private|secret)[_-]?keys?)"
QUOTED = r"""(?:"(?:[^"\\\n]|\\.){4,}"|'(?:[^'\\\n]|\\.){4,}')"""
BARE = r"(?=[A-Za-z0-9_+/=-]*[0-9])[A-Za-z0-9_+/=-]{8,}(?![\w.(\[])"
VALUE = rf"(?:{QUOTED}|{BARE})"
BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:.{0,20000}?-----END [A-Z0-9 ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s]*)", re.S
)
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # http://user:password@host
    (re.compile(r"""(://)[^/\s"'<>@:]*:[^/\s"'<>@]*@"""), rf"\1{STARS}@"),
    (re.compile(r"\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.I), rf"\1{STARS}"),
    (re.compile(rf"""({NAMES}["']?\s*[:=]\s*){VALUE}""", re.I), rf"\1{STARS}"),
    # Keys by their form: Labwright's, OpenAI's, Hugging Face's, GitHub's, GitLab's. Ids such as LW-AGENT-001 stay.
    (re.compile(r"\b(lw-)[A-Za-z0-9_-]{16,}"), rf"\1{STARS}"),
    (re.compile(r"\b(sk-|hf_|gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{8,}"), rf"\1{STARS}"),
)


def mask(text: str, known: Iterable[str] = ()) -> str:
    """The text with stars for all that looks like a secret, and for all that is `known` to be one."""
    for one in sorted({form for value in known if value for form in (value, json.dumps(value)[1:-1])}, key=len)[::-1]:
        text = text.replace(one, STARS)
    text = BLOCK.sub(lambda found: STARS + "\n" * found[0].count("\n"), text)
    for pattern, stars in PATTERNS:
        text = pattern.sub(stars, text)
    return text


def mask_all(value: Any, known: Iterable[str]) -> Any:
    """The same for every text in a JSON value, which can be written down then."""
    if isinstance(value, str):
        return mask(whole(value), known)
    if isinstance(value, dict):
        return {name: mask_all(one, known) for name, one in value.items()}
    return [mask_all(one, known) for one in value] if isinstance(value, (list, tuple)) else value
