"""How long an environment takes from a warm bundle, and how that compares with pip alone: part of `make bench`.

Ours is hostkit's verb `env` as a host runs it: every file fetched over HTTP from the bundle into an empty store and
compared with its sum, the Conda part, each pip layer by its hashes, the stamp. By hand is one `pip install --no-deps
--no-index` of the same wheel files, from a local folder into the same Conda prefix. The two take turns, on this
machine; the ratio is of the medians. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from hostkit import env  # noqa: E402
from labwright import catalog, delivery  # noqa: E402
from labwright.wishes import host_of  # noqa: E402


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files without a log."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The bundle over HTTP on loopback."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def prefix_of(request: dict[str, Any], folder: Path) -> Path:
    """A prefix with the Conda part only."""
    env.run({**request, "prefix": str(folder), "link": "", "layers": request["layers"][:1]}, False)
    return folder


def ours(request: dict[str, Any], scratch: Path) -> float:
    """Seconds for the whole environment, from an empty store."""
    fresh = {**request, "prefix": str(scratch / "ours"), "link": "", "store": str(scratch / "store-ours")}
    seconds = timed(lambda: env.run(fresh, False))
    shutil.rmtree(scratch / "ours")
    shutil.rmtree(scratch / "store-ours")
    return seconds


def by_hand(request: dict[str, Any], bundle: Path, scratch: Path) -> float:
    """Seconds for one pip over the same wheel files."""
    prefix = prefix_of({**request, "store": str(scratch / "store")}, scratch / "hand")
    wheels = [str(bundle / "wheels" / wheel["name"]) for layer in request["layers"][1:] for wheel in layer["wheels"]]
    argv = [str(prefix / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-cache-dir"]
    seconds = timed(lambda: subprocess.run([*argv, *wheels], check=True))
    shutil.rmtree(prefix)
    return seconds


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", type=Path, default=ROOT / ".cache/bundle", help="as playbooks/bundle.yml made it")
    parser.add_argument("--stack", default="chatglm2")
    parser.add_argument("--tag", default="cpu")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args(argv)
    bundle: Path = options.bundle.resolve()
    found = catalog.load(ROOT / "env", bundle)
    release = next(
        build.partition("+")[0]
        for _platform, build in found.stacks[options.stack].locked
        if build.endswith(options.tag)
    )
    with serving(bundle) as address, tempfile.TemporaryDirectory(prefix="labwright-bench-") as folder:
        scratch = Path(folder)
        host = host_of("here", [], {"lab_root": folder, "lab_store": f"{folder}/store", "lab_bundle_url": address})
        request = delivery.environment(host, found, options.stack, {"version": release, "tag": options.tag})
        installer = bundle / found.manifest["installer"]["path"] if found.manifest else Path()
        subprocess.run(["sh", str(installer), "-b", "-p", f"{folder}/conda"], check=True, stdout=subprocess.DEVNULL)
        rows = []
        for at in range(options.times):
            rows.append((ours(request, scratch), by_hand(request, bundle, scratch)))
            print(f"  run {at + 1}: ours {rows[-1][0]:.1f} s, pip by hand {rows[-1][1]:.1f} s", flush=True)
    whole, hand = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"{options.stack}-{options.tag} from a warm bundle: {whole:.1f} s; pip by hand, same wheels, {hand:.1f} s; "
        f"ratio {whole / hand:.2f} (medians of {options.times})"
    )


if __name__ == "__main__":
    main()
