#!/usr/bin/env python3
"""Bring up, use and take away the hosts to test on: ``lab.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run the package's command line, if this Python can."""
    if sys.hexversion < 0x030B0000:
        print(f"LW-LAB-005: Python 3.11 or newer was expected, and this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    # Run as a script, Python puts this folder on the path, where `lab` would be this file and not the package.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from lab.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
