"""WinRM as a listener of Windows speaks it: the WS-Management shell over HTTP(S), with Basic and NTLM.

As on Windows with its settings untouched, what is not encrypted is refused: over HTTP only NTLM counts, and only with
encrypted messages. Basic is offered over HTTPS alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import logging
import re
import socket
import ssl
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

import spnego
from spnego.exceptions import SpnegoError

LOG = logging.getLogger("wsman")
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
}
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
FAULT = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
ENCRYPTED = "application/HTTP-SPNEGO-session-encrypted"
SOAP = "application/soap+xml;charset=UTF-8"
# pywinrm asks again when this long nothing came.
RECEIVE_SECONDS = 15
HANDSHAKE_SECONDS = 10

# What runs a command: the command line and standard input, to output, error output and exit code.
Runner = Callable[[str, bytes], tuple[bytes, bytes, int]]


@dataclass
class Command:
    """A command of a shell; it runs once its input is complete."""

    line: str
    shell: str
    identity: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    stdin: bytearray = field(default_factory=bytearray)
    done: threading.Event = field(default_factory=threading.Event)
    result: tuple[bytes, bytes, int] = (b"", b"", 0)
    started: bool = False

    def start(self, runner: Runner) -> None:
        """Run in the background, once."""
        if not self.started:
            self.started = True
            threading.Thread(target=self.work, args=(runner,), daemon=True).start()

    def work(self, runner: Runner) -> None:
        """Run; what goes wrong in the target itself is said, never shown as a success."""
        try:
            self.result = runner(self.line, bytes(self.stdin))
        except Exception as error:
            LOG.exception("the target failed at %.200s", self.line)
            self.result = (b"", f"The test target failed: {error!r}; see its server.log.".encode(), 98)
        self.done.set()


class Fault(Exception):
    """A fault of WS-Management: Windows' code, the subcode, a sentence."""

    def __init__(self, code: int, subcode: str, sentence: str) -> None:
        """``subcode`` is a qualified name such as ``w:InvalidSelectors``."""
        super().__init__(sentence)
        self.code, self.subcode = code, subcode


def envelope(action: str, relates: str, body: str) -> bytes:
    """Return a SOAP answer."""
    spaces = " ".join(f'xmlns:{name}="{place}"' for name, place in NAMES.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope {spaces} '
        'xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd" '
        'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"><s:Header>'
        f"<a:Action>{escape(action)}</a:Action><a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{ANONYMOUS}</a:To><a:RelatesTo>{escape(relates)}</a:RelatesTo></s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def fault(relates: str, error: Fault) -> bytes:
    """Return a SOAP fault."""
    sentence = escape(str(error))
    return envelope(
        FAULT,
        relates,
        f"<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{error.subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{sentence}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault Code="{error.code}" Machine="target"><f:Message>{sentence}</f:Message></f:WSManFault>'
        "</s:Detail></s:Fault>",
    )


class Shells:
    """The shells and commands of one machine, and what WS-Management may do with them."""

    def __init__(self, runner: Runner) -> None:
        """``runner`` runs a command."""
        self.runner = runner
        self.open: set[str] = set()
        self.commands: dict[str, Command] = {}

    def clear(self) -> None:
        """Forget everything, as a reboot does."""
        self.open.clear()
        self.commands.clear()

    def answer(self, message: bytes) -> tuple[int, bytes]:
        """Answer one message: HTTP status and body."""
        try:
            root = ET.fromstring(message)  # noqa: S314
            action = root.findtext("s:Header/a:Action", "", NAMES)
            relates = root.findtext("s:Header/a:MessageID", "", NAMES)
        except ET.ParseError as error:
            return 400, str(error).encode()
        try:
            return 200, envelope(f"{action}Response", relates, self.act(root, action.rpartition("/")[2]))
        except Fault as error:
            return 500, fault(relates, error)

    def act(self, root: ET.Element, verb: str) -> str:
        """Do what a message asks; return the body of the answer."""
        resource = root.findtext("s:Header/w:ResourceURI", "", NAMES)
        if not resource.endswith("/windows/shell/cmd"):
            raise Fault(2150858811, "w:InvalidResourceURI", f"This target serves the shell cmd, and not {resource}.")
        shell = root.findtext('s:Header/w:SelectorSet/w:Selector[@Name="ShellId"]', "", NAMES)
        if verb == "Create":
            shell = str(uuid.uuid4()).upper()
            self.open.add(shell)
            return (
                f"<rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId></rsp:Shell>"
                f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>'
            )
        if shell not in self.open:
            raise Fault(2150858843, "w:InvalidSelectors", "There is no shell of this number.")
        if verb == "Delete":
            self.open.discard(shell)
            self.commands = {name: one for name, one in self.commands.items() if one.shell != shell}
            return ""
        if verb == "Signal":
            return "<rsp:SignalResponse/>"
        steps = {"Command": self.begin, "Send": self.send, "Receive": self.receive}
        if verb not in steps:
            raise Fault(2150858817, "a:ActionNotSupported", f"This target does not know the action {verb}.")
        return steps[verb](root, shell)

    def begin(self, root: ET.Element, shell: str) -> str:
        """Take a command; it starts when its input ends, or when its output is asked for."""
        line = root.find("s:Body/rsp:CommandLine", NAMES)
        if line is None:
            raise Fault(2150858817, "w:InvalidParameter", "A command has no command line.")
        words = [
            line.findtext("rsp:Command", "", NAMES),
            *(one.text or "" for one in line.findall("rsp:Arguments", NAMES)),
        ]
        command = Command(" ".join(words), shell)
        self.commands[command.identity] = command
        return f"<rsp:CommandResponse><rsp:CommandId>{command.identity}</rsp:CommandId></rsp:CommandResponse>"

    def named(self, element: ET.Element | None) -> Command:
        """Return the command that a message names."""
        name = "" if element is None else element.get("CommandId", "")
        if name not in self.commands:
            raise Fault(2150858843, "w:InvalidSelectors", "There is no command of this number.")
        return self.commands[name]

    def send(self, root: ET.Element, _: str) -> str:
        """Take input."""
        stream = root.find("s:Body/rsp:Send/rsp:Stream", NAMES)
        command = self.named(stream)
        if stream is not None:
            command.stdin += base64.b64decode(stream.text or "")
            if stream.get("End", "").lower() in ("1", "true"):
                command.start(self.runner)
        return "<rsp:SendResponse/>"

    def receive(self, root: ET.Element, _: str) -> str:
        """Give output, or say that there is none yet."""
        command = self.named(root.find("s:Body/rsp:Receive/rsp:DesiredStream", NAMES))
        command.start(self.runner)
        if not command.done.wait(RECEIVE_SECONDS):
            raise Fault(
                2150858793,
                "w:TimedOut",
                "The WS-Management service cannot complete the operation within the time in OperationTimeout.",
            )
        name = command.identity
        streams = "".join(
            f'<rsp:Stream Name="{stream}" CommandId="{name}">{base64.b64encode(data).decode()}</rsp:Stream>'
            f'<rsp:Stream Name="{stream}" CommandId="{name}" End="true"/>'
            for stream, data in (("stdout", command.result[0]), ("stderr", command.result[1]))
        )
        return (
            f'<rsp:ReceiveResponse>{streams}<rsp:CommandState CommandId="{name}" State="{SHELL}/CommandState/Done">'
            f"<rsp:ExitCode>{command.result[2]}</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>"
        )


def sealed(context: spnego.ContextProxy, message: bytes) -> tuple[bytes, str]:
    """Encrypt a message for HTTP (MS-WSMV 2.2.9.1); return the body and its type."""
    wrapped = context.wrap_winrm(message)
    length = len(message) + wrapped.padding_length
    body = (
        f"--Encrypted Boundary\r\n\tContent-Type: {ENCRYPTED}\r\n\tOriginalContent: type={SOAP};Length={length}\r\n"
        "--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
    ).encode()
    body += len(wrapped.header).to_bytes(4, "little") + wrapped.header + wrapped.data + b"--Encrypted Boundary--\r\n"
    return body, f'multipart/encrypted;protocol="{ENCRYPTED}";boundary="Encrypted Boundary"'


def opened(context: spnego.ContextProxy, body: bytes) -> bytes:
    """Decrypt a message; raise SpnegoError or ValueError where it is none."""
    match = re.search(rb"Content-Type: application/octet-stream\r\n(.*)--Encrypted Boundary--", body, re.DOTALL)
    if match is None:
        raise ValueError("the body holds no encrypted part")
    data = match[1]
    length = int.from_bytes(data[:4], "little")
    return context.unwrap_winrm(data[4 : 4 + length], data[4 + length :])


class Handler(BaseHTTPRequestHandler):
    """One connection. NTLM authenticates the connection, so its state lies here."""

    protocol_version = "HTTP/1.1"
    server: Listener
    context: spnego.ContextProxy | None = None
    known = False

    def setup(self) -> None:
        """Shake hands in this thread, so that a client which says nothing holds nobody up."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(HANDSHAKE_SECONDS)
            self.request.do_handshake()
            self.request.settimeout(None)
        super().setup()

    def log_message(self, form: str, *words: object) -> None:
        """Log where the server logs."""
        LOG.debug(form, *words)

    def reply(self, code: int, body: bytes = b"", kind: str = SOAP, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Answer."""
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def challenge(self) -> None:
        """Ask for a name and a password."""
        self.reply(401, headers=[("WWW-Authenticate", scheme) for scheme in self.server.schemes])

    def basic(self, token: str) -> bool:
        """Return whether name and password are right."""
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        expected = self.server.users.get(user.lower())
        return expected is not None and hmac.compare_digest(expected.encode(), password.encode())

    def negotiate(self, scheme: str, token: str) -> list[tuple[str, str]] | None:
        """Take a step of NTLM; return the headers for the answer, or None where the answer was sent."""
        if self.context is None or self.context.complete:
            options = spnego.NegotiateOptions.use_ntlm | spnego.NegotiateOptions.wrapping_winrm
            self.context = spnego.server(protocol="ntlm" if scheme == "NTLM" else "negotiate", options=options)
            self.known = False
        try:
            out = self.context.step(base64.b64decode(token))
        except (SpnegoError, binascii.Error) as error:
            LOG.warning("refused: %s", error)
            self.context = None
            self.challenge()
            return None
        headers = [("WWW-Authenticate", f"{scheme} {base64.b64encode(out).decode()}")] if out else []
        if not self.context.complete:
            self.reply(401, headers=headers)
            return None
        self.known = True
        return headers

    def do_POST(self) -> None:
        """Authenticate, decrypt, answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        headers: list[tuple[str, str]] = []
        if scheme == "Basic" and any(one.startswith("Basic") for one in self.server.schemes):
            self.known = self.basic(token)
        elif scheme in ("NTLM", "Negotiate") and token:
            more = self.negotiate(scheme, token)
            if more is None:
                return
            headers = more
        if not self.known:
            self.challenge()
        elif self.path.partition("?")[0] != "/wsman":
            self.reply(404, b"", "text/plain", headers)
        elif not body:
            self.reply(200, headers=headers)
        elif self.headers.get("Content-Type", "").startswith("multipart/encrypted"):
            self.encrypted(body, headers)
        elif not self.server.encrypted:
            LOG.warning("refused: a message that is not encrypted")
            self.reply(500, b"This listener takes encrypted messages only: use NTLM, or HTTPS.", "text/plain", headers)
        else:
            code, answer = self.server.shells.answer(body)
            self.reply(code, answer, headers=headers)

    def encrypted(self, body: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """Answer an encrypted message with one."""
        if self.context is None:
            self.challenge()
            return
        try:
            message = opened(self.context, body)
        except (SpnegoError, ValueError) as error:
            LOG.warning("refused: %s", error)
            self.reply(400, str(error).encode(), "text/plain")
            return
        code, answer = self.server.shells.answer(message)
        data, kind = sealed(self.context, answer)
        self.reply(code, data, kind, headers)


class Listener(ThreadingHTTPServer):
    """One port of WinRM."""

    daemon_threads = True
    # A stopped target must not wait for connections that Ansible left open.
    block_on_close = False

    def __init__(
        self, address: str, port: int, shells: Shells, users: Mapping[str, str], certificate: tuple[Path, Path] | None
    ) -> None:
        """``certificate`` (chain, key) makes it HTTPS."""
        super().__init__((address, port), Handler)
        self.shells = shells
        self.users = {name.lower(): password for name, password in users.items()}
        self.encrypted = certificate is not None
        self.schemes = ["Negotiate", "NTLM", *(['Basic realm="WSMAN"'] if certificate else [])]
        self.connections: set[socket.socket] = set()
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Remember the connection, so that it can be cut."""
        if isinstance(request, socket.socket):
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Forget the connection."""
        if isinstance(request, socket.socket):
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, or speaks HTTP to HTTPS, is worth a line."""
        LOG.info("connection of %s ended", client_address, exc_info=True)

    def cut(self) -> None:
        """Stop listening and cut every connection, as a machine that goes down does."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
