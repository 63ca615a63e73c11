"""Entry point: ``hostkit`` reads a request on standard input, ``hostkit VERB FILE`` reads it from a file.

The request is ``{"verb": …, "check": bool, "request": {…}}`` on standard input, with ``logins`` of servers beside it
where they are needed, or the inner object alone in a file.
The answer is one line of JSON; the exit status is 0, 1 for a problem, 2 for a request that cannot be read, and 99 where
a service is given up: NSSM then does not start it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hostkit import VERBS, login
from hostkit.result import Problem

STATUS = {"LW-SERVICE-003": 99}


def answer(verb: str, request: dict[str, Any], check: bool) -> dict[str, Any]:
    """Run one verb; every failure comes back as an object with an id, never as a traceback."""
    if verb not in VERBS:
        return failure("LW-HOSTKIT-001", f"no verb {verb!r}; expected one of {', '.join(VERBS)}.")
    try:
        module = importlib.import_module(f"hostkit.{verb}")
        result: dict[str, Any] = module.run(request, check).as_dict()
    except Problem as problem:
        return failure(problem.code, problem.message)
    except KeyError as error:
        return failure(
            "LW-HOSTKIT-002", f"the request for {verb!r} lacks {error}; the plan that made it is incomplete."
        )
    except OSError as error:
        return failure("LW-HOSTKIT-003", f"{verb}: the system refused: {error}.")
    except Exception as error:  # the last line of defence: the id and the place, not a traceback
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return failure(
            "LW-HOSTKIT-009", f"{verb}: unexpected {type(error).__name__} at {place}: {error}. Please report it."
        )
    return result


def failure(code: str, message: str) -> dict[str, Any]:
    """A problem in the shape of a result."""
    return {"failed": True, "changed": False, "code": code, "message": f"{code}: {message}"}


def main(argv: list[str]) -> int:
    """Command line; see the module's text."""
    os.umask(0o022)  # services run as another user and must read what is made here, whatever root's login says
    try:
        if len(argv) == 2:
            verb, request, check = argv[0], json.loads(Path(argv[1]).read_text(encoding="utf-8")), False
        else:
            whole = json.loads(sys.stdin.buffer.read().decode("utf-8-sig"))  # whatever the code page
            verb, request, check = whole["verb"], whole["request"], bool(whole.get("check"))
            login.use(whole.get("logins", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(json.dumps(failure("LW-HOSTKIT-000", f"the request cannot be read: {error}.")))
        return 2
    result = answer(verb, request, check)
    result["message"] = login.hide(result["message"])  # a program that failed may have repeated what it was told
    print(json.dumps(result, ensure_ascii=True))
    return STATUS.get(result.get("code", ""), 1) if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
