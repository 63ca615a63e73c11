"""Texts as people, files and endpoints have them: read in their own encoding, and shown without harm."""

from __future__ import annotations

import codecs
import os
import re

# Colours, bells and the like would act on the terminal that shows them, and marks of direction hide what follows them.
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8 with or without its mark, UTF-16 with it, or GB 18030. Raises ValueError for others."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    raise ValueError("its text is neither UTF-8 nor UTF-16 nor GB 18030")


def whole(text: str) -> str:
    """The text without halves of characters, which cannot be written; an argument or a name in GB 18030 is read so."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return decoded(os.fsencode(text))
        except ValueError:
            return text.encode("utf-8", "replace").decode()
    return text


def visible(text: str) -> str:
    """The text with what would act on a terminal written out."""
    return ACTS.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))
