"""See that code runs in the sandbox that was chosen, and that it is kept in there: what the role asks at deployment."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from labwright_agents import sandbox
from labwright_agents.config import Lab, read_config, read_lab
from labwright_agents.errors import AgentError
from labwright_agents.running import places

SUMMARY = "See that the code of models runs in its sandbox, and is kept in there."
CODE = """
import pathlib, socket
def sockets():  # without a network of its own, code also reaches those of the host's that have no file
    if not [row for row in open("/proc/self/net/unix").readlines()[1:] if len(row.split()) > 7]:
        raise OSError
tries = {{
    "the lab's API": lambda: socket.create_connection(({host!r}, {port}), 5),
    "the agents' key": lambda: open({config!r}).read(),
    "the host's passwords": lambda: open("/etc/shadow").read(),
    "Docker's engine": lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"),
    "the sandbox's own keeper": lambda: socket.socket(socket.AF_UNIX).connect({keeper!r}),
    "the host's sockets": sockets,
    "a file of the system's": lambda: open("/usr/{word}", "w"),
}}
for name, attempt in tries.items():
    try:
        attempt()
    except OSError:
        continue
    print("reached:", name)
pathlib.Path("left").write_text({word!r})
print({word!r})
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but where the configuration is."""
    places(parser)


def run(options: argparse.Namespace) -> int:
    """Print where code runs; 0, or 2 with a sentence."""
    lab = Lab()
    try:
        if options.config is None:
            raise AgentError("LW-AGENT-008")
        lab = read_lab(options.config)
        settings = sandbox.read(options.config.parent / "sandbox.json")
        if settings.kind != "local":
            attempt(settings, options.config)
    except AgentError as error:
        print(error.say(lab.language), file=sys.stderr)
        return 2
    print(f"The code of models runs {settings.words}.")
    return 0


def attempt(settings: sandbox.Settings, config: Path, keeper: str = sandbox.KEEPER) -> None:
    """Run code that tries to get out; raise AgentError when it does, or does not run."""
    address = urlsplit(read_config(config)[0]["base_url"])
    port = address.port or {"http": 80, "https": 443}[address.scheme]
    word = secrets.token_hex(8)
    code = CODE.format(host=address.hostname, port=port, config=str(config), keeper=keeper, word=word)
    with tempfile.TemporaryDirectory(prefix="labwright-agent-") as scratch:
        box = sandbox.Box(settings, Path(scratch), 60, lambda _run: None, keeper)
        status, output, cause = box.run("python", code)
        left = Path(scratch) / "left"
        if status or not output.endswith(f"{word}\n") or not left.is_file() or left.read_text() != word:
            raise AgentError("LW-AGENT-069", error=cause or output.strip()[-500:] or f"status {status}")
    if reached := [line.partition(": ")[2] for line in output.splitlines() if line.startswith("reached: ")]:
        raise AgentError("LW-AGENT-070", kind=settings.kind, reached=", ".join(reached))
