"""Logins of servers: each goes to the host that it is for and to no other, and is never repeated in words.

They come with a request, beside it, and live in this process alone; only pip needs them in a file, which is private and
gone when pip is.
"""

from __future__ import annotations

import base64
import functools
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any, Optional, Union

from hostkit import place

# Host name -> user, password. One request, one process.
LOGINS: dict[str, dict[str, str]] = {}


def use(logins: dict[str, dict[str, str]]) -> None:
    """Take these logins from now on, and no others."""
    LOGINS.clear()
    LOGINS.update({host.lower(): login for host, login in logins.items()})


def host_of(url: str) -> str:
    """The name of the host that an address leads to."""
    return urllib.parse.urlsplit(url).hostname or ""


def header(url: str) -> str:
    """The header of the login for an address; "" where there is none."""
    login = LOGINS.get(host_of(url))
    return f"Basic {encoded(login)}" if login else ""


def encoded(login: dict[str, str]) -> str:
    """As it travels."""
    return base64.b64encode(f"{login['user']}:{login['password']}".encode()).decode("ascii")


def hide(text: str) -> str:
    """A text without the passwords, in any of the forms in which a program may repeat them."""
    for login in LOGINS.values():
        for secret in (encoded(login), login["password"], urllib.parse.quote(login["password"], safe="")):
            text = text.replace(secret, "***") if secret else text  # a login may have no password
    return text


class Sender(urllib.request.HTTPRedirectHandler):
    """Gives each request the login of its own host, those after a redirect too; HEAD stays HEAD."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Add the login; a redirect does not take it along."""
        found = header(request.full_url)
        if found:
            request.add_unredirected_header("Authorization", found)
        return request

    https_request = http_request

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Optional[urllib.request.Request]:
        """Follow, but never with a login from https to http."""
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None:
            if (req.type, found.type) == ("https", "http") and header(newurl):
                raise urllib.error.URLError(f"it leads on to {host_of(newurl)} without TLS, where no login is sent")
            found.method = req.get_method()
        return found


@functools.cache
def trust() -> ssl.SSLContext:
    """Whom this system trusts, asked once.

    Windows fetches most authorities when it first needs them, and for its own programs alone: Python finds few there on
    a fresh host. So those that came with Conda's Python are trusted too.
    """
    found = ssl.create_default_context()
    roots = Path(sys.prefix, "Library", "ssl", "cacert.pem")
    if place.windows() and roots.is_file():
        found.load_verify_locations(str(roots))
    return found


def trusted() -> dict[str, str]:
    """The same for a program of a Conda prefix, which has a list of its own, without the site's authority."""
    found = ssl.get_default_verify_paths()
    pairs = {found.openssl_cafile_env: found.cafile, found.openssl_capath_env: found.capath}
    return {} if place.windows() else {name: path for name, path in pairs.items() if path}


def opened(request: Union[str, urllib.request.Request], timeout: float) -> Any:
    """As ``urllib.request.urlopen``, with the logins."""
    secure = urllib.request.HTTPSHandler(context=trust())
    return urllib.request.build_opener(Sender(), secure).open(request, timeout=timeout)


def write_netrc(folder: Path) -> str:
    """The logins as a file that only this user can read, for a program that takes them so; its path."""
    path = folder / "netrc"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        for host, login in LOGINS.items():
            stream.write(f"machine {host} login {login['user']} password {login['password']}\n")
    return str(path)
