"""Windows hosts to test on: Wine behind WinRM. Standard output is one JSON object."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence

from .. import settings as lab_settings
from ..errors import LabError
from ..settings import Settings
from . import prerequisites, targets

Result = dict[str, object]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="target.py", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("prerequisites", help="see that this machine can hold a target")
    verb.add_argument("--install", action="store_true", help="install what is missing (root, Debian or Ubuntu)")
    verb = verbs.add_parser("up", help="bring a target up; nothing changes where it is up")
    verb.add_argument("--name", required=True)
    verb.add_argument(
        "--address", default="127.0.0.1", help="where it listens; taken on the loopback where nobody has it"
    )
    verb.add_argument("--http", type=int, default=15985, metavar="PORT")
    verb.add_argument("--https", type=int, default=15986, metavar="PORT")
    verb.add_argument("--gpu", metavar="RECORDING", help="give it an nvidia-smi.exe that answers as this recording")
    verb.add_argument(
        "--edition", choices=sorted(targets.CAPTIONS), default="11", help="what Windows it says that it is"
    )
    for name, words in (
        ("down", "switch a target off; its machine stays"),
        ("reboot", "reboot a target, and wait until it is up"),
        ("wipe", "take a target away with all that is on it"),
    ):
        verbs.add_parser(name, help=words).add_argument("--name", required=True)
    verbs.add_parser("list", help="show every target")
    verbs.add_parser("clean", help="take every target away, and what they are made from")
    return top


def do_prerequisites(arguments: argparse.Namespace, here: Settings) -> Result:
    """See that this machine can hold a target."""
    installed = prerequisites.check(install=arguments.install)
    return {"changed": installed, "nssm": str(prerequisites.nssm(targets.home(here)))}


def do_up(arguments: argparse.Namespace, here: Settings) -> Result:
    """Bring a target up."""
    prerequisites.check(install=False)
    return targets.up(
        here, arguments.name, arguments.address, arguments.http, arguments.https, arguments.gpu, arguments.edition
    )


def do_reboot(arguments: argparse.Namespace, here: Settings) -> Result:
    """Reboot a target."""
    targets.reboot(here, arguments.name)
    return {"changed": True}


def do_clean(_: argparse.Namespace, here: Settings) -> Result:
    """Take everything away."""
    gone = [str(one["name"]) for one in targets.every(here) if targets.wipe(here, str(one["name"]))]
    shutil.rmtree(targets.home(here), ignore_errors=True)
    return {"changed": bool(gone), "targets": gone}


VERBS: dict[str, Callable[[argparse.Namespace, Settings], Result]] = {
    "prerequisites": do_prerequisites,
    "up": do_up,
    "down": lambda arguments, here: {"changed": targets.down(here, arguments.name)},
    "reboot": do_reboot,
    "wipe": lambda arguments, here: {"changed": targets.wipe(here, arguments.name)},
    "clean": do_clean,
    "list": lambda _, here: {"changed": False, "targets": targets.every(here)},
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 with a sentence on standard error."""
    arguments = parser().parse_args(words)
    try:
        print(json.dumps(VERBS[arguments.verb](arguments, lab_settings.from_environment()), indent=2))
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
