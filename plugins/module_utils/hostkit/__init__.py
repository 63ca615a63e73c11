"""hostkit: what Labwright does on a host after Python is there, written once for Linux and Windows.

Standard library only, Python 3.9 or newer. A request comes in as JSON, a result goes out as JSON (the action plugin
``hostkit`` carries both). Nothing in here chooses: every path, address and checksum stands in the request.
"""

VERBS = (
    "facts", "take", "env", "model", "probe", "load", "inspect", "mirrors", "ship", "tree", "sweep", "service", "pace",
    "firewall", "drain", "workers", "restart", "status", "logs", "package",
)  # fmt: skip
