"""labwright-agent, the command that role autogen leaves, before a systemd-run that says what it would start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from unit.programs import ROOT

ROLE = ROOT / "roles/autogen"
# As the service manager does it, systemd.service(5): a word that begins with $ is a variable's words, and ${…} in
# others its value. None is set.
SYSTEMD = f"""#!{sys.executable}
import json, re, sys
words = sys.argv[1:]
begin = next(number for number, word in enumerate(words) if word.endswith("/bin/python"))
inside = [word for word in words[begin:] if not re.match("[$][^${{]", word)]
variable = re.compile(r"[$][$]|[$][{{][^}}]*[}}]")
inside = [variable.sub(lambda found: "$" if found[0] == "$$" else "", word) for word in inside]
print(json.dumps([words[:begin], inside]))
"""


def start(folder: Path, *words: str) -> tuple[list[str], list[str]]:
    """What systemd-run is given, and the arguments that reach the program."""
    given = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    given |= yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    own = {"autogen_environment": {"prefix": "/env"}, "autogen_at_once": 5, "ansible_managed": "Labwright"}
    text = (ROLE / "templates/labwright-agent.j2").read_text(encoding="utf-8")
    trusted = {name: trust_as_template(one) if isinstance(one, str) else one for name, one in (given | own).items()}
    command = Templar(DataLoader(), variables=trusted).template(trust_as_template(text))
    for name, content in {"labwright-agent": command, "systemd-run": SYSTEMD, "id": "#!/bin/sh\necho 0\n"}.items():
        (folder / name).write_text(content, encoding="utf-8")
        (folder / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([folder / "labwright-agent", *words], env=env, capture_output=True, text=True, check=True)
    options, inside = json.loads(done.stdout)
    begin, end = inside.index("labwright_agents") + 1, inside.index("--config")
    return options, inside[begin:end]


@pytest.mark.parametrize("text", ["$x^2=4$, solve", "a ${HOME} $$ b $c", "\\ & * 'x'\n\n中文\n", ""])
def test_what_is_asked_reaches_the_program_as_it_is(tmp_path: Path, text: str) -> None:
    words = ["assistant", "--task", text, "--json"]
    assert start(tmp_path, *words)[1] == words


def test_a_batch_has_room_for_each_of_its_conversations(tmp_path: Path) -> None:
    sizes = {}
    for name in ("assistant", "batch"):
        options = start(tmp_path, name)[0]
        sizes[name] = dict(re.findall(r"(\w+)=(\w+)", " ".join(options)))
        assert sizes[name]["OOMPolicy"] == "continue"
        sizes[name]["what"] = options[[one.partition("=")[0] for one in options].index("--description")]
    # playbooks/keys.yml waits for the one, and not for the other
    waited = re.search(r'contains: "(.*)"', (ROOT / "playbooks/keys.yml").read_text(encoding="utf-8"))
    assert waited
    assert [sizes[name]["what"].replace("--d", "D") == waited[1] for name in sizes] == [True, False]
    assert (sizes["assistant"]["MemoryMax"], sizes["batch"]["MemoryMax"]) == ("2048M", "10240M")
    assert (sizes["assistant"]["TasksMax"], sizes["batch"]["TasksMax"]) == ("256", "1280")
    assert (sizes["assistant"]["RuntimeMaxSec"], sizes["batch"]["RuntimeMaxSec"]) == ("900", "infinity")
