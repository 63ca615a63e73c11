"""WinRM: who gets in, and how."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import winrm
from targets_lab import Target, W
from winrm.exceptions import InvalidCredentialsError, WinRMError, WinRMTransportError

pytest_plugins = ["targets_fixtures"]
PING = {f"{W}.win_ping": dict[str, str]()}
WRONG = {"password": "wrong"}
COMMAND = ("cmd.exe", ["/c", "echo %OS% & exit 7"])


def session(target: Target, scheme: str, transport: str, **options: str) -> winrm.Session:
    """Return a client; it trusts the target's authority unless told otherwise."""
    port = target.told["http" if scheme == "http" else "https"]
    given = {"ca_trust_path": target.told["ca"], **options}
    password = given.pop("password", target.password)
    return winrm.Session(
        f"{scheme}://127.0.0.1:{port}/wsman", auth=("Administrator", password), transport=transport, **given
    )


@pytest.mark.parametrize(("scheme", "transport"), [("http", "ntlm"), ("https", "ntlm"), ("https", "basic")])
def test_right_password(target: Target, scheme: str, transport: str) -> None:
    answer = session(target, scheme, transport).run_cmd(*COMMAND)
    assert (answer.status_code, answer.std_out) == (7, b"Windows_NT \r\n")


@pytest.mark.parametrize(("scheme", "transport"), [("http", "ntlm"), ("https", "ntlm"), ("https", "basic")])
def test_wrong_password(target: Target, scheme: str, transport: str) -> None:
    with pytest.raises(InvalidCredentialsError):
        session(target, scheme, transport, **WRONG).run_cmd(*COMMAND)


def test_nothing_unencrypted_over_http(target: Target) -> None:
    with pytest.raises(InvalidCredentialsError):
        session(target, "http", "basic").run_cmd(*COMMAND)
    with pytest.raises((WinRMError, WinRMTransportError)):
        session(target, "http", "ntlm", message_encryption="never").run_cmd(*COMMAND)


def test_messages_over_http_are_encrypted(target: Target) -> None:
    seen: list[bytes] = []
    client = session(target, "http", "ntlm")
    client.protocol.transport.build_session()
    http = client.protocol.transport.session
    assert http is not None
    http.hooks["response"].append(lambda answer, **_: seen.append(answer.request.body or b""))
    assert client.run_cmd(*COMMAND).status_code == 7
    whole = b"".join(one if isinstance(one, bytes) else one.encode() for one in seen)
    assert b"HTTP-SPNEGO-session-encrypted" in whole
    assert b"CommandLine" not in whole


@pytest.mark.trap("certificate")
def test_certificate_of_an_unknown_authority(target: Target) -> None:
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        session(target, "https", "ntlm", ca_trust_path="/etc/ssl/certs/ca-certificates.crt").run_cmd(*COMMAND)


def test_certificate_names_the_address(target: Target) -> None:
    context = ssl.create_default_context(cafile=target.told["ca"])
    with (
        socket.create_connection(("127.0.0.1", target.told["https"])) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_http_where_https_is_wanted_and_the_other_way_round(target: Target) -> None:
    answers = target.play([PING], ansible_winrm_scheme="http", ansible_port=target.told["https"])
    assert answers[0]["unreachable"]
    answers = target.play([PING], ansible_port=target.told["http"])
    assert answers[0]["unreachable"]


def test_wrong_password_says_so(target: Target) -> None:
    answer = target.play([PING], ansible_password=WRONG["password"])[0]
    assert answer["unreachable"]
    assert "credentials were rejected" in answer["msg"]


def test_a_client_that_says_nothing_holds_nobody_up(target: Target) -> None:
    with socket.create_connection(("127.0.0.1", target.told["https"])):
        assert session(target, "https", "ntlm").run_cmd(*COMMAND).status_code == 7


def test_password_is_in_no_command_line_and_readable_by_its_owner_alone(target: Target) -> None:
    secret = target.password.encode()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret not in place.read_bytes()
        except OSError:
            continue
    for name in ("password", "ntlm", "server.key"):
        assert (Path(target.told["folder"]) / name).stat().st_mode & 0o777 == 0o600
