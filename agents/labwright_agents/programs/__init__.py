"""The programs, a module each: `SUMMARY`, `add_arguments(parser)` and `run(options) -> int`."""
