"""Action `hostkit`: run the program ``plugins/module_utils/hostkit`` on the host, one request in, one result out.

    - name: Make the environment
      hostkit:
        verb: env
        request: "{{ torch_environment }}"

The program travels with each request (a zip of some 20 kB on standard input), so nothing must be installed first, no
version can be stale, and a request with a secret in it never stands in a command line or in the host's log. It is no
module of Ansible's that carries it: a module repeats its arguments in its answer, and with ``-vvv`` Ansible prints
that, whatever no_log says.
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
BOOT = (
    "import atexit, base64, os, shutil, sys, tempfile; "
    "folder = tempfile.mkdtemp(prefix='hostkit-'); atexit.register(shutil.rmtree, folder, True); "
    "archive = os.path.join(folder, 'hostkit.pyz'); "
    "open(archive, 'wb').write(base64.b64decode(sys.stdin.readline())); "
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
        python = arguments.get("python") or variables["ansible_facts"].get("discovered_interpreter_python")
        python = python or variables.get("ansible_python_interpreter") or "python3"
        answer = self._low_level_execute_command(shlex.join([python, "-c", BOOT]), in_data=stdin.encode())
        return result_of(answer, [login["password"] for login in logins.values()])

    def logins(self, variables: dict[str, Any]) -> dict[str, dict[str, str]]:
        """The logins of mirrors, as plain text."""
        given = variables.get("lab_mirror_credentials") or {}
        if variables.get("inventory_hostname") == "localhost" and not given:  # it is no host of the lab: the first's
            hosts = [variables["hostvars"][host] for host in variables["groups"]["all"][:1]]
            given = next((host.get("lab_mirror_credentials") for host in hosts), None) or {}
        found = self._templar.template(given) if given else {}
        return {str(host): {key: str(row[key]) for key in ("user", "password")} for host, row in found.items()}


def result_of(answer: dict[str, Any], secrets: Iterable[str] = ()) -> dict[str, Any]:
    """A task's result out of what the host said: the program's JSON, or why there is none, without the secrets."""
    try:
        said = json.loads(str(answer.get("stdout", "")).strip().splitlines()[-1])
        failed = bool(said["failed"])
    except (ValueError, LookupError, TypeError):
        words = str(answer.get("stderr") or answer.get("stdout") or "").strip() or "no words"
        for secret in secrets:
            words = words.replace(secret, "***")
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
