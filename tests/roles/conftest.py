"""How long each scenario took, at the end."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table: scenario, seconds, how it ended."""
    rows = [
        (dict(report.user_properties).get("seconds"), report.nodeid.split("[")[-1].rstrip("]"), outcome)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
    ]
    if timed := sorted((row for row in rows if row[0] is not None), reverse=True):
        terminalreporter.section("scenarios")
        for seconds, scenario, outcome in timed:
            terminalreporter.line(f"{scenario:14} {seconds:5} s  {outcome}")
