"""What Ansible sends to powershell.exe, understood without one.

Ansible's `winrm` connection sends a fixed script (bootstrap_wrapper.ps1) and on standard input a manifest: scripts and
actions, of which the last one is the module and those before it say how it runs (become, async). win_reboot and the
removal of temporary files send scripts of one line or two. Whatever is none of these is refused.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import options, store
from .modules import STAND_INS, Context, Failed, Machine, Result
from .modules.commands import refuse_powershell
from .modules.files import remove
from .modules.registry import drop, values
from .wine import PathError, Wine

LOG = logging.getLogger("target")
SEPARATOR = b"\n\0\0\0\0\n"
REFUSED = 98
ENCODED = re.compile(r"-EncodedCommand\s+(\S+)", re.IGNORECASE)
MODULE = re.compile(r"^ansible_collections\.(\w+)\.(\w+)\.plugins\.modules\.(\w+)\.ps1$")
TAIL = re.compile(r";?\s*If \(-not \$\?\) \{ If \(Get-Variable LASTEXITCODE .*$", re.DOTALL)
REMOVE = re.compile(r"^Set-StrictMode -Version Latest\s+Remove-Item '((?:[^']|'')+)' -Force( -Recurse)?$")
BOOT_TIME = "(Get-CimInstance -ClassName Win32_OperatingSystem -Property LastBootUpTime).LastBootUpTime.ToFileTime()"
SHUTDOWN = re.compile(r"shutdown\.exe /r /t (\d+) /c ")
ABORT = re.compile(r"shutdown\.exe /a$")
LOGON_UI = re.compile(
    r"^Get-Item -LiteralPath 'HKLM:\\[^']+\\AutoLogonChecked' -ErrorAction Stop; '(success-[0-9a-f-]+)'$"
)
LOGON_KEY = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon\AutoLogonChecked"
SYSTEM_USERS = ("system", "nt authority\\system", "localsystem", "local service", "network service")
# Between 1601, where Windows' clock begins, and 1970.
EPOCH = 11644473600

Answer = tuple[bytes, bytes, int]


class Refused(Exception):
    """PowerShell that this target does not understand."""


def said(text: str, rc: int = 0) -> Answer:
    """Return output."""
    return text.encode(), b"", rc


@dataclass
class PowerShell:
    """The machine's powershell.exe, in name."""

    wine: Wine
    machine: Machine
    specifications: Mapping[str, options.Specification]
    journal: Path
    reboot: Callable[[float], None]
    # Counts boots: a job that outlives its machine writes nothing.
    generation: int = 0

    def run(self, line: str, stdin: bytes) -> Answer:
        """Run what came over WinRM."""
        match = ENCODED.search(line)
        try:
            if match is None:
                return self.program(line, stdin)
            script = base64.b64decode(match[1], validate=True).decode("utf-16-le")
            if SEPARATOR in stdin:
                manifest, *rest = stdin.split(SEPARATOR, 2)[1:]
                return self.manifest(json.loads(manifest), rest[0] if rest else b"")
            return self.script(script)
        except (Refused, Failed, PathError) as error:
            LOG.warning("refused: %s", error)
            self.note({"refused": str(error)})
            return b"", f"{error}\r\n".encode(), REFUSED
        except (binascii.Error, UnicodeDecodeError, ValueError) as error:
            self.note({"refused": repr(error)})
            return b"", f"What was sent to PowerShell cannot be read: {error}\r\n".encode(), REFUSED

    def note(self, row: Mapping[str, Any]) -> None:
        """Write a line of the journal."""
        with self.journal.open("a") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **row}) + "\n")

    def program(self, line: str, stdin: bytes) -> Answer:
        """Run a program that a WinRM client asks for by itself."""
        refuse_powershell(line)
        ended = self.wine.run(line, stdin=stdin)
        if ended.error:
            raise Refused(f"{line[:200]}: Windows says {ended.error}")
        return ended.stdout, ended.stderr, ended.rc

    def script(self, script: str) -> Answer:
        """Do what a script of win_reboot or of the connection does; refuse every other."""
        core = TAIL.sub("", script).strip().rstrip(";")
        if match := REMOVE.match(core):
            path = self.wine.path(match[1].replace("''", "'"))
            if not os.path.lexists(path):
                return b"", b"Cannot find path, because it does not exist.\r\n", 1
            remove(path)
            return said("")
        if core == BOOT_TIME:
            return said(f"{int((self.machine.booted + EPOCH) * 10_000_000)}\r\n")
        if match := SHUTDOWN.search(core):
            self.note({"reboot": int(match[1])})
            if values(self.context(), LOGON_KEY) is not None:
                drop(self.context(), LOGON_KEY)
            self.reboot(float(match[1]))
            return said(json.dumps({"stdout": "", "stderr": "", "rc": 0}))
        if ABORT.search(core):
            return (
                b"",
                b"Unable to abort the system shutdown because no shutdown was in progress.(1116)\r\n",
                1116 & 255,
            )
        if match := LOGON_UI.match(core):
            # LogonUI makes the key once the machine is up; this target answers only then.
            return said(match[1] + "\r\n")
        raise Refused(f"This test target has no PowerShell, and was asked to run: {core[:200]}")

    def context(self) -> Context:
        """Return a context for the connection's own needs."""
        return Context(self.wine, self.machine)

    def manifest(self, manifest: Mapping[str, Any], rest: bytes) -> Answer:
        """Do what a manifest asks."""
        *before, action = manifest["actions"]
        name, given = action["name"], action["params"]
        if name == "module_wrapper.ps1" and given.get("ForModule"):
            return self.module(given, before)
        files: dict[str, Callable[[Mapping[str, Any], bytes], Answer]] = {
            "powershell_mkdtemp.ps1": self.make_folder,
            "powershell_expand_user.ps1": self.expand_user,
            "winrm_put_file.ps1": self.put_file,
            "winrm_fetch_file.ps1": self.fetch_file,
        }
        if name not in files:
            raise Refused(f"This test target has no stand-in for {name} ({given.get('Script', 'no script')}).")
        return files[name](given, rest)

    def make_folder(self, given: Mapping[str, Any], _: bytes) -> Answer:
        """Make a temporary folder."""
        name = self.context().expanded(given["Directory"]).rstrip("\\") + "\\" + given["Name"]
        self.wine.path(name).mkdir(parents=True)
        return said(name + "\r\n")

    def expand_user(self, given: Mapping[str, Any], _: bytes) -> Answer:
        """Fill in the user's folder."""
        path = str(given["Path"])
        home = self.context().environ().get("userprofile", r"C:\users\root")
        return said((home + path[1:] if path == "~" or path.startswith("~\\") else path) + "\r\n")

    def put_file(self, given: Mapping[str, Any], rest: bytes) -> Answer:
        """Take a file."""
        path = self.wine.path(given["Path"])
        with path.open("wb") as file:
            for line in rest.split():
                file.write(base64.b64decode(line))
        return said(json.dumps({"sha1": hashlib.sha1(path.read_bytes()).hexdigest()}))  # noqa: S324

    def fetch_file(self, given: Mapping[str, Any], _: bytes) -> Answer:
        """Give a piece of a file."""
        path = self.wine.path(given["Path"])
        if path.is_dir():
            return said("[DIR]")
        if not path.is_file():
            return b"", f"{given['Path']} does not exist\r\n".encode(), 1
        with path.open("rb") as file:
            file.seek(given["Offset"])
            return said(base64.b64encode(file.read(given["BufferSize"])).decode())

    def module(self, given: Mapping[str, Any], before: list[Mapping[str, Any]]) -> Answer:
        """Run a module, as whoever and in whatever way the actions before it say."""
        match = MODULE.match(given["Script"])
        name = ".".join(match.groups()) if match else given["Script"].removesuffix(".ps1")
        arguments = next(one["Value"] for one in given["Variables"] if one["Name"] == "complex_args")
        context = Context(
            self.wine,
            self.machine,
            check=bool(arguments.get("_ansible_check_mode")),
            diff=bool(arguments.get("_ansible_diff")),
            environment={key: str(value) for key, value in (given.get("Environment") or {}).items()},
            user=self.machine.user,
        )
        timeout, job = 0, None
        for action in before:
            if action["name"] == "become_wrapper.ps1":
                context.user = str(action["params"].get("BecomeUser", "SYSTEM"))
            elif action["name"] == "async_wrapper.ps1":
                job = action["params"]
            elif action["name"] == "async_watchdog.ps1":
                timeout = int(action["params"]["Timeout"])
            else:
                raise Refused(f"This test target has no stand-in for {action['name']}.")
        work = functools.partial(self.called, name, arguments, context, bool(job))
        result = self.begin(job, timeout, work, context) if job else work()
        return said(json.dumps(result), 1 if result.get("failed") else 0)

    def called(self, name: str, arguments: Mapping[str, Any], context: Context, in_background: bool) -> Result:
        """Call a stand-in, and write down that it was called."""
        began = time.time()
        try:
            result = self.stand_in(name, arguments, context)
        except Failed as error:
            result = error.result
        except Exception as error:
            LOG.exception("the stand-in of %s failed", name)
            result = {"failed": True, "msg": f"The stand-in of {name} failed: {error!r}; see the target's server.log."}
        if context.warnings:
            result["warnings"] = context.warnings
        shown = {key: value for key, value in arguments.items() if not key.startswith("_ansible")}
        hidden = bool(arguments.get("_ansible_no_log"))
        self.note(
            {
                "module": name,
                "arguments": "hidden by no_log" if hidden else shown,
                "check": context.check,
                "user": context.user,
                "async": in_background,
                "seconds": round(time.time() - began, 3),
                "result": {key: result[key] for key in ("changed", "failed", "skipped", "rc") if key in result}
                | ({} if hidden else {key: result[key] for key in ("msg",) if key in result}),
            }
        )
        result.setdefault("changed", False)
        result.setdefault("invocation", {"module_args": shown})
        return result

    def stand_in(self, name: str, arguments: Mapping[str, Any], context: Context) -> Result:
        """Find a module's stand-in, check the arguments, call it."""
        function = STAND_INS.get(name)
        if function is None:
            raise Failed(f"{name} has no stand-in on this test target; it has {', '.join(sorted(STAND_INS))}")
        if context.user != self.machine.user and not self.known(context.user):
            raise Failed(
                f"Failed to become user {context.user}: CreateProcessAsUser failed: The user name or password is "
                "incorrect. (Win32ErrorCode 1326)"
            )
        try:
            checked = options.validated(name, arguments, self.specifications[name])
        except options.OptionError as error:
            raise Failed(str(error)) from None
        return function(checked, context)

    def known(self, user: str) -> bool:
        """Return whether there is such a user."""
        return user.lower() in SYSTEM_USERS or bool(store.entry(store.read(self.machine.folder)["users"], user))

    def begin(self, job: Mapping[str, Any], timeout: int, work: Callable[[], Result], context: Context) -> Result:
        """Run in the background; what becomes of it goes to a file that async_status reads."""
        folder = context.expanded(job["AsyncDir"])
        place = self.wine.path(folder)
        place.mkdir(parents=True, exist_ok=True)
        name = f"{job['AsyncJid']}.{threading.get_native_id()}"
        path, generation = place / name, self.generation
        first: Result = {
            "started": True,
            "finished": False,
            "results_file": f"{folder}\\{name}",
            "ansible_job_id": name,
            "_ansible_suppress_tmpdir_delete": True,
            "ansible_async_watchdog_pid": threading.get_native_id(),
        }
        path.write_text(json.dumps(first))

        def finish(result: Result) -> None:
            if self.generation == generation and not json.loads(path.read_text()).get("finished"):
                draft = path.with_name(path.name + ".new")
                draft.write_text(json.dumps({**first, "finished": True, **result}))
                draft.replace(path)

        def watch() -> None:
            worker = threading.Thread(target=lambda: finish(work()), daemon=True)
            worker.start()
            worker.join(timeout)
            if worker.is_alive():
                finish(
                    {"failed": True, "msg": "failure during async watchdog: timed out waiting for module completion"}
                )

        threading.Thread(target=watch, daemon=True).start()
        return first

    def rebooted(self, machine: Machine) -> None:
        """Take over what the machine is after a boot."""
        self.machine = replace(machine)
        self.generation += 1
