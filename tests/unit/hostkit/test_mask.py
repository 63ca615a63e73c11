"""hostkit.mask: what looks like a secret is never said, what is none stays readable, no line is added or lost."""

from __future__ import annotations

import time

import pytest

from hostkit.mask import mask

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\nAg=="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer Hidden", "Authorization: Bearer ***"),
        ("'authorization': 'Basic SGlkZGVuOng='", "'authorization': 'Basic ***'"),
        ('{"Authorization": "Hidden"}', '{"Authorization": "***"}'),
        ("said bearer HiddenHidden, and went", "said bearer ***, and went"),
        ("sent Basic SGlkZGVuOng= to it", "sent Basic *** to it"),
        ("http://mirror:Hid@den@host/simple", "http://***@host/simple"),
        ("https://Hidden@host:8443", "https://***@host:8443"),
        ("args: Namespace(api_keys=['Hidden', 'Hidden'], port=1)", "args: Namespace(api_keys=***, port=1)"),
        ("python -m api --api-keys Hidden,Hidden --port 1", "python -m api --api-keys *** --port 1"),
        ("password=Hidden;Hidden,Hidden next", "password=*** next"),
        ('{"db_password": "Hid\\"den Hidden", "port": 1}', '{"db_password": ***, "port": 1}'),
        ("vault secret: 'Hid den'", "vault secret: ***"),
        ("HF_TOKEN=Hidden", "HF_TOKEN=***"),
        ("GET /?key=Hidden&x=1 HTTP/1.1", "GET /?key=***&x=1 HTTP/1.1"),
        ("the key lw-Hidden_Hidden-Hidden was refused", "the key lw-*** was refused"),
        ("sk-HiddenHidden", "sk-***"),
        ("hf_HiddenHidden and ghp_HiddenHidden", "hf_*** and ghp_***"),
    ],
)
def test_what_looks_like_a_secret(text: str, expected: str) -> None:
    assert mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LW-PROBE-001: worker: nothing listens at http://10.0.0.1:21002; is its service up?",
        "INFO:     10.83.27.10:51234 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
        "labwright-worker-labwright-demo.service: Main process exited, code=killed, status=9/KILL",
        "max_tokens=64, temperature=0.0, stop_token_ids=[2]",
        "a basic model, a bearer of news, no token yet",
        "http://host/simple?mail=a@b",
        "-----BEGIN CERTIFICATE-----",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_a_private_key_goes_whole_and_its_lines_stay_as_many(kind: str) -> None:
    text = f"before\nread -----BEGIN {kind}-----\nProc-Type: 4\n\n{BODY}\n-----END {kind}-----\nafter"
    found = mask(text)
    assert found.count("\n") == text.count("\n")
    assert found.replace("***\n", "") == "before\nread after"


def test_a_private_key_that_was_cut_off_goes_as_far_as_it_came() -> None:
    text = f"-----BEGIN PRIVATE KEY-----\n{BODY}\nafter it\nand on"
    assert mask(text) == "***\n***\n***\n***\nafter it\nand on"
    assert mask("x -----BEGIN PRIVATE KEY-----\\nMIIE\\n") == "x ***"


def test_what_is_known_goes_in_each_of_its_forms() -> None:
    known = ["pa/ss", "pa/ss word", 'quo"te', ""]
    said = 'pa/ss word, pa%2Fss%20word, pa/ss, quo"te, quo\\"te'
    assert mask(said, known) == "***, ***, ***, ***, ***"
    assert mask("\nnothing\n", [""]) == "\nnothing\n"


@pytest.mark.parametrize("text", ["x" * 200_000, "a-" * 50_000, "--" * 50_000, "token" + " " * 100_000, "://" * 30_000])
def test_no_text_takes_for_ever(text: str) -> None:
    begun = time.monotonic()
    assert mask(text)
    assert time.monotonic() - begun < 5
