"""Render what has its one source elsewhere: `python docs/render.py`.

Of docs/reference, inventory.md comes from the table of `lab_*` variables, models.md from the catalogue, problems.md
from the sentences of plan, verdict, agents and other code, locks.md from the stacks, their locks, the wheels whose sum
is known, and the trials. windows-traps.md and parity.md come from the tests (proofs.py), with how they ended:
`python docs/render.py parity --results build/junit/*.xml`. Each role's README.md comes from its argument_specs. Of
docs/pictures, plan.svg is the plan of the hosts on paper in docs/plan.md, made anew each time, and verdict.svg the
demo's verdict as it was recorded beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins/module_utils"), str(ROOT / "docs")]

import drawing  # noqa: E402
import ids  # noqa: E402
import proofs  # noqa: E402
from hostkit.cures import CURES  # noqa: E402
from labwright import catalog, memory, wishes  # noqa: E402
from labwright.catalog import Catalogue, Stack  # noqa: E402
from labwright.inventory import TOKENS  # noqa: E402

LOGIC = ROOT / "plugins/module_utils/labwright"
REFERENCE = ROOT / "docs/reference"
PICTURES = ROOT / "docs/pictures"
CHINESE = ROOT / "docs/zh/pictures"
WIRING = ROOT / "inventories/lab/group_vars/windows/wiring.yml"
INVENTORY = """# What an inventory may wish for

Rendered from `plugins/module_utils/labwright/wishes.yml` by `docs/render.py`; not edited by hand. A `lab_*` variable
that is not in this table is refused, with the name that was probably meant. Set them for all hosts in
`group_vars/all/`, for one host in `host_vars/NAME.yml`.

| variable | default | may be | what it is |
|---|---|---|---|
"""
MODELS = """# Models that a lab can serve / 可以提供的模型

Rendered from `env/catalog/models.yml` by `docs/render.py`; not edited by hand. A name goes into `lab_models`; the plan
picks the best kind that fits. Memory is reckoned, not measured: the weights, one conversation of {tokens} tokens and
what the computing takes, in MiB of a GPU. The plan leaves a margin of 5 % too (at least {margin} MiB). Another model is
one entry more in that file: [add a model](../extend.md#a-model).

把名字写进 `lab_models`，规划会选出放得下的最好形式。显存（MiB）是计算值，不是实测值：权重、一段 {tokens} 个 token
的对话和计算所需；规划还会留出 5 %（至少 {margin} MiB）的余量。添加模型就是在 `env/catalog/models.yml`
里加一项（[怎样加](../zh/extend.md)）。

| model | what it is | GPU memory MiB | context | licence |
|---|---|---|---|---|
"""
PROBLEMS = """# Every sentence with an id, and what to do / 所有带编号的信息和处理办法

Search this page for the id that you saw. Words in braces stand for what was found. What plan, verdict, agents and the
check of pins say is there in English and Chinese; a sentence in English alone comes from a role, a service, or a
program that people run by hand. An id without a second sentence is a rule by which an option was rejected, or a fact
worth knowing.

请在本页搜索您看到的编号。花括号中的词代表实际发现的内容。规划、验证结论、智能体和版本检查的信息有中英文；只有英文的来自角色、服务或手动运行的程序。

Rendered by `docs/render.py` from `plugins/module_utils/labwright/words.yml`, `plugins/module_utils/hostkit/cures.py`,
`agents/labwright_agents/words.json`, `env/catalog/known.yml`, and the code; not edited by hand.

"""

LOCKS = """# Which stacks are locked, for which torch builds, and what was tried

Rendered by `docs/render.py` from `env/stacks/*/stack.yml`, the locks beside them, `env/catalog/wheels.yml` and
`env/trials.yml`; not edited by hand.

* **locked**: every package of that stack, build and platform is pinned with its sha256. Each lock is checked by
  `make lint` against its own wheels' metadata. The plan takes one of these wherever one fits.
* **lockable**: the sum of a wheel is known, but no lock was made. The plan takes such a build only where no locked one
  fits, and says that it cannot be installed (LW-PLAN-005).
* **not lockable**: nobody published the sum of a wheel for Python 3.11 that we could read. The plan does not offer it.
* **not admitted**: there is no torch release with this build that the stack works with.
* **tried**: `make trial` installed exactly this lock, and FastChat's real controller, worker and API answered with tiny
  models of the families named, each answer compared with transformers' own. CUDA builds were tried on a CPU: that
  shows that the versions work together, and nothing about a GPU. A trial counts only for the lock that it was made
  with. Windows locks were never installed: see [what is not verified](../not-verified.md).

"""


ROLE = """# {name}: {short}

Rendered from `{path}` by `docs/render.py`; not edited by hand.

{about}

| variable | default | may be | what it is |
|---|---|---|---|
"""


def inventory(table: dict[str, dict[str, Any]]) -> str:
    """The page of variables."""
    rows = []
    for name, row in table.items():
        default = f"`{json.dumps(row['default'], ensure_ascii=False)}`" if "default" in row else ""
        rows.append(f"| `{name}` | {default} | {wishes.kind(row['schema'])} | {' '.join(row['about'].split())} |\n")
    return INVENTORY + "".join(rows)


def models(rows: dict[str, dict[str, Any]]) -> str:
    """The page of models, the largest first."""
    page = MODELS.format(tokens=TOKENS, margin=memory.LEAST_MARGIN_MIB)
    for name, row in sorted(rows.items(), key=lambda one: (-int(one[1]["parameters"]), one[0])):
        need = ", ".join(f"{kind} {memory.needed_mib(row, kind, TOKENS, 'cuda')}" for kind in row["quantizations"])
        page += (
            f"| `{name}` | {' '.join(row['about'].split())} | {need} | {row['context_length']} | {row['licence']} |\n"
        )
    return page


def problems(words: dict[str, dict[str, dict[str, str]]], code: dict[str, list[str]]) -> str:
    """The page of problems and rules: those of the tables of words, then those that stand in code alone."""
    said = {
        identifier: [" ".join(row[language].values()) for language in ("en", "zh")]
        for identifier, row in words.items()
        if identifier.startswith("LW-")
    }
    said = {one: [plain(line) for line in lines] for one, lines in code.items()} | said
    return PROBLEMS + "\n".join(
        f"## {one}\n\n" + "".join(f"{line}\n\n" for line in said[one])[:-1] for one in sorted(said)
    )


def plain(text: str) -> str:
    """A sentence of a program, with nothing in it that Markdown would take for a mark."""
    return re.sub(r"([*<\[\]|])", r"\\\1", text)


def of_pins() -> dict[str, dict[str, dict[str, str]]]:
    """What the check of pins says, in the shape of the plan's words."""
    known = yaml.safe_load((ROOT / "env/catalog/known.yml").read_text(encoding="utf-8"))
    return {
        row["id"]: {
            language: {name: row.get(name, {}).get(language, "") for name in ("message", "fix")}
            for language in ("en", "zh")
        }
        for row in known
    }


def causes() -> dict[str, dict[str, dict[str, str]]]:
    """The causes that hostkit tells apart, in the shape of the plan's words."""
    names = ("message", "fix")
    return {
        one: {language: dict(zip(names, said, strict=True)) for language, said in row.items()}
        for one, row in CURES.items()
    }


def of_agents() -> dict[str, dict[str, dict[str, str]]]:
    """What the agents' programs say, in the same shape."""
    said = json.loads((ROOT / "agents/labwright_agents/words.json").read_text(encoding="utf-8"))
    plain = {
        one: {name: text.replace("{{", "{").replace("}}", "}") for name, text in row.items()}
        for one, row in said.items()
    }
    return {one: {name: {"message": text} for name, text in row.items()} for one, row in plain.items()}


def marked(words: str | list[str]) -> str:
    """Ansible's own marks as Markdown: C(code), O(option), V(value), I(italic), B(bold)."""
    text = " ".join(" ".join([words] if isinstance(words, str) else words).split())
    for sign, mark in (("[COV]", "`"), ("I", "*"), ("B", "**")):
        text = re.sub(rf"\b{sign}\(((?:[^()]|\([^()]*\))*)\)", rf"{mark}\1{mark}", text)
    return text.replace("|", "\\|")


def options(found: dict[str, dict[str, Any]], above: str = "") -> list[str]:
    """A row for each option of a role, and for each of those that it holds."""
    rows = []
    for name, one in found.items():
        given = one.get("default")
        words = given if given and isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        default = f"`{words}`" if "default" in one else ""
        may = one.get("type", "str") + (f" of {one['elements']}" if "elements" in one else "")
        if "choices" in one:
            may = ", ".join(f"`{choice}`" for choice in one["choices"])
        may += ", required" if one.get("required") else ""
        rows.append(f"| `{above}{name}` | {default} | {may} | {marked(one['description'])} |\n")
        rows += options(one.get("options", {}), f"{above}{name}.")
    return rows


def role(specs: Path) -> str:
    """The README of a role."""
    main = yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]
    about = "\n\n".join(marked(one) for one in main.get("description", []))
    head = ROLE.format(
        name=specs.parents[1].name,
        short=marked(main["short_description"]),
        path=specs.relative_to(ROOT).as_posix(),
        about=about,
    )
    return head.replace("\n\n\n", "\n\n") + "".join(options(main["options"]))


def tried(stack: Stack, tag: str, platform: str, trials: list[dict[str, Any]]) -> str:
    """What a trial of exactly these locks showed."""
    digest = hashlib.sha256("".join(layer.digest for layer in stack.layers(tag, platform)).encode()).hexdigest()
    for row in trials:
        if (row["stack"], row["tag"], row["platform"]) == (stack.name, tag, platform):
            if digest.startswith(row["digest"]):
                return f"{row['date']} on a {row['device'].upper()}: {', '.join(row['families'])}"
            return f"not since {row['date']} (other locks)"
    return "no"


def state(stack: Stack, tag: str, platform: str, found: Catalogue) -> tuple[str, str]:
    """Whether a build is locked or could be; and the torch release that says so."""
    locked = [build for where, build in stack.locked if where == platform and build.endswith(f"+{tag}")]
    if locked:
        return "locked", locked[0].partition("+")[0]
    admitted = [one for one in found.torch.releases if tag in one.tags and one.torch in SpecifierSet(stack.torch)]
    known = [one.torch for one in admitted if (one.torch, tag, platform, stack.python) in found.torch.wheels]
    if known:
        return "lockable", known[-1]
    return ("not lockable" if admitted else "not admitted"), ""


def locks(found: Catalogue, trials: list[dict[str, Any]]) -> str:
    """The page of stacks and builds."""
    tags = sorted({tag for release in found.torch.releases for tag in release.tags})
    parts = [LOCKS]
    for stack in found.stacks.values():
        parts.append(f"## {stack.name}\n\n{stack.why} Python {stack.python}.\n\n")
        if stack.transformers:
            parts.append("| build | platform | state | torch | tried |\n|---|---|---|---|---|\n")
            engine = found.engines[stack.engine]
            own = [tag for tag in tags if ("cpu" if tag == "cpu" else "cuda") in engine.devices]
            for tag, platform in itertools.product(own, engine.platforms):
                row = (tag, platform, *state(stack, tag, platform, found), tried(stack, tag, platform, trials))
                parts.append(f"| {' | '.join(row)} |\n")
        else:
            there = sorted({lock.platform for lock in stack.locks})
            torch = sorted({build for _platform, build in stack.locked})
            parts.append(f"Locked for {' and '.join(there)}{', with torch ' + ', '.join(torch) if torch else ''}.\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """Every rendered page with its text."""
    wishes = yaml.safe_load((LOGIC / "wishes.yml").read_text(encoding="utf-8"))
    words = yaml.safe_load((LOGIC / "words.yml").read_text(encoding="utf-8"))
    trials = yaml.safe_load((ROOT / "env/trials.yml").read_text(encoding="utf-8")) or []
    catalogue = catalog.load(ROOT / "env", None)
    chinese = yaml.safe_load((PICTURES / "zh.yml").read_text(encoding="utf-8"))
    return {
        REFERENCE / "inventory.md": inventory(wishes),
        REFERENCE / "models.md": models(catalogue.models),
        REFERENCE / "problems.md": problems(words | causes() | of_agents() | of_pins(), ids.every(ROOT)),
        REFERENCE / "locks.md": locks(catalogue, trials),
        REFERENCE / "windows-traps.md": proofs.traps_page(),
        REFERENCE / "parity.md": proofs.parity_page(proofs.results()),
        **{
            folder / "plan.svg": drawing.terminal(drawing.plan_on_paper(ROOT / "docs/plan.md", WIRING, catalogue, one))
            for one, folder in (("en", PICTURES), ("zh", CHINESE))
        },
        **{CHINESE / name: drawing.translated(PICTURES / name, chinese) for name in ("road.svg", "topology.svg")},
        PICTURES / "verdict.svg": drawing.terminal(drawing.recorded_verdict(PICTURES / "verdict.json")),
        **{
            specs.parents[1] / "README.md": role(specs)
            for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
        },
    }


def main() -> int:
    """Write the pages."""
    parser = argparse.ArgumentParser(description="Render what has its one source elsewhere.")
    parser.add_argument("what", nargs="?", choices=["pages", "parity"], default="pages")
    parser.add_argument("--results", nargs="+", type=Path, default=[], help="JUnit files of pytest's, for parity")
    options = parser.parse_args()
    if options.results:
        proofs.keep(options.results)
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
