#!/usr/bin/env python3
"""Bring up, use and take away Windows hosts to test on: ``target.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run the package's command line."""
    # Run as a script, Python puts this folder on the path, where `modules` would be this folder's.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lab.windows.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
