"""Labs: a network of their own, hosts with a real systemd, SSH with known keys."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import files, image, machine
from .errors import LabError
from .processes import Podman, run, succeeds
from .settings import Settings, locked, remove_folder, write_if_changed

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
USER = "ops"
BOOT_SECONDS = 60
VOLUMES = tuple(f"/{folder}" for folder in ("var/lib/docker", "var/log/journal", "tmp"))


@dataclass(frozen=True)
class Host:
    """One wished host."""

    name: str
    address: str
    suite: str


@dataclass(frozen=True)
class Lab:
    """One wished lab."""

    name: str
    subnet: str
    hosts: tuple[Host, ...]

    @property
    def gateway(self) -> str:
        """This machine's address in the lab: the first of the subnet, as podman gives it."""
        return str(next(ipaddress.ip_network(self.subnet).hosts()))

    @property
    def plan(self) -> str:
        """A digest of the wish; hosts made for another one are not touched."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def container(self, host: Host) -> str:
        """The container's name, unique on this machine."""
        return f"{self.name}-{host.name}"


def parse_host(text: str, default_suite: str = "bookworm") -> Host:
    """Read ``NAME=ADDRESS[:SUITE]``; raises LW-LAB-041."""
    name, equals, rest = text.partition("=")
    address, _, suite = rest.partition(":")
    if not equals or not NAME.fullmatch(name):
        raise LabError(
            "LW-LAB-041", f"--host {text!r}: NAME=ADDRESS[:SUITE] was expected, NAME in lower case, e.g. w1=10.1.2.3"
        )
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise LabError("LW-LAB-041", f"--host {text!r}: {address!r} is not an IPv4 address") from None
    suite = suite or default_suite
    if suite not in image.SUITES:
        raise LabError("LW-LAB-010", f"there is no image of {suite!r}; one of {', '.join(image.SUITES)} was expected")
    return Host(name, address, suite)


def parse_lab(name: str, subnet: str, hosts: Sequence[str]) -> Lab:
    """Check a wish before anything is touched; raises LW-LAB-040 to 043."""
    check_name(name)
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as reason:
        raise LabError("LW-LAB-042", f"--subnet {subnet!r}: {reason}; e.g. 10.1.2.0/24 was expected") from None
    if not network.is_private or network.prefixlen > 29:
        raise LabError("LW-LAB-042", f"--subnet {subnet}: a private network of /29 or larger was expected")
    lab = Lab(name, str(network), tuple(parse_host(text) for text in hosts))
    if not lab.hosts:
        raise LabError("LW-LAB-041", f"the lab {name} has no host; give at least one --host NAME=ADDRESS")
    usable = set(network.hosts()) - {ipaddress.IPv4Address(lab.gateway)}
    for host in lab.hosts:
        if ipaddress.IPv4Address(host.address) not in usable:
            raise LabError(
                "LW-LAB-043",
                f"host {host.name} has {host.address}, which is not free for a host in {subnet} (its first address, "
                f"{lab.gateway}, is this machine's)",
            )
    for kind, values in (("name", [h.name for h in lab.hosts]), ("address", [h.address for h in lab.hosts])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise LabError("LW-LAB-043", f"two hosts have the {kind} {', '.join(twice)}; each needs its own")
    return lab


def check_name(name: str) -> None:
    """Raise LW-LAB-040 where a lab cannot be called so."""
    if not NAME.fullmatch(name):
        raise LabError("LW-LAB-040", f"--lab {name!r}: lower-case letters, digits and dashes were expected")


@dataclass(frozen=True)
class Container:
    """One host as podman has it."""

    name: str
    host: str
    lab: str
    plan: str
    cache: str
    running: bool


def containers(podman: Podman, lab: str | None = None) -> list[Container]:
    """List the hosts that podman has, of one lab or of all, of any checkout."""
    wanted = "labwright.lab" if lab is None else f"labwright.lab={lab}"
    found = []
    for entry in json.loads(podman("ps", "--all", "--filter", f"label={wanted}", "--format", "json") or "[]"):
        labels = entry["Labels"]
        found.append(
            Container(
                name=entry["Names"][0],
                host=labels["labwright.host"],
                lab=labels["labwright.lab"],
                plan=labels["labwright.plan"],
                cache=labels["labwright.cache"],
                running=entry["State"] == "running",
            )
        )
    return found


def uplink_mtu() -> int:
    """Return the MTU of the default route's interface, so that no packet of a host is too long for it."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "default"]) or "[]")
    if not routes:
        return 1500
    return int((Path("/sys/class/net") / routes[0]["dev"] / "mtu").read_text())


def refuse_foreign(settings: Settings, lab: Lab, present: list[Container], owners: set[str]) -> None:
    """Raise where hosts or a network of this name are there for another checkout or another wish."""
    for cache in sorted(owners - {str(settings.cache)}):
        if not Path(cache).exists():
            raise LabError(
                "LW-LAB-048",
                f"a lab {lab.name} is there that was made with the cache {cache}, which is no more; take it down "
                f"first: lab.py down --lab {lab.name}",
            )
        raise LabError(
            "LW-LAB-044",
            f"a lab {lab.name} is there already, made with the cache {cache}; choose another name and subnet, or "
            f"take it down there, or from here: lab.py down --lab {lab.name} --any-checkout",
        )
    if any(container.plan != lab.plan for container in present):
        raise LabError(
            "LW-LAB-045",
            f"the lab {lab.name} is up with other hosts, addresses or suites than asked for; take it down first: "
            f"lab.py down --lab {lab.name}",
        )


def refuse_overlap(podman: Podman, lab: Lab) -> None:
    """Raise where this machine already has a network or a route in the lab's subnet."""
    wanted = ipaddress.ip_network(lab.subnet)
    for entry in json.loads(podman("network", "ls", "--format", "json") or "[]"):
        for subnet in entry.get("subnets") or []:
            if entry["name"] == lab.name or not ipaddress.ip_network(subnet["subnet"]).overlaps(wanted):
                continue
            cache = (entry.get("labels") or {}).get("labwright.cache")
            raise LabError(
                "LW-LAB-046",
                f"the subnet {lab.subnet} overlaps that of podman's network {entry['name']}; choose another subnet"
                + (f", or take that lab away: lab.py down --lab {entry['name']} --any-checkout" if cache else ""),
            )
    for route in json.loads(run(["ip", "-json", "-4", "route", "show"]) or "[]"):
        if route["dst"] == "default":
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(wanted):
            raise LabError(
                "LW-LAB-046",
                f"the subnet {lab.subnet} overlaps {route['dst']}, which this machine reaches through "
                f"{route.get('dev', 'another route')}; choose another subnet",
            )


def ensure_network(settings: Settings, podman: Podman, lab: Lab) -> bool:
    """Make the lab's network; returns whether it was made now."""
    for entry in json.loads(podman("network", "ls", "--format", "json") or "[]"):
        if entry["name"] == lab.name:
            subnets = [subnet["subnet"] for subnet in entry.get("subnets") or []]
            if subnets != [lab.subnet]:
                raise LabError(
                    "LW-LAB-045",
                    f"the network of the lab {lab.name} is there already with {', '.join(subnets)}, and {lab.subnet} "
                    f"was asked for; take it down first: lab.py down --lab {lab.name}",
                )
            return False
    refuse_overlap(podman, lab)
    podman(
        "network", "create", "--subnet", lab.subnet, "--gateway", lab.gateway,
        "--opt", f"mtu={uplink_mtu()}", "--label", f"labwright.cache={settings.cache}", lab.name,
    )  # fmt: skip
    return True


def run_command(settings: Settings, lab: Lab, host: Host, reference: str) -> list[str]:
    """Return podman's arguments that start one host.

    ``--privileged`` is what systemd and Docker in the container need; the runtime guard bounds it.
    ``--restart=always`` turns the end of PID 1, a reboot, into a start. The volumes are real file systems that live
    as long as the host: Docker's overlay2 needs one, and for the others podman would take memory.
    """
    labels = {"lab": lab.name, "host": host.name, "plan": lab.plan, "cache": str(settings.cache)}
    return [
        "run", "--detach", "--name", lab.container(host), "--hostname", host.name,
        *[word for key, value in labels.items() for word in ("--label", f"labwright.{key}={value}")],
        "--systemd=always", "--privileged", "--restart=always",
        "--network", lab.name, "--ip", host.address,
        *[word for folder in VOLUMES for word in ("--volume", folder)],
        *[f"--add-host={other.name}:{other.address}" for other in lab.hosts if other != host],
        reference, "/sbin/init",
    ]  # fmt: skip


def start(settings: Settings, podman: Podman, lab: Lab, host: Host, reference: str) -> None:
    """Start a new host; raises LW-LAB-039 where podman keeps its address for one that is gone."""
    try:
        podman(*run_command(settings, lab, host, reference))
    except LabError as error:
        if "is already allocated" not in str(error):
            raise
        raise LabError(
            "LW-LAB-039",
            f"podman keeps the address {host.address} for a host that was removed without tests/lab/podman, "
            f"and forgets that when no container is left: take the other labs down, then run lab.py down --lab "
            f"{lab.name}",
        ) from None


# A host that was up before may take long to start what was put on it, and can be reached meanwhile.
BOOTED = """
state=$(systemctl is-system-running 2>/dev/null)
case $state in
    running | degraded) ;;
    starting) [ "$1" = old ] && systemctl --quiet is-active ssh.service && state=running ;;
esac
echo "$state"
"""


def wait_until_booted(podman: Podman, container: str, *, is_new: bool) -> None:
    """Wait for systemd's word that everything has started, or of an old host that SSH has; raises LW-LAB-047."""
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline:
        age = "new" if is_new else "old"
        state = podman("exec", container, "sh", "-c", BOOTED, "sh", age, check=False).strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise LabError(
        "LW-LAB-047",
        f"{container} was not up after {BOOT_SECONDS} s: systemd says {state or 'nothing'!r}; "
        f"see: tests/lab/podman exec {container} systemctl list-jobs",
    )


def ensure_key(folder: Path, lab: str) -> bool:
    """Make the lab's SSH key pair; returns whether it was made now."""
    key = folder / "id_ed25519"
    if key.exists() and key.with_suffix(".pub").exists():
        return False
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"labwright {lab}", "-f", key])
    return True


# Both in one call of podman: the key that the host shows, and whether ours is let in.
ENROL = f"""
set -eu
until [ -s /etc/ssh/ssh_host_ed25519_key.pub ]; do sleep 0.1; done
file=/home/{USER}/.ssh/authorized_keys
if [ "$(cat "$file" 2>/dev/null)" != "$1" ]; then
    printf '%s\\n' "$1" > "$file.new"
    chown {USER}:{USER} "$file.new"
    chmod 0600 "$file.new"
    mv "$file.new" "$file"
    echo changed
else
    echo unchanged
fi
cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub
"""


def enrol(podman: Podman, container: str, public_key: str) -> tuple[bool, str]:
    """Let the lab's key in, and read the host's own key through podman, not through the network.

    Returns whether the host changed, and the host's key as ``ssh-ed25519 AAAA…``.
    """
    said, host_key = podman("exec", container, "sh", "-c", ENROL, "sh", public_key).strip().splitlines()
    return said == "changed", host_key


def known_hosts(lab: Lab, host_keys: dict[str, str]) -> str:
    """Return the text of the lab's known_hosts: each host by name and by address."""
    return "".join(f"{host.name},{host.address} {host_keys[host.name]}\n" for host in lab.hosts)


def up(settings: Settings, podman: Podman, lab: Lab) -> dict[str, object]:
    """Bring the lab up, whatever of it is there already; returns what the caller prints as JSON."""
    folder = settings.lab(lab.name)
    with locked(settings.lock(lab.name)):
        present = containers(podman, lab.name)
        refuse_foreign(settings, lab, present, caches(podman, lab.name))
        running = {container.host: container.running for container in present}
        absent = [host for host in lab.hosts if host.name not in running]
        folder.mkdir(parents=True, exist_ok=True)
        changed = ensure_key(folder, lab.name)
        if not all(running.get(host.name) for host in lab.hosts):
            machine.remember(settings)
        if absent:
            references = {suite: image.ensure(settings, podman, suite)[0] for suite in {host.suite for host in absent}}
            changed = ensure_network(settings, podman, lab) or changed
        for host in lab.hosts:
            if host in absent:
                start(settings, podman, lab, host, references[host.suite])
                changed = True
            elif not running[host.name]:
                podman("start", lab.container(host))
                changed = True
        public_key = (folder / "id_ed25519.pub").read_text().strip()

        def reach(host: Host) -> tuple[bool, str]:
            wait_until_booted(podman, lab.container(host), is_new=host in absent)
            return enrol(podman, lab.container(host), public_key)

        with ThreadPoolExecutor(max_workers=8) as pool:
            enrolled = list(pool.map(reach, lab.hosts))
        changed = any(host_changed for host_changed, _ in enrolled) or changed
        keys = {host.name: key for host, (_, key) in zip(lab.hosts, enrolled, strict=True)}
        changed = write_if_changed(folder / "known_hosts", known_hosts(lab, keys)) or changed
    return {
        "changed": changed,
        "lab": lab.name,
        "gateway": lab.gateway,
        "hosts": {host.name: {"address": host.address, "suite": host.suite} for host in lab.hosts},
        "user": USER,
        "ssh_key": str(folder / "id_ed25519"),
        "known_hosts": str(folder / "known_hosts"),
    }


def close_connections(settings: Settings, name: str) -> None:
    """End SSH's shared connections to the lab, which would else hang on hosts that are gone."""
    folder = settings.control_sockets(name)
    for socket in folder.glob("*") if folder.is_dir() else ():
        succeeds(["ssh", "-q", "-O", "exit", "-S", socket, "host"])
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Network:
    """A lab's network as podman has it."""

    cache: str
    interface: str
    gateways: tuple[str, ...]


def networks(podman: Podman) -> dict[str, Network]:
    """List the labs' networks, of any checkout, by name."""
    found = {}
    for entry in json.loads(podman("network", "ls", "--format", "json") or "[]"):
        cache = (entry.get("labels") or {}).get("labwright.cache")
        if cache is not None:
            gateways = tuple(subnet["gateway"] for subnet in entry.get("subnets") or [] if subnet.get("gateway"))
            found[entry["name"]] = Network(cache, entry["network_interface"], gateways)
    return found


def is_removable(settings: Settings, cache: str) -> bool:
    """Return whether this checkout may remove what was made with a cache: its own, or one that is no more."""
    return cache == str(settings.cache) or not Path(cache).exists()


def caches(podman: Podman, name: str) -> set[str]:
    """The caches that hosts and network of a lab were made with: of one checkout, unless somebody was cut off."""
    network = networks(podman).get(name)
    return {container.cache for container in containers(podman, name)} | ({network.cache} if network else set())


def remove_network(podman: Podman, name: str, network: Network) -> None:
    """Remove a lab's network, and what stays of it where its hosts were treated with another podman than ours."""
    podman("network", "rm", "--force", name)
    if (Path("/sys/class/net") / network.interface).exists():
        succeeds(["ip", "link", "delete", network.interface])
    for gateway in network.gateways:
        files.end_all(gateway)


def down(settings: Settings, podman: Podman, name: str, *, any_checkout: bool = False) -> bool:
    """Take a lab away: file server, hosts, network, key, known_hosts; returns whether there was anything.

    Raises LW-LAB-049 where it is another checkout's, unless the caller wants it gone whosever it is.
    """
    check_name(name)
    folder = settings.lab(name)
    with locked(settings.lock(name)):
        owners = caches(podman, name)
        foreign = sorted(cache for cache in owners if not is_removable(settings, cache))
        if foreign and not any_checkout:
            raise LabError(
                "LW-LAB-049",
                f"the lab {name} was made with the cache {', '.join(foreign)} and stays; take it down there, or from "
                f"here: lab.py down --lab {name} --any-checkout",
            )
        changed = folder.exists() or bool(owners)
        files.stop(settings, name)
        close_connections(settings, name)
        doomed = [container.name for container in containers(podman, name)]
        if doomed:
            podman("rm", "--force", "--time", "0", "--volumes", *doomed)
        network = networks(podman).get(name)
        if network is not None:
            remove_network(podman, name, network)
        for cache in {str(settings.cache), *owners}:
            shutil.rmtree(replace(settings, cache=Path(cache)).lab(name), ignore_errors=True)
        machine.forget_addresses(podman)
    return changed


def clean(settings: Settings, podman: Podman) -> dict[str, object]:
    """Take away every lab of this checkout and, if no other checkout has one, whatever labs leave on the machine."""
    named = {folder.name for folder in (settings.folder / "labs").glob("*")}
    named |= {container.lab for container in containers(podman)} | set(networks(podman))
    mine = [name for name in sorted(named) if all(is_removable(settings, cache) for cache in caches(podman, name))]
    removed = [name for name in mine if down(settings, podman, name)]
    others = containers(podman)
    images = []
    if not others:
        images = image.remove_all(podman)
        machine.restore(settings, podman)
    remove_folder(settings)
    return {
        "labs": removed,
        "images": images,
        "kept_for": sorted({container.cache for container in others}),
    }
