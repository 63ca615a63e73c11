"""What comes over the network, and the firewall."""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

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
            f"The path '{context.wine.windows(dest.parent)}' does not exist for destination '{args['dest']}', or is not "
            "visible to the current user. Ensure download destination folder exists (perhaps using win_file "
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
    except (urllib.error.URLError, OSError) as error:
        raise Failed(f"Error downloading '{args['url']}' to '{result['dest']}': {error}", **result) from None
    if dest.is_file():
        result.update(checksum_dest=checksum(dest, algorithm), size=dest.stat().st_size)
    return result


def newer(args: Result, dest: Path) -> bool:
    """Return whether the server's file is newer than ours."""
    with contextlib.closing(opener(args).open(request(args, "HEAD"), timeout=args["timeout"])) as answer:
        stamp = answer.headers.get("Last-Modified")
    if stamp is None:
        return True
    return email.utils.parsedate_to_datetime(stamp).timestamp() > dest.stat().st_mtime


def download(args: Result, context: Context, dest: Path, wish: str, there: str | None, result: Result) -> None:
    """Fetch beside, check, and put in place."""
    with tempfile.TemporaryDirectory(dir=context.wine.drive_c / "windows" / "temp") as scratch:
        draft = Path(scratch, "download")
        with contextlib.closing(opener(args).open(request(args, "GET"), timeout=args["timeout"])) as answer:
            result.update(status_code=answer.status, msg=answer.reason)
            with draft.open("wb") as file:
                while data := answer.read(CHUNK):
                    file.write(data)
        found = result["checksum_src"] = checksum(draft, args["checksum_algorithm"])
        if wish and wish != found:
            raise Failed(f"The checksum for {args['url']} did not match '{wish}', it was '{found}'", **result)
        if found == there:
            return
        result["changed"] = True
        if not context.check:
            dest.unlink(missing_ok=True)
            draft.rename(dest)
