"""Programs, and what the connection itself asks for."""

from __future__ import annotations

import datetime
import json
import ntpath
import os
import re

from .context import Context, Failed, Result, stand_in

POWERSHELL = re.compile(r"\b(powershell|pwsh)(\.exe)?\b", re.IGNORECASE)
MKLINK = re.compile(r'^(?:\S*\\)?"?cmd(?:\.exe)?"? /c mklink (/\w) (".+?"|\S+) (".+?"|\S+)$', re.IGNORECASE)
# What CreateProcess says; the words are .NET's.
ERRORS = {
    2: "The system cannot find the file specified",
    3: "The system cannot find the path specified",
    5: "Access is denied",
    193: "%1 is not a valid Win32 application",
    267: "The directory name is invalid",
}


@stand_in("ansible.windows.win_ping")
def win_ping(args: Result, _: Context) -> Result:
    """Answer."""
    if args["data"] == "crash":
        raise Failed("Unhandled exception while executing module: boom")
    return {"changed": False, "ping": args["data"]}


def junction(line: str, context: Context) -> Result | None:
    """Make a junction, which Wine 8 cannot: a link in the prefix stands for it. None where that is not the command."""
    match = MKLINK.match(line)
    if match is None:
        return None
    if match[1].lower() != "/j":
        raise Failed(f"mklink {match[1]}: this test target makes junctions (/J) only")
    link, target = (context.path(one.strip('"')) for one in (match[2], match[3]))
    if os.path.lexists(link):
        return {"rc": 1, "stdout": "", "stderr": "Cannot create a file when that file already exists.\r\n"}
    if not link.parent.is_dir():
        return {"rc": 1, "stdout": "", "stderr": "The system cannot find the path specified.\r\n"}
    link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    said = f"Junction created for {match[2]} <<===>> {match[3]}\r\n"
    return {"rc": 0, "stdout": said, "stderr": ""}


def refuse_powershell(line: str) -> None:
    """Wine's powershell.exe does nothing and ends with 0."""
    if POWERSHELL.search(line):
        raise Failed(f"This test target has no PowerShell, and the command line asks for it: {line[:200]}")


@stand_in("ansible.windows.win_command")
def win_command(args: Result, context: Context) -> Result:
    """Run a program."""
    given = [name for name in ("_raw_params", "cmd", "argv") if args.get(name)]
    if len(given) != 1:
        raise Failed(
            "parameters are mutually exclusive: _raw_params, argv, cmd"
            if given
            else "one of the following is required: _raw_params, argv, cmd"
        )
    if args.get("output_encoding_override"):
        raise Failed("output_encoding_override: this test target has no code pages; all output is UTF-8")
    line = context.say(args[given[0]] if given[0] == "argv" else args[given[0]].strip())
    result: Result = {"changed": False, "cmd": line, "rc": 0}
    for option, wanted in (("creates", True), ("removes", False)):
        name = args.get(option)
        if name and os.path.lexists(context.path(name)) == wanted:
            said = "exists" if wanted else "does not exist"
            return {**result, "skipped": True, "msg": f"skipped, since {name} {said}"}
    if context.check:
        return {**result, "skipped": True, "msg": "skipped, running in check mode"}
    refuse_powershell(line)
    began = datetime.datetime.now(datetime.UTC)
    folder = args.get("chdir") or ""
    made = junction(line, context)
    if made is None:
        stdin = args.get("stdin")
        ended = context.run(
            line,
            folder=ntpath.normpath(context.expanded(folder)) if folder else "",
            stdin=b"" if stdin is None else (stdin + "\r\n").encode(),
        )
        if ended.error:
            why = ERRORS.get(ended.error, f"error {ended.error}")
            raise Failed(
                f"Failed to run: '{line}': Exception calling \"CreateProcess\": {why}", **result | {"rc": ended.error}
            )
        made = {
            "rc": ended.rc,
            "stdout": ended.stdout.decode("utf-8", "replace"),
            "stderr": ended.stderr.decode("utf-8", "replace"),
        }
    over = datetime.datetime.now(datetime.UTC)
    result.update(
        made,
        changed=True,
        start=f"{began:%Y-%m-%d %H:%M:%S.%f}",
        end=f"{over:%Y-%m-%d %H:%M:%S.%f}",
        delta=str(over - began),
    )
    if result["rc"]:
        raise Failed("non-zero return code", **result)
    return result


@stand_in("ansible.windows.async_status")
def async_status(args: Result, context: Context) -> Result:
    """Tell what became of a job."""
    folder, job = args["_async_dir"], args["jid"]
    path = context.path(folder) / job
    if not path.is_file():
        raise Failed(f"could not find job at '{folder}'", ansible_job_id=job, started=1, finished=1)
    if args["mode"] == "cleanup":
        path.unlink()
        return {"ansible_job_id": job, "erased": context.wine.windows(path)}
    return dict(json.loads(path.read_text()))
