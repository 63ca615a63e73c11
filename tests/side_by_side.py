"""Which tests share hosts: those of one suite run one after the other, suites run side by side (`make hosts`)."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class BySuite(LoadScopeScheduling):
    """A suite is a folder of tests; a role test is one of its own, for it has hosts of its own."""

    def _split_scope(self, nodeid: str) -> str:
        suite = nodeid.split("/")[1]
        return nodeid if suite == "roles" else suite


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> BySuite:
    """Hand the suites out, in the order in which they were named."""
    return BySuite(config, log)
