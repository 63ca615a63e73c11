"""The one exception of the bundle maker: a sentence for a person, with an id, and no traceback."""

from __future__ import annotations


class Problem(Exception):
    """Something a person can set right. The text starts with an id such as LW-BUNDLE-003."""
