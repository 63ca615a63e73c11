"""hostkit.causes: errors in every shape that the lab's programs give them become causes with words in two languages."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from hostkit import causes
from hostkit.cures import CURES

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def fastchat(message: str, code: int) -> dict[str, Any]:
    return {"object": "error", "message": message, "code": code}


def openai(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


HIGH = "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**"
# status, body, cause, a part of the sentence
ANSWERS: list[tuple[int, Any, str, str]] = [
    (400, fastchat(HIGH, 50002), "LW-PROBE-012", "That means: The GPU has no memory left"),
    (
        400,
        fastchat(f"{HIGH}\n\n(CUDA out of memory. Tried to allocate 2 GiB)", 50001),
        "LW-PROBE-012",
        "Tried to allocate",
    ),
    (
        503,
        fastchat("LW-API-003: the worker is out of GPU memory: x.", 50002),
        "LW-PROBE-012",
        "503: LW-API-003: the worker",
    ),
    (
        400,
        fastchat("Only b && a allowed now, your model aa", 40301),
        "LW-PROBE-013",
        "(there: a, b; the closest first)",
    ),
    (
        400,
        fastchat("LW-API-004: Only b allowed now, your model aa. Take", 40301),
        "LW-PROBE-013",
        "(there: b; the closest",
    ),
    (400, fastchat("Only  allowed now, your model aa", 40301), "LW-PROBE-010", "No worker is registered"),
    (503, fastchat("LW-API-005: no worker is registered at the controller: Only", 40301), "LW-PROBE-010", "LW-API-005"),
    (404, fastchat("The model `aa` does not exist.", 404), "LW-PROBE-013", "does not exist"),
    (400, fastchat("This model's maximum context length is 512 tokens.", 40303), "LW-PROBE-024", "length is 512"),
    (400, fastchat("LW-API-006: This model's maximum", 40303), "LW-PROBE-024", "LW-API-006"),
    (503, fastchat("LW-API-001: the controller at http://c does not answer", 50001), "LW-PROBE-022", "LW-API-001: the"),
    (503, fastchat("LW-API-002: the worker at http://w, which serves m", 50006), "LW-PROBE-011", "http://w"),
    (400, fastchat(HIGH, 50001), "LW-PROBE-032", "failed while it worked"),
    (400, fastchat(HIGH, 50004), "LW-PROBE-032", "(FastChat's code 50004)"),
    (500, fastchat("LW-API-007: the worker failed", 50001), "LW-PROBE-032", "LW-API-007"),
    (500, fastchat("LW-API-007: the worker failed: CUDA out of memory.", 50001), "LW-PROBE-012", "LW-API-007"),
    (503, fastchat("LW-API-008: the worker at http://w gave nothing for 1 s", 50006), "LW-PROBE-027", "LW-API-008"),
    (500, fastchat("LW-API-010: the API failed", 50001), "LW-PROBE-032", "LW-API-010"),
    (400, fastchat("LW-API-009: a message has the role", 40001), "LW-PROBE-033", "400: LW-API-009: a message"),
    (400, fastchat("LW-API-012: the request cannot be", 40001), "LW-PROBE-033", "400: LW-API-012: the request"),
    (400, fastchat("LW-API-013: this lab does not have", 40001), "LW-PROBE-033", "400: LW-API-013: this lab"),
    (400, fastchat("LW-API-014: input is no text", 40001), "LW-PROBE-033", "400: LW-API-014: input is"),
    (400, fastchat("", 50005), "LW-PROBE-010", ""),
    (429, fastchat("slow", 42901), "LW-PROBE-025", "slow"),
    (
        401,
        openai("LW-GATEWAY-001: No valid key;", "LW-GATEWAY-001"),
        "LW-PROBE-014",
        "401: LW-GATEWAY-001: No valid key",
    ),
    (400, openai("LW-GATEWAY-002: Plain HTTP;", "LW-GATEWAY-002"), "LW-PROBE-018", "LW-GATEWAY-002"),
    (405, openai("LW-GATEWAY-004: Wrong method;", "LW-GATEWAY-004"), "LW-PROBE-033", "LW-GATEWAY-004"),
    (404, openai("LW-GATEWAY-003: There is no such route;", "LW-GATEWAY-003"), "LW-PROBE-033", "LW-GATEWAY-003"),
    (413, openai("LW-GATEWAY-005: The request is too large;", "LW-GATEWAY-005"), "LW-PROBE-024", "LW-GATEWAY-005"),
    (429, openai("LW-GATEWAY-006: Too many requests", "LW-GATEWAY-006"), "LW-PROBE-025", "LW-GATEWAY-006"),
    (502, openai("LW-GATEWAY-007: The API behind this", "LW-GATEWAY-007"), "LW-PROBE-026", "LW-GATEWAY-007"),
    (504, openai("LW-GATEWAY-008: No word from the model", "LW-GATEWAY-008"), "LW-PROBE-027", "LW-GATEWAY-008"),
    (401, "LW-GATEWAY-009: Nobody is logged in", "LW-PROBE-014", "LW-GATEWAY-009"),
    (403, "LW-GATEWAY-010: Another page on the web", "LW-PROBE-033", "LW-GATEWAY-010"),
    (404, "LW-GATEWAY-011: There is no such page", "LW-PROBE-033", "LW-GATEWAY-011"),
    (502, "LW-GATEWAY-012: The page behind this", "LW-PROBE-042", "LW-GATEWAY-012"),
    (500, openai("LW-GATEWAY-014: The gateway cannot", "LW-GATEWAY-014"), "LW-PROBE-033", "LW-GATEWAY-014"),
    (502, "LW-API-011: the API at http://a does not answer", "LW-PROBE-026", "LW-API-011"),
    (401, {"detail": {"error": {"message": "", "code": "invalid_api_key"}}}, "LW-PROBE-014", "401: invalid_api_key"),
    (401, {"detail": "Not authenticated"}, "LW-PROBE-014", "401: Not authenticated"),
    (400, "<h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port", "LW-PROBE-018", "plain HTTP"),
    (500, "Internal Server Error", "LW-PROBE-032", "500: Internal Server Error"),
    (502, "<html>502 Bad Gateway</html>", "LW-PROBE-026", "502"),
    (503, "", "LW-PROBE-026", "503"),
    (504, "<html>504</html>", "LW-PROBE-027", "504"),
    (418, "tea", "LW-PROBE-033", "418: tea"),
    (0, {"text": HIGH, "error_code": 50004}, "LW-PROBE-032", "sent an error: **NETWORK"),
    (
        0,
        {"error": {"message": "LW-API-002: dead", "code": 50006}, "text": "x", "error_code": 50006},
        "LW-PROBE-011",
        "dead",
    ),
]


@pytest.mark.parametrize(("status", "body", "cause", "words"), ANSWERS)
def test_an_answer_that_refuses(status: int, body: Any, cause: str, words: str) -> None:
    raw = (body if isinstance(body, str) else json.dumps(body)).encode()
    fault = causes.of_answer("http://x", status, raw, "aa")
    assert (fault.cause, words in fault.evidence) == (cause, True), fault.evidence


def test_the_closest_name_stands_first() -> None:
    body = json.dumps(fastchat("Only qwen&&chatglm2-6b&&chatglm3 allowed now, your model ChatGLM-6B", 40301)).encode()
    assert "(there: chatglm2-6b, chatglm3, qwen; " in causes.of_answer("x", 400, body, "chatglm-6b").evidence


def test_every_shape_of_nonsense_is_a_sentence() -> None:
    for body in (b"", b"\xff\xfe", b"[1]", b"null", b'{"detail": [1]}', b'{"error": {}}', b'{"code": {}}', b"7"):
        assert causes.of_answer("http://x", 418, body).cause == "LW-PROBE-033"


@pytest.mark.parametrize("cause", sorted(CURES))
def test_every_cause_has_a_meaning_and_a_cure_in_both_languages(cause: str) -> None:
    assert set(CURES[cause]) == {"en", "zh"}
    assert all(text.strip() for said in CURES[cause].values() for text in said)
    assert not any(CHINESE.search(text) for text in CURES[cause]["en"])
    assert all(CHINESE.search(text) for text in CURES[cause]["zh"])
    assert ["UNIT" in text for text in CURES[cause]["en"]] == ["UNIT" in text for text in CURES[cause]["zh"]]


def test_all_tables_name_causes_that_there_are() -> None:
    assert {*causes.OF_ID.values(), *causes.OF_CODE.values(), *causes.OF_STATUS.values(), causes.OTHER} <= set(CURES)


def test_a_cure_names_the_unit() -> None:
    assert "restart x.service" in causes.cure("LW-PROBE-030", "x.service")
    assert "UNIT" in causes.cure("LW-PROBE-030")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_said_of_another_host_is_right_on_either_system(language: str) -> None:
    """Whoever asks does not know what the host is that must be mended; only of the gateway and the page it is Linux."""
    for cause, said in CURES.items():
        if "systemctl" in said[language][1] and not {"UNIT", "labwright-api", "labwright-web"} & words_of(
            said[language][1]
        ):
            assert "Windows" in said[language][1], cause
        assert "journalctl" not in said[language][1], cause


def words_of(text: str) -> set[str]:
    return set(re.findall(r"UNIT|labwright-\w+", text))


@pytest.mark.parametrize("cause", ["LW-PROBE-030", "LW-PROBE-031"])
def test_a_cure_speaks_as_the_units_own_system(cause: str) -> None:
    assert "systemctl restart x.service" in causes.cure(cause, "x.service")
    assert "Restart-Service x;" in causes.cure(cause, "x")
    assert "systemctl" not in causes.cure(cause, "x")
