"""labwright.authority: certificates that real TLS clients take, renewed in time, and the site's own with its faults."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from labwright import authority
from labwright.authority import Pair
from labwright.safe import Safe, opened
from labwright.words import Finding, Refused

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = ["127.0.0.1", "api10", "Lab.Example"]
PATHS = {"certificate": "/site/lab.crt", "key": "/site/lab.key", "authority": "/site/ca.crt"}


@pytest.fixture(scope="module")
def issuer() -> Pair:
    return authority.make_authority("lab", NOW)


@pytest.fixture(scope="module")
def server(issuer: Pair) -> Pair:
    return authority.make_server(issuer, "api10", NAMES, NOW)


def first(pair: Pair) -> x509.Certificate:
    return authority.parse(pair.certificate)[0]


# --- making ----------------------------------------------------------------------------------------------------------


def test_the_authority_signs_servers_and_no_further_authority(issuer: Pair) -> None:
    one = first(issuer)
    assert one.subject.rfc4514_string() == "CN=Labwright lab"
    basic = one.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert (one.not_valid_after_utc - NOW).days == 3653
    assert one.not_valid_before_utc < NOW
    key = one.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_server_has_its_names_and_nothing_but_a_servers_rights(issuer: Pair, server: Pair) -> None:
    one = first(server)
    assert authority.issued(one, first(issuer))
    assert authority.matches(server)
    assert authority.covered(one) == {authority.general(name) for name in ("127.0.0.1", "api10", "lab.example")}
    usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (one.not_valid_after_utc - NOW).days == 397


def test_a_server_ends_no_later_than_its_authority(issuer: Pair) -> None:
    late = NOW + 3600 * DAY
    assert (
        first(authority.make_server(issuer, "a", ["a"], late)).not_valid_after_utc == first(issuer).not_valid_after_utc
    )


def test_a_real_client_takes_it_by_each_name_and_by_no_other(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    issuer = authority.make_authority("lab", now)
    pair = authority.make_server(issuer, "api10", NAMES, now)
    (tmp_path / "crt").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    client = ssl.create_default_context(cadata=issuer.certificate.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13

    def greet(name: str) -> None:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            try:
                inside.wrap_socket(theirs, server_side=True).close()
            except OSError:
                theirs.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client.wrap_socket(ours, server_hostname=name).close()
        finally:
            ours.close()
            thread.join(5)

    for name in ("127.0.0.1", "api10", "lab.example"):
        greet(name)
    with pytest.raises(ssl.SSLCertVerificationError):
        greet("other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        greet("127.0.0.2")


@pytest.mark.parametrize(
    ("host", "more", "names"),
    [
        ("api-10.lab", [], ["192.0.2.1", "api-10.lab"]),
        ("api_10", ["lab.example", "192.0.2.1"], ["192.0.2.1", "lab.example"]),
        ("api 10", ["2001:db8::1"], ["192.0.2.1", "2001:db8::1"]),
        ("192.0.2.1", [], ["192.0.2.1"]),
        ("-a", [], ["192.0.2.1"]),
        ("a" * 64, [], ["192.0.2.1"]),
    ],
)
def test_the_names_of_a_server(host: str, more: list[str], names: list[str]) -> None:
    assert authority.names_of("192.0.2.1", host, more) == names


# --- renewing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "why"), [(0, ""), (276, ""), (278, "118 days left"), (400, "-4 days left")])
def test_a_server_is_renewed_before_its_end(issuer: Pair, server: Pair, days: int, why: str) -> None:
    assert authority.why_renew(server, issuer.certificate, NAMES, NOW + days * DAY + timedelta(hours=1)) == why


def test_near_its_authoritys_end_a_server_is_renewed_once(issuer: Pair, server: Pair) -> None:
    late = NOW + (authority.AUTHORITY_DAYS - 100) * DAY
    fresh = authority.make_server(issuer, "api10", NAMES, late)
    for days in (0, 50, 99):
        assert authority.why_renew(fresh, issuer.certificate, NAMES, late + days * DAY + timedelta(hours=1)) == ""
    early = authority.make_server(issuer, "api10", NAMES, late - 350 * DAY)
    assert authority.why_renew(early, issuer.certificate, NAMES, late) == "47 days left"


def test_a_server_is_renewed_for_other_names_for_another_authority_and_when_damaged(issuer: Pair, server: Pair) -> None:
    other = authority.make_authority("lab", NOW)
    assert authority.why_renew(server, issuer.certificate, NAMES[::-1], NOW) == ""
    assert authority.why_renew(server, issuer.certificate, NAMES[:2], NOW) == "other names"
    assert authority.why_renew(server, issuer.certificate, [*NAMES, "more"], NOW) == "other names"
    assert authority.why_renew(server, other.certificate, NAMES, NOW) == "another authority"
    assert authority.why_renew(Pair(server.certificate, issuer.key), issuer.certificate, NAMES, NOW) == "damaged"
    assert authority.why_renew(Pair(b"", b""), issuer.certificate, NAMES, NOW) == "damaged"
    assert authority.why_renew(Pair(server.certificate, b"x"), issuer.certificate, NAMES, NOW) == "damaged"


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_the_safe_keeps_what_was_made_and_a_renewal_has_a_new_key(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "safe"
    with opened(folder) as safe:
        issuer, warnings = authority.authority(safe, "lab", NOW)
        one = authority.server(safe, issuer, "api 10", "api%2010", ["192.0.2.1"], NOW)
    assert warnings == []
    assert sorted(safe.put_here) == ["ca.crt", "ca.key", "hosts/api%2010.crt", "hosts/api%2010.key"]
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder / "hosts")} == {0o700}
    with opened(folder) as safe:
        assert authority.authority(safe, "lab", NOW) == (issuer, [])
        assert authority.server(safe, issuer, "api 10", "api%2010", ["192.0.2.1"], NOW) == one
        assert safe.put_here == {}
        later = authority.server(safe, issuer, "api 10", "api%2010", ["192.0.2.1"], NOW + 300 * DAY)
    assert later.key != one.key
    assert authority.matches(later)


def test_the_authority_warns_a_year_before_its_end_and_refuses_after_it(tmp_path: Path) -> None:
    def warned(days: int) -> list[Finding]:
        with opened(tmp_path) as safe:
            return authority.authority(safe, "lab", NOW + days * DAY)[1]

    assert warned(0) == []
    assert warned(3280) == []
    (one,) = warned(3300)
    assert (one.id, one.values["days"]) == ("LW-TLS-008", 353)
    with pytest.raises(Refused) as caught:
        warned(3660)
    assert caught.value.code == "LW-TLS-008"


@pytest.mark.parametrize("gone", ["ca.crt", "ca.key"])
def test_half_an_authority_is_not_made_anew_in_silence(tmp_path: Path, gone: str) -> None:
    with opened(tmp_path) as safe:
        authority.authority(safe, "lab", NOW)
    (tmp_path / gone).unlink()
    with opened(tmp_path) as safe, pytest.raises(Refused) as caught:
        authority.authority(safe, "lab", NOW)
    assert caught.value.code == "LW-TLS-009"
    assert safe.put_here == {}


def test_a_host_that_trusts_another_authority_is_not_given_a_new_one_in_silence(tmp_path: Path, issuer: Pair) -> None:
    def refused(folder: str, there: bytes) -> str:
        with opened(tmp_path / folder, check=True) as safe, pytest.raises(Refused) as caught:
            authority.still_trusted(safe, there)
        assert caught.value.code == "LW-TLS-010"
        return str(caught.value)

    with opened(tmp_path / "kept") as safe:
        ours = authority.authority(safe, "lab", NOW)[0].certificate
        for there in (ours, issuer.certificate + ours, b"", b"edited by hand"):
            authority.still_trusted(safe, there)
    mine = f"CN=Labwright lab ({authority.parse(ours)[0].fingerprint(hashes.SHA256()).hex()[:16]})"
    assert f"which has {mine}." in refused("kept", issuer.certificate)
    assert f"trust the authority {mine}; " in refused("lost", ours)
    assert not (tmp_path / "lost").exists()


def test_check_mode_hands_out_and_keeps_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "safe"
    with opened(folder, check=True) as safe:
        issuer, _warnings = authority.authority(safe, "lab", NOW)
        assert authority.authority(safe, "lab", NOW)[0] == issuer
    assert safe.put_here
    assert not folder.exists()


def test_loose_permissions_are_mended_and_half_a_file_is_no_file(tmp_path: Path) -> None:
    with opened(tmp_path) as safe:
        safe.put("keys/a", b"1")
    (tmp_path / "keys" / "a").chmod(0o644)
    (tmp_path / "keys" / ".a.new").write_bytes(b"half")
    with opened(tmp_path) as safe:
        assert (tmp_path / "keys" / "a").stat().st_mode & 0o777 == 0o600
        safe.put("keys/a", b"2")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["a"]
    assert Safe(tmp_path).get("keys/a") == b"2"


def test_two_runs_take_turns(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with opened(tmp_path):
            order.append("second")

    with opened(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait(5)
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused) as caught, opened(tmp_path / "file" / "safe"):
        pass
    assert caught.value.code == "LW-KEYS-002"


@pytest.mark.parametrize("name", ["keys", "keys/a"])
def test_what_cannot_be_read_or_kept_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "keys" / "a").mkdir(parents=True)
    with pytest.raises(Refused) as caught:
        Safe(tmp_path).get(name)
    assert caught.value.code == "LW-KEYS-002"
    with pytest.raises(Refused) as caught:
        Safe(tmp_path).put(name, b"")
    assert caught.value.code == "LW-KEYS-002"


# --- the site's own --------------------------------------------------------------------------------------------------


def check(pair: Pair, issuers: bytes, names: list[str], now: datetime = NOW) -> list[str]:
    return [one.id for one in authority.check_own(pair, issuers, PATHS, names, now)]


def locked(pair: Pair) -> bytes:
    """The key with a password."""
    key = serialization.load_pem_private_key(pair.key, None)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x"))


def test_a_good_one_of_the_sites_own_is_taken(issuer: Pair, server: Pair) -> None:
    assert check(server, issuer.certificate, ["127.0.0.1", "LAB.example"]) == []
    wild = authority.make_server(issuer, "x", ["*.example.org"], NOW)
    assert check(wild, issuer.certificate, ["lab.example.org"]) == []


def test_it_warns_before_its_end(issuer: Pair, server: Pair) -> None:
    assert check(server, issuer.certificate, ["api10"], NOW + 382 * DAY) == []
    assert check(server, issuer.certificate, ["api10"], NOW + 384 * DAY) == ["LW-TLS-006"]


def test_each_fault_has_its_id(issuer: Pair, server: Pair) -> None:
    other = authority.make_authority("other", NOW)
    wild = authority.make_server(issuer, "x", ["*.example.org"], NOW)
    faults = [
        ("LW-TLS-002", Pair(b"x", server.key), issuer.certificate, ["api10"], NOW),
        ("LW-TLS-002", Pair(server.certificate, b"x"), issuer.certificate, ["api10"], NOW),
        ("LW-TLS-002", Pair(server.certificate, locked(server)), issuer.certificate, ["api10"], NOW),
        ("LW-TLS-002", server, b"x", ["api10"], NOW),
        ("LW-TLS-003", Pair(server.certificate, issuer.key), issuer.certificate, ["api10"], NOW),
        ("LW-TLS-004", server, issuer.certificate, ["api10", "more.example"], NOW),
        ("LW-TLS-004", wild, issuer.certificate, ["a.b.example.org"], NOW),
        ("LW-TLS-005", server, issuer.certificate, ["api10"], NOW + 400 * DAY),
        ("LW-TLS-005", server, issuer.certificate, ["api10"], NOW - 2 * DAY),
        ("LW-TLS-007", server, other.certificate, ["api10"], NOW),
    ]
    for code, pair, issuers, names, now in faults:
        with pytest.raises(Refused) as caught:
            check(pair, issuers, names, now)
        assert caught.value.code == code, str(caught.value)


def test_a_chain_may_lead_over_others_to_the_authority(issuer: Pair, server: Pair) -> None:
    other = authority.make_authority("other", NOW)
    assert authority.leads_to([first(server), first(issuer)], [first(issuer)])
    assert authority.leads_to([first(server), first(other), first(issuer)], [first(issuer)])
    assert authority.leads_to([first(server)], [first(server)])
    assert not authority.leads_to([first(server), first(issuer)], [first(other)])
