"""Run the real pip on Linux for a Windows prefix: `run_pip.py DRIVE_C PREFIX WINDOWS_PREFIX WORDS…`.

pip chooses wheels for win_amd64 and CPython 3.11, judges markers as on Windows, looks at what the prefix has, puts
files where Windows has them and writes start programs (.exe). Hashes, sources and errors are pip's own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lab.windows.machine.run_conda import Back

TARGET = [
    "--platform", "win_amd64", "--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "abi3",
    "--abi", "none", "--only-binary", ":all:",
]  # fmt: skip
MARKERS = {
    "os_name": "nt", "platform_machine": "AMD64", "platform_release": "10", "platform_system": "Windows",
    "platform_version": "10.0.19045", "sys_platform": "win32",
}  # fmt: skip


def windows(prefix: Path, as_windows: str) -> None:
    """Tell pip what it finds out by itself elsewhere."""
    import pip._internal.cli.cmdoptions as options
    import pip._internal.metadata as metadata
    import pip._internal.req.req_install as req_install
    import pip._vendor.distlib.scripts as scripts
    import pip._vendor.packaging.markers as markers
    from pip._internal.models.scheme import Scheme
    from pip._internal.resolution.resolvelib import factory

    site = prefix / "Lib/site-packages"
    there = metadata.get_environment([str(site)])
    vars(options)["check_dist_restriction"] = lambda *_, **__: None
    for module in (metadata, factory):
        vars(module)["get_default_environment"] = lambda: there

    def scheme(dist_name: str, *_: Any, **__: Any) -> Scheme:
        headers = str(prefix / "Include" / dist_name)
        return Scheme(str(site), str(site), headers, str(prefix / "Scripts"), str(prefix))

    vars(req_install)["get_scheme"] = scheme
    judged: Any = markers.default_environment
    vars(markers)["default_environment"] = lambda: {**judged(), **MARKERS}
    launchers = Path(scripts.__file__).parent  # distlib's own, of which its code for Windows takes one
    made: Any = scripts.ScriptMaker.__init__

    def maker(self: Any, *words: Any, **named: Any) -> None:
        made(self, *words, **named)
        self._is_nt = True
        self._is_shell = lambda _: False
        self._get_launcher = lambda kind: (launchers / f"{kind}64.exe").read_bytes()

    vars(scripts)["get_executable"] = lambda: f"{as_windows}\\python.exe"
    type.__setattr__(scripts.ScriptMaker, "__init__", maker)
    import pip._internal.commands.check as check
    from pip._internal.utils.compatibility_tags import get_supported

    tags = get_supported("311", ["win_amd64"], "cp", ["cp311", "abi3", "none"])
    vars(check)["get_supported"] = lambda: tags
    any_environment = metadata.get_environment
    vars(metadata)["get_environment"] = lambda paths: any_environment(paths or [str(site)])
    import pip._internal.commands.list as listing
    import pip._internal.operations.check as checking
    import pip._internal.operations.freeze as freezing

    vars(listing)["get_environment"] = metadata.get_environment
    for later in (checking, freezing):
        vars(later)["get_default_environment"] = vars(later)["get_environment"] = lambda *_: there


def main() -> int:
    """Run pip."""
    drive_c, prefix, as_windows, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    if words[:1] in (["install"], ["download"]):
        words = [words[0], *TARGET, *(["--no-compile"] if words[0] == "install" else []), *words[1:]]
    windows(prefix, as_windows)
    sys.stdout, sys.stderr = Back(sys.stdout, drive_c), Back(sys.stderr, drive_c)
    from pip._internal.cli.main import main as run

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
