"""Certificates: the lab's own certificate authority and what it signs, or the site's own, checked.

Functions take bytes (PEM), names and the time, and give bytes; only ``authority`` and ``server`` know the safe. The
numbers of days are ours; 397 is just below the 398 that browsers long took of a server's certificate.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labwright.safe import Safe
from labwright.words import Finding, Refused, finding

AUTHORITY_DAYS = 3653
SERVER_DAYS = 397
RENEW_DAYS = 120  # a server's certificate with less left is made anew, where its authority has more
AUTHORITY_WARN_DAYS = 365
OWN_WARN_DAYS = 14
BACKDATED = timedelta(hours=1)  # clocks differ
DNS = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


# --- making ----------------------------------------------------------------------------------------------------------


def make_authority(lab: str, now: datetime) -> Pair:
    """A certificate authority for one lab: it signs servers' certificates and no further authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Labwright {lab}")])
    usage = {"key_cert_sign": True, "crl_sign": True}
    signed = (
        builder(name, name, key, now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(signed.public_bytes(serialization.Encoding.PEM), private(key))


def make_server(issuer: Pair, host: str, names: Sequence[str], now: datetime) -> Pair:
    """A server's certificate for these names and addresses; it ends no later than its authority's."""
    parent = parse(issuer.certificate)[0]
    parent_key = serialization.load_pem_private_key(issuer.key, None)
    assert isinstance(parent_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - matches() saw to it
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    end = min(now + timedelta(days=SERVER_DAYS), parent.not_valid_after_utc)
    identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    signed = (
        builder(parent.subject, name, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general(one) for one in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(parent_key, hashes.SHA256())
    )
    return Pair(signed.public_bytes(serialization.Encoding.PEM), private(key))


def builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    """What both kinds have in common."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def key_usage(**given: bool) -> x509.KeyUsage:
    """Only what is named."""
    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as nginx reads it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def general(name: str) -> x509.GeneralName:
    """A name or an address as certificates write it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.lower())


def names_of(address: str, host: str, more: Iterable[str]) -> list[str]:
    """The names of a server: its address, what the inventory calls it where that can be a name, and the wishes'."""
    return list(dict.fromkeys([address, *([host] if DNS.fullmatch(host) else []), *more]))


# --- judging ---------------------------------------------------------------------------------------------------------


def parse(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file; none where it is not one."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def matches(pair: Pair) -> bool:
    """Whether the key is this certificate's."""
    found = parse(pair.certificate)
    try:
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        return False
    return bool(found) and key.public_key() == found[0].public_key()


def covered(certificate: x509.Certificate) -> set[x509.GeneralName]:
    """The names and addresses that a certificate stands for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return {x509.DNSName(one.value.lower()) if isinstance(one, x509.DNSName) else one for one in found}


def lacking(certificate: x509.Certificate, names: Iterable[str]) -> list[str]:
    """Names that a certificate does not stand for; `*.example.org` covers one label."""
    there = covered(certificate)
    return [
        name
        for name in names
        if general(name) not in there and x509.DNSName(f"*.{name.lower().partition('.')[2]}") not in there
    ]


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one signed the other."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def leads_to(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Whether a chain, beginning with the server's certificate, ends at one of the authorities."""
    at, rest = chain[0], list(chain[1:])
    while True:
        if at in roots or any(issued(at, root) for root in roots):
            return True
        above = next((one for one in rest if issued(at, one)), None)
        if above is None:
            return False
        rest.remove(above)
        at = above


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days; negative when it is over."""
    return (certificate.not_valid_after_utc - now).days


def why_renew(pair: Pair, issuer: bytes, names: Sequence[str], now: datetime) -> str:
    """Why a server needs another certificate; "" where it does not."""
    found = parse(pair.certificate)
    if not found or not matches(pair):
        return "damaged"
    if not issued(found[0], parse(issuer)[0]):
        return "another authority"
    if covered(found[0]) != {general(one) for one in names}:
        return "other names"
    left, most = days_left(found[0], now), days_left(parse(issuer)[0], now)
    return f"{left} days left" if left < min(RENEW_DAYS, most) else ""


def check_own(pair: Pair, issuers: bytes, paths: dict[str, str], names: Sequence[str], now: datetime) -> list[Finding]:
    """The site's own certificate: refused where clients would refuse it; what is only worth a warning comes back."""
    chain, roots = parse(pair.certificate), parse(issuers)
    for key, certificates in (("certificate", chain), ("authority", roots)):
        if not certificates:
            raise Refused(finding("LW-TLS-002", path=paths[key], what="certificate"))
    try:
        serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise Refused(finding("LW-TLS-002", path=paths["key"], what="private key")) from error
    if not matches(pair):
        raise Refused(finding("LW-TLS-003", key=paths["key"], certificate=paths["certificate"]))
    if missing := lacking(chain[0], names):
        has = [str(one.value) for one in covered(chain[0])]
        raise Refused(finding("LW-TLS-004", path=paths["certificate"], lacking=missing, has=sorted(has) or ["-"]))
    first, last = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not first <= now < last:
        raise Refused(finding("LW-TLS-005", path=paths["certificate"], first=f"{first:%F}", last=f"{last:%F}"))
    if not leads_to(chain, roots):
        raise Refused(finding("LW-TLS-007", path=paths["certificate"], authority=paths["authority"]))
    left = days_left(chain[0], now)
    return [finding("LW-TLS-006", path=paths["certificate"], days=left)] if left < OWN_WARN_DAYS else []


def told(certificates: Sequence[x509.Certificate]) -> str:
    """Certificates in words that tell them apart."""
    names = [f"{one.subject.rfc4514_string()} ({one.fingerprint(hashes.SHA256()).hex()[:16]})" for one in certificates]
    return ", ".join(names) or "-"


# --- keeping ---------------------------------------------------------------------------------------------------------


def authority(safe: Safe, lab: str, now: datetime) -> tuple[Pair, list[Finding]]:
    """The lab's authority out of the safe, made where there is none; with a warning when its end is near.

    It is never made anew by itself: everybody who trusts it would have to be told.
    """
    certificate, key = safe.get("ca.crt"), safe.get("ca.key")
    if certificate is None and key is None:
        pair = make_authority(lab, now)
        safe.put("ca.key", pair.key)
        safe.put("ca.crt", pair.certificate)
        return pair, []
    pair = Pair(certificate or b"", key or b"")
    if not matches(pair):
        raise Refused(finding("LW-TLS-009", path=str(safe.folder)))
    left = days_left(parse(pair.certificate)[0], now)
    ending = finding("LW-TLS-008", path=str(safe.folder), days=max(left, 0))
    if left < 0:
        raise Refused(ending)
    return pair, [ending] if left < AUTHORITY_WARN_DAYS else []


def still_trusted(safe: Safe, there: bytes) -> None:
    """Refused where a host trusts (``there``) another authority than the safe's, which may be lost or another lab's."""
    ours, theirs = parse(safe.get("ca.crt") or b""), parse(there)
    if theirs and not any(one in theirs for one in ours):
        raise Refused(finding("LW-TLS-010", there=told(theirs), path=str(safe.folder), ours=told(ours)))


def server(safe: Safe, issuer: Pair, host: str, file: str, names: Sequence[str], now: datetime) -> Pair:
    """A host's certificate out of the safe, made anew where it must be."""
    pair = Pair(safe.get(f"hosts/{file}.crt") or b"", safe.get(f"hosts/{file}.key") or b"")
    if why_renew(pair, issuer.certificate, names, now):
        pair = make_server(issuer, host, names, now)
        safe.put(f"hosts/{file}.key", pair.key)
        safe.put(f"hosts/{file}.crt", pair.certificate)
    return pair
