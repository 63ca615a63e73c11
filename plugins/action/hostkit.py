"""Action `hostkit`: run the program ``plugins/module_utils/hostkit`` on the host, one request in, one result out.

    - name: Make the environment
      hostkit:
        verb: env
        request: "{{ torch_environment }}"

The program travels with each request (a zip of some 20 kB on standard input), so nothing must be installed first, no
version can be stale, and a request with a secret in it never stands in a command line or in the host's log. It is no
module of Ansible's that carries it: a module repeats its arguments in its answer, and with ``-vvv`` Ansible prints
that, whatever no_log says.
On Windows there is no Python before Conda's: ``hostkit_python`` says where that is, and ansible.windows.win_command
starts it with the same words on its standard input. Of that module's answer only what the program wrote is used: all
else of it, the request among it, is dropped.
Check mode and diff are answered by the program itself. Logins of mirrors (``lab_mirror_credentials``) are put beside a
request that fetches at the last moment, so they are in no task's arguments; what comes back is cleared of them.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

SOURCE = Path(__file__).resolve().parents[1] / "module_utils" / "hostkit"
START = "import sys; from hostkit.__main__ import main; sys.exit(main(sys.argv[1:]))\n"
# Reads the program from the first line of standard input, keeps it where only this user can, leaves nothing behind.
# As bytes: Windows may put a byte order mark before them, which base64 skips.
BOOT = (
    "import atexit, base64, os, shutil, sys, tempfile; "
    "folder = tempfile.mkdtemp(prefix='hostkit-'); atexit.register(shutil.rmtree, folder, True); "
    "archive = os.path.join(folder, 'hostkit.pyz'); "
    "open(archive, 'wb').write(base64.b64decode(sys.stdin.buffer.readline())); "
    "sys.dont_write_bytecode = True; sys.path.insert(0, archive); "
    "from hostkit.__main__ import main; sys.exit(main([]))"
)
FETCHING = ("take", "env", "model", "mirrors")  # verbs


@cache
def archive() -> bytes:
    """The program as a zipapp; the same bytes from the same source."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        texts = {f"hostkit/{path.name}": path.read_text(encoding="utf-8") for path in sorted(SOURCE.glob("*.py"))}
        for name, text in {"__main__.py": START, **texts}.items():
            pack.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


class ActionModule(ActionBase):
    """See the module's text."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the request, turn the answer into a task's result."""
        super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        arguments = self._task.args
        unknown = set(arguments) - {"verb", "request", "python"}
        if unknown or not {"verb", "request"} <= set(arguments):
            words = f"found {sorted(arguments)}, expected verb and request, and python at will"
            return {"failed": True, "msg": f"LW-HOSTKIT-005: wrong arguments of hostkit: {words}."}
        check = bool(self._task.check_mode)
        request = {"verb": arguments["verb"], "check": check, "request": arguments["request"]}
        try:
            logins = self.logins(variables) if arguments["verb"] in FETCHING else {}
        except (AttributeError, LookupError, TypeError):
            words = "lab_mirror_credentials is not of the form in docs/reference/inventory.md (it is not shown)"
            return {"failed": True, "msg": f"LW-HOSTKIT-007: {words}. Mend it in the vault."}
        text = json.dumps(request)
        if any(f"//{host}" in text for host in logins):  # a host that fetches from none of them gets none
            request["logins"] = logins
        stdin = base64.b64encode(archive()).decode("ascii") + "\n" + json.dumps(request)
        secrets = [login["password"] for login in logins.values()]
        if getattr(self._connection._shell, "_IS_WINDOWS", False):
            return self.on_windows(request, arguments.get("python"), stdin, variables, secrets)
        python = arguments.get("python") or variables["ansible_facts"].get("discovered_interpreter_python")
        python = str(python or self._templar.template(variables.get("ansible_python_interpreter") or "auto"))
        if python.startswith("auto"):  # Ansible's words for one that it finds, and it has not had to yet
            python = "python3"
        answer = self._low_level_execute_command(shlex.join([python, "-c", BOOT]), in_data=stdin.encode())
        return result_of(answer, secrets)

    def on_windows(
        self, request: dict[str, Any], python: str | None, stdin: str, variables: dict[str, Any], secrets: list[str]
    ) -> dict[str, Any]:
        """The same where PowerShell is what answers."""
        python = python or self._templar.template(variables.get("hostkit_python"))
        if not python:
            words = (
                "hostkit_python is not set, and this host answers as Windows; expected the path of Conda's python.exe"
            )
            fix = "Put the host into the group windows (inventories/lab/group_vars/windows/wiring.yml sets it)."
            return {"failed": True, "msg": f"LW-HOSTKIT-008: {words}. {fix}"}
        task, check = self._task, self._task.check_mode
        task.check_mode = False  # win_command would do nothing; the request says whether anything is to be changed
        try:
            argv = {"argv": [python, "-c", BOOT], "stdin": stdin}
            answer = self._execute_module("ansible.windows.win_command", argv, task_vars=variables, wrap_async=False)
        finally:
            task.check_mode = check
        if answer.get("failed") and "stdout" not in answer:
            return no_python(request, f"{python} does not start: {hidden(str(answer.get('msg')), secrets)}")
        return result_of(answer, secrets)

    def logins(self, variables: dict[str, Any]) -> dict[str, dict[str, str]]:
        """The logins of mirrors, as plain text."""
        given = variables.get("lab_mirror_credentials") or {}
        if variables.get("inventory_hostname") == "localhost" and not given:  # it is no host of the lab: the first's
            hosts = [variables["hostvars"][host] for host in variables["groups"]["all"][:1]]
            given = next((host.get("lab_mirror_credentials") for host in hosts), None) or {}
        found = self._templar.template(given) if given else {}
        return {str(host): {key: str(row[key]) for key in ("user", "password")} for host, row in found.items()}


def no_python(request: dict[str, Any], words: str) -> dict[str, Any]:
    """What a request comes to on a Windows host where Python is not there yet, or not any more."""
    inner = request["request"]
    if request["verb"] == "sweep" or (isinstance(inner, dict) and inner.get("state") == "absent"):
        warning = f"LW-HOSTKIT-010: {words}. Nothing of it was looked at or removed."
        return {"changed": False, "data": {}, "msg": words, "warnings": [warning]}
    if request["check"]:
        return {"changed": True, "data": {}, "msg": "not looked at: Python comes with Conda, which is not there yet"}
    fix = "It comes with Conda: role anaconda brings it (playbooks/preflight.yml); or mend hostkit_python."
    return {"failed": True, "msg": f"LW-HOSTKIT-010: {words}. Expected Python. {fix}"}


def hidden(words: str, secrets: Iterable[str]) -> str:
    """Another program's words without our secrets."""
    for secret in secrets:
        words = words.replace(secret, "***")
    return words


def result_of(answer: dict[str, Any], secrets: Iterable[str] = ()) -> dict[str, Any]:
    """A task's result out of what the host said: the program's JSON, or why there is none, without the secrets."""
    try:
        said = json.loads(str(answer.get("stdout", "")).strip().splitlines()[-1])
        failed = bool(said["failed"])
    except (ValueError, LookupError, TypeError):
        words = hidden(str(answer.get("stderr") or answer.get("stdout") or "").strip() or "no words", secrets)
        return {"failed": True, "msg": f"LW-HOSTKIT-006: hostkit did not answer on this host: {words}"}
    if failed:
        return {"failed": True, "changed": False, "code": said["code"], "msg": said["message"]}
    result = {"changed": said["changed"], "data": said["data"], "msg": said["message"]}
    if said.get("warning"):
        result["warnings"] = [said["warning"]]
    if said["changed"] and (said["before"] or said["after"]):
        header = {"before_header": said["message"]} if said["message"] else {}
        result["diff"] = {"before": said["before"], "after": said["after"], **header}
    return result
