"""What comes over the network, and the firewall."""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import shutil
import ssl
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from .. import store
from .context import Context, Failed, Result, checksum, stand_in

# What win_get_url has and this target does not do; asking for one fails.
LATER = ("client_cert", "client_cert_password", "proxy_url", "proxy_username", "proxy_password", "checksum_url")
CHUNK = 1 << 20


def opener(args: Result) -> urllib.request.OpenerDirector:
    """Return what opens addresses; never through this machine's proxy settings."""
    context = ssl.create_default_context()
    if not args["validate_certs"]:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def request(args: Result, method: str) -> urllib.request.Request:
    """Return a request with the headers that the module sends."""
    headers = {"User-Agent": args["http_agent"], **(args.get("headers") or {})}
    return urllib.request.Request(args["url"], method=method, headers={name: str(one) for name, one in headers.items()})


def place(args: Result, context: Context) -> Path:
    """Return where the file goes; its folder must be there."""
    dest = context.path(args["dest"])
    if dest.is_dir():
        parsed = urllib.parse.urlparse(args["url"])
        return dest / (Path(parsed.path).name or parsed.hostname or "")
    if args["dest"].endswith(("/", "\\")) or not dest.parent.is_dir():
        raise Failed(
            f"The path '{context.wine.windows(dest.parent)}' does not exist for destination '{args['dest']}', or is "
            "not visible to the current user. Ensure download destination folder exists (perhaps using win_file "
            "state=directory) before win_get_url runs."
        )
    return dest


@stand_in("ansible.windows.win_get_url")
def win_get_url(args: Result, context: Context) -> Result:
    """Download a file."""
    asks = [option for option in LATER if args.get(option)]
    if asks:
        raise Failed(
            f"This test target does not know {', '.join(asks)} of win_get_url; teach it, or leave the option out"
        )
    algorithm = args["checksum_algorithm"]
    dest, wish = place(args, context), (args.get("checksum") or "").strip().lower()
    result: Result = {"changed": False, "dest": context.wine.windows(dest), "url": args["url"]}
    there = checksum(dest, algorithm) if dest.is_file() else None
    force = args["force"] or (there is not None and bool(wish) and there != wish)
    if there is not None and wish and there == wish and not force:
        return {**result, "checksum_dest": there, "size": dest.stat().st_size}
    try:
        if there is None or force or newer(args, dest):
            download(args, context, dest, wish, there, result)
    except OSError as error:
        raise Failed(f"Error downloading '{args['url']}' to '{result['dest']}': {error}", **result) from None
    if dest.is_file():
        result.update(checksum_dest=checksum(dest, algorithm), size=dest.stat().st_size)
    return result


def newer(args: Result, dest: Path) -> bool:
    """Return whether the server's file is newer than ours."""
    with contextlib.closing(opener(args).open(request(args, "HEAD"), timeout=args["url_timeout"])) as answer:
        stamp = answer.headers.get("Last-Modified")
    if stamp is None:
        return True
    return email.utils.parsedate_to_datetime(stamp).timestamp() > dest.stat().st_mtime


def fetch(args: Result, draft: Path) -> tuple[int, str]:
    """Write what an address gives to a file; return the answer's status and reason."""
    with contextlib.closing(opener(args).open(request(args, "GET"), timeout=args["url_timeout"])) as answer:
        with draft.open("wb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
        return answer.status, answer.reason


def download(args: Result, context: Context, dest: Path, wish: str, there: str | None, result: Result) -> None:
    """Fetch beside, check, and put in place."""
    with tempfile.TemporaryDirectory(dir=context.wine.drive_c / "windows" / "temp") as scratch:
        draft = Path(scratch, "download")
        result["status_code"], result["msg"] = fetch(args, draft)
        found = result["checksum_src"] = checksum(draft, args["checksum_algorithm"])
        if wish and wish != found:
            raise Failed(f"The checksum for {args['url']} did not match '{wish}', it was '{found}'", **result)
        if found == there:
            return
        result["changed"] = True
        if not context.check:
            dest.unlink(missing_ok=True)
            draft.rename(dest)


# How a rule's options are called in the firewall, in the order in which the module compares them.
RULE = {
    "description": "Description",
    "direction": "Direction",
    "action": "Action",
    "program": "ApplicationName",
    "group": "Grouping",
    "service": "ServiceName",
    "enabled": "Enabled",
    "profiles": "Profiles",
    "localip": "LocalAddresses",
    "remoteip": "RemoteAddresses",
    "localport": "LocalPorts",
    "remoteport": "RemotePorts",
    "protocol": "Protocol",
    "interfacetypes": "InterfaceTypes",
    "edge": "EdgeTraversalOptions",
    "security": "SecureFlags",
    "icmp_type_code": "IcmpTypesAndCodes",
}
# A rule as the firewall makes it where nothing is said.
UNSAID = {
    "direction": "in",
    "action": "allow",
    "enabled": True,
    "profiles": ["domain", "private", "public"],
    "localip": "*",
    "remoteip": "*",
    "protocol": "any",
    "interfacetypes": "any",
    "edge": "no",
    "security": "notrequired",
}
PROTOCOLS = ("any", "tcp", "udp", "icmpv4", "icmpv6")
WORDS = ("any", "*", "localsubnet", "dns", "dhcp", "wins", "defaultgateway", "internet", "intranet")


def ports(text: str, option: str) -> str:
    """Check ports as the firewall does."""
    for one in text.split(","):
        low, _, high = one.strip().partition("-")
        numbers = [int(part) for part in (low, high or low) if part.isdigit()]
        if one.strip().lower() not in ("any", "*", "rpc", "rpc-epmap", "iphttps") and (
            len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= 65535
        ):
            raise Failed(
                f"{option}: the firewall takes no port {one!r}: Value does not fall within the expected range."
            )
    return text


def addresses(text: str, option: str) -> str:
    """Check addresses as the firewall does, and write them as it does."""
    found = []
    for one in (part.strip() for part in text.split(",")):
        if one.lower() in WORDS:
            found.append("*" if one.lower() == "any" else one)
            continue
        try:
            if "-" in one:
                low, high = (str(ipaddress.ip_address(part)) for part in one.split("-"))
                found.append(f"{low}-{high}")
            else:
                network = ipaddress.ip_network(one)
                found.append(network.with_netmask if network.version == 4 else str(network))
        except ValueError:
            raise Failed(f"{option}: the firewall takes no address {one!r}: The parameter is incorrect.") from None
    return ",".join(found)


def rule(args: Result, context: Context) -> dict[str, object]:
    """Return what a task asks of a rule, as the firewall has it."""
    wish: dict[str, object] = {name: args[name] for name in RULE if args.get(name) is not None}
    for name in ("localport", "remoteport"):
        if name in wish:
            if wish.get("protocol") not in ("tcp", "udp", "6", "17"):
                raise Failed(f"{name} without protocol tcp or udp: the firewall says: The parameter is incorrect.")
            wish[name] = ports(str(wish[name]), name)
    for name in ("localip", "remoteip"):
        if name in wish:
            wish[name] = addresses(str(wish[name]), name)
    protocol = str(wish.get("protocol", "any")).lower()
    if protocol not in PROTOCOLS and not (protocol.isdigit() and int(protocol) < 256):
        raise Failed(f"Unknown protocol '{protocol}'.")
    if "program" in wish and wish["program"] != "any":
        wish["program"] = context.expanded(str(wish["program"]))
    return wish


@stand_in("community.windows.win_firewall_rule")
def win_firewall_rule(args: Result, context: Context) -> Result:
    """Open or close a door; kept in the target's store, and enforced by nothing."""
    name, group = args.get("name"), args.get("group")
    if not name and not group:
        raise Failed("Either name or group must be specified")
    lines: list[str] = []
    with store.changing(context.machine.folder, check=context.check) as state:
        rules = state["firewall"]
        found = [
            one
            for one, about in rules.items()
            if (one.lower() == name.lower() if name else about.get("group") == group)
        ]
        if args["state"] == "absent":
            for one in found:
                lines += [f"-[{one}]", *(f"-{RULE[key]}='{value}'" for key, value in rules.pop(one).items())]
            what = f"Firewall rule '{name}' does not exist." if name else f"No firewall rules in group '{group}' exist."
            result: Result = {"changed": bool(found), "msg": f"Firewall rule(s) {found} removed." if found else what}
        else:
            wish = rule(args, context)
            if not found and not name:
                return {"changed": False}
            result = {"changed": not found, "msg": f"Firewall rule '{name}' created."}
            if not found:
                rules[str(name)] = {**UNSAID, **wish}
                lines += [f"+[{name}]", *(f"+{RULE[key]}='{value}'" for key, value in rules[str(name)].items())]
            for one in found:
                lines.append(f"[{one}]")
                for key, value in wish.items():
                    if rules[one].get(key) != value:
                        lines += [f"-{RULE[key]}='{rules[one].get(key)}'", f"+{RULE[key]}='{value}'"]
                        rules[one][key] = value
                        result["changed"] = True
                result["msg"] = f"Firewall rule(s) {'changed' if result['changed'] else 'unchanged'} {found}"
    if context.diff:
        result["diff"] = {"prepared": "".join(f"{line}\n" for line in lines)}
    return result
