"""win_nssm, with the real nssm.exe; only tests of its traps call it, Labwright's own services do not."""

from __future__ import annotations

import ntpath
import re
from collections.abc import Sequence

from . import services
from .context import Context, Failed, Result, stand_in

STARTS = {
    "auto": "SERVICE_AUTO_START",
    "delayed": "SERVICE_DELAYED_AUTO_START",
    "manual": "SERVICE_DEMAND_START",
    "disabled": "SERVICE_DISABLED",
}


class Nssm:
    """One call of the module: nssm.exe, the service, and what has changed."""

    def __init__(self, args: Result, context: Context) -> None:
        """Nothing is called yet."""
        self.args, self.context, self.name = args, context, args["name"]
        self.result: Result = {"changed": False}

    def call(self, *words: str) -> tuple[int, str, str]:
        """Call nssm.exe; its output is UTF-16 where it has a console."""
        ended = self.context.run([self.args["executable"], *words])
        if ended.error:
            raise Failed(f"{self.args['executable']}: Windows says {ended.error}")

        def text(data: bytes) -> str:
            return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-8", "replace")

        return ended.rc, text(ended.stdout), text(ended.stderr)

    def need(self, what: str, *words: str) -> str:
        """Call nssm.exe; raise Failed where it fails."""
        rc, out, error = self.call(*words)
        if rc:
            raise Failed(
                f'Error {what} for service "{self.name}"',
                **self.result,
                nssm_error_log=error or out,
                nssm_error_cmd=self.context.say(words),
            )
        return out

    def changed(self, by: str) -> None:
        """Note a change."""
        self.result.update(changed=True, changed_by=by)

    def update(self, parameter: str, wish: Sequence[object]) -> None:
        """Set a parameter where it differs; the module compares without regard to case or order."""
        words = [str(one) for one in wish if str(one) != ""]
        now = [
            one
            for one in re.split(r"[\r\n]+", self.need(f"retrieving {parameter}", "get", self.name, parameter))
            if one
        ]
        if sorted(one.lower() for one in now) == sorted(one.lower() for one in words):
            return
        if not self.context.check:
            verb = ("set", self.name, parameter, *words) if words else ("reset", self.name, parameter)
            self.need(f"setting {parameter}", *verb)
        self.changed(parameter)

    def configure(self) -> None:
        """Bring all parameters in order, in the module's own order."""
        args, one = self.args, self.args.get
        self.update("Application", [args["application"]])
        for parameter, option in (("DisplayName", "display_name"), ("Description", "description")):
            if one(option) is not None:
                self.update(parameter, [args[option]])
        self.update("AppDirectory", [one("working_directory") or ntpath.dirname(args["application"])])
        if one("arguments") is not None:
            words = args["arguments"]
            single = self.context.say([str(word) for word in words]) if isinstance(words, list) else str(words)
            self.update("AppParameters", [single])
        for parameter, option in (("AppStdout", "stdout_file"), ("AppStderr", "stderr_file")):
            if one(option) is not None:
                self.update(parameter, [args[option]])
        if one("app_environment") is not None:
            pairs = sorted(args["app_environment"].items())
            self.update("AppEnvironmentExtra", [f"{name}={value}" for name, value in pairs])
        # Logs are truncated at each start: this is what the module does, and why Labwright does not use it.
        fixed = {"AppStdoutCreationDisposition": 2, "AppStderrCreationDisposition": 2, "AppRotateFiles": 1}
        rotation = {"Online": args["app_rotate_online"], "Seconds": 86400, "Bytes": args["app_rotate_bytes"]}
        for parameter, value in (fixed | {f"AppRotate{name}": one for name, one in rotation.items()}).items():
            self.update(parameter, [value])
        if one("dependencies") is not None:
            self.update("DependOnService", args["dependencies"])
        if one("username"):
            raise Failed("username: nssm.exe crashes in Wine when it sets an account")
        if one("app_stop_method_console") is not None:
            self.update("AppStopMethodConsole", [args["app_stop_method_console"]])
        self.update("Start", [STARTS[args["start_mode"]]])

    def bring(self, state: str) -> None:
        """Start or stop."""
        if state in ("stopped", "restarted") and "SERVICE_STOPPED" not in self.need("querying", "status", self.name):
            if not self.context.check:
                self.need("stopping", "stop", self.name)
            self.changed("stop_service")
        if state not in ("started", "restarted"):
            return
        now = self.need("querying", "status", self.name)
        if "SERVICE_RUNNING" not in now:
            if not self.context.check:
                if "SERVICE_STOPPED" not in now:
                    self.need("stopping", "stop", self.name)
                self.need("starting", "start", self.name)
            self.changed("start_service")


@stand_in("community.windows.win_nssm")
def win_nssm(args: Result, context: Context) -> Result:
    """Install, change or remove a service with nssm.exe."""
    work, found = Nssm(args, context), services.listed(context, args["name"])
    if args["state"] == "absent":
        if found:
            if not context.check:
                if found[0]["state"] != 1:
                    work.call("stop", work.name)
                work.need("removing", "remove", work.name, "confirm")
            work.changed("remove_service")
        return work.result
    if not args.get("application"):
        raise Failed("The application parameter must be defined when the state is not absent.")
    if not context.path(args["application"]).is_file():
        raise Failed(f'The application specified "{args["application"]}" does not exist on the host.')
    if not found:
        work.changed("install_service")
        if context.check:
            return work.result
        work.need("installing", "install", work.name, args["application"])
    work.configure()
    work.bring(args["state"])
    return work.result
