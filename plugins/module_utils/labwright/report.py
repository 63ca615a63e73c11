"""The plan for people and programs: a table, and JSON (docs/reference/plan.schema.json). Nothing is chosen here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from labwright import paths
from labwright.hardware import Gpu
from labwright.planned import Explained, Fleet, HostPlan, Worker
from labwright.words import Finding

FORMAT = 1
HEADS = {
    "en": ("host", "GPU", "torch", "model", "as", "memory MiB", "port"),
    "zh": ("主机", "GPU", "torch", "模型", "形式", "显存/内存 MiB", "端口"),
}
TEXTS = {
    "en": {
        "cpu": "CPU",
        "unknown": "not asked",
        "free": "free",
        "of": "{used} of {total}, {free} free",
        "why": "Why",
        "not": "not {value}: {reason}",
        "problems": "Problems",
        "notes": "Worth knowing",
        "waivers": "Waivers in force",
        "waiver": "{host}: {rule} for {value}: {reason}",
        "lab": "the lab",
        "colon": ": ",
        "met": "Every wish is met. Hosts: {hosts}, model workers: {workers}.",
        "unmet": "Not every wish is met. Problems: {count}.",
    },
    "zh": {
        "cpu": "CPU",
        "unknown": "未询问",
        "free": "空闲",
        "of": "{total} 中用 {used}，余 {free}",
        "why": "理由",
        "not": "不用 {value}：{reason}",
        "problems": "问题",
        "notes": "值得知道",
        "waivers": "生效的豁免",
        "waiver": "{host}：{value} 豁免 {rule}：{reason}",
        "lab": "整个实验室",
        "colon": "：",
        "met": "所有要求都能满足：{hosts} 台主机上共 {workers} 个模型工作进程。",
        "unmet": "有要求不能满足：{count} 个问题。",
    },
}


CHOICES: dict[str, dict[str, str]] = {
    "en": {},
    "zh": {
        "stack": "版本组合",
        "engine": "引擎",
        "quantization": "量化",
        "concurrency": "并发",
        "sandbox": "沙箱",
        "docker": "Docker",
        "port": "端口",
        "page": "网页",
        "duties": "职责",
    },
}
DUTIES: dict[str, dict[str, str]] = {"en": {}, "zh": {"controller": "控制器", "page": "网页", "agent": "智能体"}}
# Options that the printed reasons leave out, because they are many and stand in plan.json: builds that nobody has a
# checksum of, and those that would run too.
QUIET = {"LW-TORCH-002", "LW-TORCH-006", "LW-STACK-003"}


class Speaker:
    """Says findings in one language, each distinct explanation once: in a fleet most are shared."""

    def __init__(self, language: str) -> None:
        """``language`` as in ``words``."""
        self.language = language
        self.known: dict[int, dict[str, Any]] = {}
        self.kept: list[Explained] = []  # so that no id is used twice

    def choice(self, one: Explained) -> dict[str, Any]:
        """A choice with its reason and what was rejected."""
        key = id(one)
        if key not in self.known:
            self.kept.append(one)
            self.known[key] = {
                "choice": one.choice,
                "value": one.value,
                "because": one.because.say(self.language)["message"],
                "rejected": [
                    {"value": row.value, "id": row.why.id, "message": row.why.say(self.language)["message"]}
                    for row in one.rejected
                ],
            }
        return self.known[key]

    def findings(self, found: Sequence[Finding]) -> list[dict[str, str]]:
        """Problems or notes."""
        return [one.say(self.language) for one in found]


def as_json(lab: Fleet) -> dict[str, Any]:
    """The whole plan, as it is written."""
    speaker = Speaker(lab.language)
    hosts = {
        name: {**one.kept, "problems": one.kept["problems"] + speaker.findings(one.problems)}
        if one.kept
        else host_json(one, speaker)
        for name, one in lab.hosts.items()
    }
    return {
        "format": FORMAT,
        "lab": lab.name,
        "language": lab.language,
        "met": lab.met,
        "served": lab.served,
        "workers": lab.workers,
        "capacity": lab.capacity,
        "worker_urls": sorted(worker["url"] for one in hosts.values() for worker in one["workers"]),
        "problems": speaker.findings(lab.problems),
        "placed": lab.placed,
        "hosts": hosts,
    }


def host_json(plan: HostPlan, speaker: Speaker) -> dict[str, Any]:
    """One host's part."""
    hardware = plan.hardware
    windows = bool(hardware and hardware.platform == paths.WINDOWS)
    workers = [worker_json(one, at, plan.workers_listen, speaker, windows) for at, one in enumerate(plan.workers)]
    return {
        "host": plan.host,
        "address": plan.address,
        "source": hardware.source if hardware else "unknown",
        "platform": hardware.platform if hardware else "",
        "driver_version": hardware.driver_version if hardware else "",
        "memory_mib": hardware.memory_mib if hardware else 0,
        "gpus": gpus_json(plan),
        "duties": plan.duties,
        "workers": workers,
        "controller": plan.controller,
        "controller_url": plan.controller_url,
        "api": plan.api,
        "web": plan.web,
        "gateway": plan.gateway,
        "page": plan.page,
        "api_url": plan.api_url,
        "endpoints": plan.endpoints,
        "sandbox": plan.sandbox,
        **({"docker": plan.docker} if windows else {}),
        "choices": [speaker.choice(one) for one in plan.explain],
        "waivers": plan.waivers,
        "problems": speaker.findings(plan.problems),
        "notes": speaker.findings(plan.notes),
    }


def gpus_json(plan: HostPlan) -> list[dict[str, Any]]:
    """The host's cards, with what the plan puts on each."""
    found = []
    for gpu in plan.hardware.gpus if plan.hardware else ():
        planned = sum(one.each_mib for one in plan.workers if gpu.uuid in [card.uuid for card in one.gpus])
        found.append(
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "name": gpu.name,
                "compute_capability": gpu.compute_capability,
                "mig": gpu.mig,
                "memory_mib": gpu.memory_mib,
                "foreign_mib": gpu.foreign_mib,
                "holders": list(gpu.holders),
                "planned_mib": planned,
                "free_mib": gpu.memory_mib - gpu.foreign_mib - planned,
            }
        )
    return found


def worker_json(worker: Worker, order: int, listen: str, speaker: Speaker, windows: bool) -> dict[str, Any]:
    """One worker. Windows has no device files."""
    return {
        "name": worker.name,
        "model": worker.model,
        "model_names": worker.names,
        "engine": worker.engine,
        "engine_url": f"http://127.0.0.1:{worker.engine_port}" if worker.engine_port else "",
        "memory_share": worker.share,
        "stack": worker.stack,
        "python_version": worker.python,
        "torch": {"version": worker.build.torch, "tag": worker.build.tag, "torchvision": worker.build.torchvision},
        "quantization": worker.quantization,
        "device": worker.device,
        "gpus": [
            {"uuid": one.uuid, "name": one.name, "index": one.index, "devices": [] if windows else devices(one)}
            for one in worker.gpus
        ],
        "memory_mib": worker.memory_mib,
        "memory_each_mib": worker.each_mib,
        "context": worker.tokens,
        "concurrency": worker.concurrency,
        "replica": worker.replica,
        "order": order,
        "port": worker.port,
        "listen": listen,
        "url": f"http://{listen}:{worker.port}",
        "choices": [speaker.choice(one) for one in worker.explain],
    }


def devices(gpu: Gpu) -> list[str]:
    """The device files that a program needs for this card alone; where the driver does not say its number, its index is
    the best guess."""
    number = gpu.index if gpu.minor is None else gpu.minor
    return [f"/dev/nvidia{number}", *(["char-nvidia-caps"] if gpu.mig else [])]


def as_text(written: Mapping[str, Any]) -> str:
    """The plan as people read it, from its JSON: the table, the reasons, and all problems of all hosts together."""
    texts = TEXTS[written["language"]]
    parts = [table(rows_of(written), HEADS[written["language"]])]
    parts += [block(texts["why"], reasons(written, texts))]
    waivers = [texts["waiver"].format(host=name, **row) for name, one in hosts(written) for row in one["waivers"]]
    parts += [block(texts["waivers"], waivers)]
    parts += [block(texts["notes"], said(written, "notes", texts))]
    problems = said(written, "problems", texts)
    parts += [block(texts["problems"], problems)]
    end = texts["met"] if written["met"] else texts["unmet"]
    parts += [end.format(workers=written["workers"], hosts=len(written["hosts"]), count=len(problems))]
    return "\n\n".join(part for part in parts if part)


def hosts(written: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Hosts by name."""
    return sorted(written["hosts"].items())


def rows_of(written: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table's rows: for each host its cards with what runs on them, and what runs beside."""
    texts = TEXTS[written["language"]]
    found: list[tuple[str, ...]] = []
    for name, one in hosts(written):
        cards = [*one["gpus"]]
        if not cards or any(worker["device"] == "cpu" for worker in one["workers"]):
            cards.append({"uuid": "", "name": texts["cpu"] if one["platform"] else texts["unknown"]})
        first = True
        for card in cards:
            here = [worker for worker in one["workers"] if on(worker, card["uuid"])]
            for worker in here or [None]:
                found.append((name if first else "", *cells(card, worker, one, texts)))
                first = False
        words = DUTIES[written["language"]]
        ports = {"controller": one["controller"], "api": one["gateway"], "page": one.get("page")}
        duties = [f"{words.get(duty, duty)} {place['port']}" for duty, place in ports.items() if place]
        duties += [words.get("agent", "agent")] if "agent" in one["duties"] else []
        if duties:
            found.append(("", "", "", ", ".join(duties), "", "", ""))
    return found


def on(worker: Mapping[str, Any], uuid: str) -> bool:
    """Whether a worker runs on a card, or on the CPU, which has no UUID."""
    return uuid in [card["uuid"] for card in worker["gpus"]] if worker["gpus"] else not uuid


def cells(
    card: Mapping[str, Any], worker: Mapping[str, Any] | None, one: Mapping[str, Any], texts: Mapping[str, str]
) -> tuple[str, ...]:
    """One row without the host's name."""
    gpu = card["name"].removeprefix("NVIDIA ")
    if card["uuid"]:
        gpu = f"{card['index']}: {gpu} ({card['compute_capability']})"
        total, free = card["memory_mib"], card["free_mib"]
    else:
        total, free = one["memory_mib"], cpu_free(one)
    if worker is None:
        return gpu, "", "", "", f"{free} {texts['free']}" if card["uuid"] else "", ""
    used = worker["memory_each_mib"]
    build = f"{worker['torch']['version']}+{worker['torch']['tag']}"
    room = texts["of"].format(used=used, total=total or "?", free=free if total else "?")
    return gpu, build, worker["model"], worker["quantization"], room, str(worker["port"])


def cpu_free(one: Mapping[str, Any]) -> int:
    """What the models leave of a host's memory."""
    taken = sum(int(row["memory_mib"]) for row in one["workers"] if row["device"] == "cpu")
    return max(0, int(one["memory_mib"]) - taken)


def reasons(written: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
    """Each distinct reason once, with the hosts that it is for."""
    found: dict[tuple[str, ...], list[str]] = {}
    names_of = CHOICES[written["language"]]
    for name, one in hosts(written):
        for row in [*one["choices"], *(row for worker in one["workers"] for row in worker["choices"])]:
            against = tuple(
                texts["not"].format(value=no["value"], reason=f"{no['message']} [{no['id']}]")
                for no in row["rejected"]
                if no["id"] not in QUIET
            )
            names = found.setdefault(
                (
                    f"{names_of.get(row['choice'], row['choice'])} {row['value']}{texts['colon']}{row['because']}",
                    *against,
                ),
                [],
            )
            if name not in names:
                names.append(name)
    lines = []
    for (first, *others), names in found.items():
        shown = ", ".join(names[:4]) + (f" + {len(names) - 4}" if len(names) > 4 else "")
        lines += [f"{shown}{texts['colon']}{first}", *(f"    {one}" for one in others)]
    return lines


def said(written: Mapping[str, Any], kind: str, texts: Mapping[str, str]) -> list[str]:
    """Problems or notes of the lab and of every host, the same ones together."""
    found: dict[str, list[str]] = {}
    whole = [(texts["lab"], row) for row in written["problems"]] if kind == "problems" else []
    for name, row in [*whole, *((name, row) for name, one in hosts(written) for row in one[kind])]:
        space = "" if written["language"] == "zh" else " "
        found.setdefault(f"{row['id']}{texts['colon']}{row['message']}{space}{row['fix']}".strip(), []).append(name)
    return [
        f"{', '.join(names[:8])}{f' + {len(names) - 8}' if len(names) > 8 else ''}{texts['colon']}{text}"
        for text, names in found.items()
    ]


def block(head: str, lines: Sequence[str]) -> str:
    """A heading with its lines; nothing where there are none."""
    return "\n".join([head, *(f"  {line}" for line in lines)]) if lines else ""


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """Columns as wide as their widest cell; a Chinese character is two columns wide."""
    everything = [heads, *rows]
    widths = [max(width(row[at]) for row in everything) for at in range(len(heads))]
    lines = ["  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip()
             for row in everything]  # fmt: skip
    return "\n".join([lines[0], "-" * min(160, sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def width(text: str) -> int:
    """Columns of a terminal."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def dump(written: Mapping[str, Any]) -> str:
    """The plan as its file gets it: a line for each host, which is quick for ten thousand and good to compare."""
    head = {key: value for key, value in written.items() if key != "hosts"}
    lines = [f"  {text(name)}: {text(one)}" for name, one in written["hosts"].items()]
    return json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "hosts": {\n' + ",\n".join(lines) + "\n }\n}\n"


def text(value: Any) -> str:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


HOST_KEYS = {"host", "platform", "source", "gpus", "workers", "duties", "controller", "gateway", "choices", "waivers"}
HOST_KEYS |= {"notes", "problems", "memory_mib"}
PIN_KEYS = {"order", "model", "context", "quantization", "device", "gpus"}
WORKER_KEYS = PIN_KEYS | {"url", "model_names", "replica", "torch", "memory_mib", "memory_each_mib", "port", "choices"}


def sound(found: Any) -> bool:
    """Whether something read from a file is a plan, as far as the next plan relies on it."""
    try:
        workers = [row for one in found["hosts"].values() for row in one["workers"]]
        placed = [row for one in found["placed"].values() for row in one]
        return bool(
            found["format"] == FORMAT
            and isinstance(found["problems"], list)
            and all(set(one) >= HOST_KEYS and isinstance(one["problems"], list) for one in found["hosts"].values())
            and all(set(row) >= WORKER_KEYS for row in workers)
            and all(set(row) >= PIN_KEYS for row in placed)
            and all(isinstance(gpu["uuid"], str) for row in [*workers, *placed] for gpu in row["gpus"])
        )
    except (KeyError, TypeError, AttributeError):
        return False
