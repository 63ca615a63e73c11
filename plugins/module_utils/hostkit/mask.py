"""Secrets in the words of others: logs, errors, answers. What is masked stays masked, and no line is added or lost.

What looks like a secret is found by its form; what is known to be one by its value. Better a word too many than a key
in a file.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterable

STARS = "***"
NAMES = r"(?:passwords?|passwd|passphrase|secrets?|token|(?:api|access|private|secret)[_-]?keys?)"
# A list in brackets, words in quotes, or whatever goes on to the next gap.
QUOTED = r"""\[[^\]\n]*\]|\{[^}\n]*\}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s"']+"""
VALUE = rf"(?!(?:None|null|True|False|true|false)\b)(?:{QUOTED})"
BEGIN, END = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", r"-----END [A-Z0-9 ]*PRIVATE KEY-----"
# To its end; where that is cut off, the rest of the line and all lines below that can be of a key.
KEY_BLOCK = re.compile(
    rf"{BEGIN}(?:(?:(?!{BEGIN}).){{0,20000}}?{END}|[^\n]*(?:\n[A-Za-z0-9+/=]+[ \t\r]*(?=\n|\Z))*)", re.S
)
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # http://user:password@host, http://token@host
    (re.compile(r"""(://)[^/\s"'<>@]*(?:@[^/\s"'<>@]*)*@""", re.I), rf"\1{STARS}@"),
    (
        re.compile(r"""(\bauthorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer|digest)\s+)?)[^\s"',]+""", re.I),
        rf"\1{STARS}",
    ),
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.I), rf"\1{STARS}"),
    (re.compile(r"\b(basic\s+)(?=\S*[0-9A-Z=])[A-Za-z0-9+/]{8,}={0,2}", re.I), rf"\1{STARS}"),
    # --api-keys a,b as an option; password=…, "token": "…", api_keys=['…']
    (re.compile(rf"((?<![\w-])--?[\w-]{{0,40}}{NAMES}\s+){VALUE}", re.I), rf"\1{STARS}"),
    (re.compile(rf"""({NAMES}["']?\s*[:=]\s*){VALUE}""", re.I), rf"\1{STARS}"),
    (re.compile(r"""([?&](?:key|sig|signature|auth)=)[^\s&"']+""", re.I), rf"\1{STARS}"),
    # Keys by their form: Labwright's, OpenAI's, Hugging Face's, GitHub's, GitLab's. Ids such as LW-PROBE-001 stay.
    (re.compile(r"\b(lw-)[A-Za-z0-9_-]{16,}"), rf"\1{STARS}"),
    (re.compile(r"\b(sk-|hf_|gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{8,}"), rf"\1{STARS}"),
)


def mask(text: str, known: Iterable[str] = ()) -> str:
    """The text with stars for all that looks like a secret, and for all that is ``known`` to be one."""
    text = KEY_BLOCK.sub(block, hide(text, known))
    for pattern, stars in PATTERNS:
        text = pattern.sub(stars, text)
    return text


def hide(text: str, known: Iterable[str]) -> str:
    """The text without these values, as they are and as JSON or an address would write them; the longest first."""
    forms = {form for one in known if one for form in (one, json.dumps(one)[1:-1], urllib.parse.quote(one, safe=""))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, STARS)
    return text


def block(found: re.Match[str]) -> str:
    """As many lines as the private key had."""
    return "\n".join([STARS] * (found[0].count("\n") + 1)) if "\n" in found[0] else STARS
