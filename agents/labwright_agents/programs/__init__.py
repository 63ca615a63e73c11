"""The programs, a module each: `SUMMARY`, `add_arguments(parser)`, and `talk` and `judge` (see running.Program) or `run`."""
