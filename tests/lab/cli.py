"""Hosts to test on: containers with a real systemd, reached over SSH. Standard output is one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import files, hosts, image, prerequisites, settings
from .errors import LabError
from .processes import Podman
from .settings import Settings

Result = dict[str, object]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="lab.py", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("prerequisites", help="see that this machine can hold a lab")
    verb.add_argument("--install", action="store_true", help="install what is missing (root, Debian or Ubuntu)")

    verb = verbs.add_parser("image", help="make a suite's image, if this week's is not there")
    verb.add_argument("suite", metavar="SUITE", help=" or ".join(image.SUITES))

    verb = verbs.add_parser("up", help="bring a lab up; nothing changes where it is up")
    verb.add_argument("--lab", required=True, metavar="NAME")
    verb.add_argument(
        "--subnet", required=True, metavar="CIDR", help="the lab's own network; its first address is ours"
    )
    verb.add_argument("--host", action="append", default=[], metavar="NAME=ADDRESS[:SUITE]", help="once for each host")

    verb = verbs.add_parser("serve", help="serve a folder to a lab over HTTP, in the background, until it goes down")
    verb.add_argument("--lab", required=True, metavar="NAME")
    verb.add_argument("--bind", required=True, metavar="ADDRESS", help="this machine's address in the lab")
    verb.add_argument("--port", required=True, type=int, metavar="N")
    verb.add_argument("folder", type=Path, metavar="FOLDER")

    verb = verbs.add_parser("down", help="take a lab away")
    verb.add_argument("--lab", required=True, metavar="NAME")
    verb.add_argument("--any-checkout", action="store_true", help="whichever checkout's it is; for labs of tests")

    verbs.add_parser("clean", help="take every lab away, the images, and whatever else labs leave on this machine")
    return top


def do_prerequisites(arguments: argparse.Namespace, here: Settings) -> Result:
    """See that this machine can hold a lab."""
    installed = prerequisites.check(install=arguments.install)
    settings.write_podman_settings(here)
    return {"changed": installed}


def do_image(arguments: argparse.Namespace, here: Settings) -> Result:
    """Make a suite's image."""
    prerequisites.check(install=False)
    settings.write_podman_settings(here)
    reference, changed = image.ensure(here, Podman(here), arguments.suite)
    return {"changed": changed, "image": reference}


def do_up(arguments: argparse.Namespace, here: Settings) -> Result:
    """Bring a lab up."""
    lab = hosts.parse_lab(arguments.lab, arguments.subnet, arguments.host)
    prerequisites.check(install=False)
    settings.write_podman_settings(here)
    return hosts.up(here, Podman(here), lab)


def do_serve(arguments: argparse.Namespace, here: Settings) -> Result:
    """Serve a folder to a lab."""
    hosts.check_name(arguments.lab)
    changed = files.serve(here, arguments.lab, arguments.bind, arguments.port, arguments.folder)
    return {"changed": changed, "url": f"http://{arguments.bind}:{arguments.port}"}


def do_down(arguments: argparse.Namespace, here: Settings) -> Result:
    """Take a lab away."""
    hosts.check_name(arguments.lab)
    prerequisites.check(install=False)
    settings.write_podman_settings(here)
    return {"changed": hosts.down(here, Podman(here), arguments.lab, any_checkout=arguments.any_checkout)}


def do_clean(_: argparse.Namespace, here: Settings) -> Result:
    """Take everything away; without podman there can be nothing but files."""
    prerequisites.refuse_machine()
    existed = here.folder.exists()
    if prerequisites.missing():
        settings.remove_folder(here)
        return {"changed": existed, "labs": [], "images": [], "kept_for": []}
    settings.write_podman_settings(here)
    done = hosts.clean(here, Podman(here))
    return {"changed": existed or bool(done["labs"] or done["images"]), **done}


VERBS: dict[str, Callable[[argparse.Namespace, Settings], Result]] = {
    "prerequisites": do_prerequisites,
    "image": do_image,
    "up": do_up,
    "serve": do_serve,
    "down": do_down,
    "clean": do_clean,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 with a sentence on standard error."""
    arguments = parser().parse_args(words)
    try:
        print(json.dumps(VERBS[arguments.verb](arguments, settings.from_environment()), indent=2))
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
