"""The programs, a module each: `SUMMARY`, `add_arguments(parser)`, and `talk` and `judge` (running.py), or `run`."""
