"""The one error of the lab: a sentence with an id, shown without a traceback."""

from __future__ import annotations


class LabError(Exception):
    """Something the reader can put right: what was found, what was expected, what to run."""

    def __init__(self, code: str, sentence: str) -> None:
        """``code`` is ``LW-LAB-nnn``; ``sentence`` says what was found, what was expected and what to do."""
        super().__init__(f"{code}: {sentence}")
        self.code = code
