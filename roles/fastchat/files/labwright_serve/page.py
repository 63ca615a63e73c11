"""FastChat's page, which asks the lab's API, keeps nothing that people write, and needs nothing but its own host.

FastChat's own asks the controller and the workers, with a conversation template that it guesses from the model's name;
writes each conversation, with the address of who had it, into its log and into a file; and asks whatever listens on
port 9090 whether it may answer.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from labwright_serve.listening import Door, serve

log = logging.getLogger("labwright_serve")
CONNECT_S, ANSWER_S = 5, 600
PATIENCE_S = 8  # for answers that have begun, when the page is told to end; its unit waits for 15
AT_ONCE = 16  # answers; more people wait for their turn, and are shown so
WAITING = 200  # of them; one more is told that the page is busy


class Everything(dict[str, Any]):
    """FastChat takes the models that are in here from an API."""

    def __contains__(self, _: object) -> bool:
        """Whichever it is."""
        return True

    def __missing__(self, _: str) -> dict[str, Any]:
        """Nothing of it is asked for."""
        return {}


def said(answer: Any) -> str:
    """What the API says of a question that it refused."""
    try:
        return str(answer.json()["message"])
    except (ValueError, LookupError, TypeError):
        return f"the API answered {answer.status_code} {answer.reason}"


class Api:
    """The lab's API on this host."""

    def __init__(self, url: str) -> None:
        """``url`` ends in /v1."""
        self.url = url

    def away(self, error: Exception) -> str:
        """The sentence for an API that does not answer."""
        return f"LW-API-011: the API at {self.url} does not answer ({error}). Try again in a minute."

    def models(self, *_: Any) -> tuple[list[str], list[str]]:
        """FastChat's get_model_list: those to show, and all; none while the API is away, and the page is there."""
        import requests

        try:
            answer = requests.get(f"{self.url}/models", timeout=(CONNECT_S, 30))
            names = sorted(row["id"] for row in answer.json()["data"])
        except (requests.exceptions.RequestException, ValueError, LookupError, TypeError) as error:
            log.warning(self.away(error))
            names = []
        return names, names

    def stream(
        self, conv: Any, model: str, _: Any, temperature: float, top_p: float, max_new_tokens: int
    ) -> Iterator[dict[str, Any]]:
        """FastChat's get_api_provider_stream_iter: all of the answer so far, each time; or why there is none."""
        wish = {"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens, "stream": True}
        # Now, and not when the first piece is wanted: by then FastChat has put its cursor into the conversation.
        return self.pieces({"model": model, "messages": conv.to_openai_api_messages(), **wish})

    def pieces(self, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The API's stream as FastChat's page wants it."""
        import requests

        text = ""
        try:
            with requests.post(
                f"{self.url}/chat/completions", json=question, stream=True, timeout=(CONNECT_S, ANSWER_S)
            ) as answer:
                if answer.status_code != 200:
                    yield {"text": said(answer), "error_code": answer.status_code}
                    return
                for line in answer.iter_lines():
                    if not line.startswith(b"data: {"):
                        continue
                    piece = json.loads(line[6:])
                    if piece.get("error_code"):
                        yield {"text": piece["text"], "error_code": piece["error_code"]}
                        return
                    text += piece["choices"][0]["delta"].get("content") or ""
                    yield {"text": text, "error_code": 0}
        except (requests.exceptions.RequestException, ValueError, LookupError) as error:
            yield {"text": self.away(error), "error_code": 502}
            return
        if not text:
            yield {"text": "The model gave no words.", "error_code": 0}


def light() -> Any:
    """FastChat's page, without what computes.

    FastChat's package imports its models' adapters, and with them torch and transformers: 1.1 GiB in the environment
    (measured), for one function, which is replaced below.
    """
    adapter: Any = ModuleType("fastchat.model.model_adapter")
    adapter.load_model = adapter.add_model_args = adapter.get_conversation_template = None
    sys.modules[adapter.__name__] = adapter
    from fastchat.serve import gradio_web_server

    return gradio_web_server


def mend(fastchat: Any, api: Api) -> None:
    """Put our functions in the place of FastChat's; its page looks them up at each event."""
    import gradio
    from fastchat.conversation import Conversation, SeparatorStyle

    def conversation(_: str) -> Any:
        # Its template is the API's to know: it asks the worker.
        style = SeparatorStyle.ADD_COLON_SINGLE
        return Conversation(name="labwright", roles=("user", "assistant"), messages=[], sep_style=style)

    add_text = fastchat.add_text

    @functools.wraps(add_text)  # Gradio reads the annotations
    def whole(*values: Any) -> Any:
        # FastChat gives one value too few for an empty message and for a conversation that is too long: "Error".
        found = add_text(*values)
        return found if len(found) == 9 else (*found[:3], None, *found[3:])

    fastchat.args = SimpleNamespace(model_list_mode="reload", register_api_endpoint_file=None, show_terms_of_use=False)
    fastchat.api_endpoint_info = Everything()
    fastchat.add_text = whole
    fastchat.get_model_list = api.models
    fastchat.get_api_provider_stream_iter = api.stream
    fastchat.get_conversation_template = conversation
    fastchat.get_model_description_md = lambda _: ""
    fastchat.is_limit_reached = lambda *_: None
    fastchat.moderation_filter = lambda *_: False
    fastchat.get_conv_log_filename = lambda: os.devnull
    fastchat.logger.setLevel(logging.WARNING)
    # Without `visible`: it would show what is hidden below.
    fastchat.enable_btn = gradio.Button(interactive=True)


def build(fastchat: Any) -> Any:
    """FastChat's page without what has no meaning in a lab: votes that nobody reads, descriptions of no model."""
    page = fastchat.build_demo([])
    for block in page.blocks.values():
        words = str(getattr(block, "label", None) or getattr(block, "value", None) or "")
        if any(one in words for one in ("Upvote", "Downvote", "Flag", "descriptions of")):
            block.visible = False
    page.stylesheets = []  # a font from the internet
    return page.queue(default_concurrency_limit=AT_ONCE, api_open=False, max_size=WAITING)


def run(door: Door) -> None:
    """Run the page; `--api-url` is where the lab's API listens on this host."""
    parser = argparse.ArgumentParser(prog=sys.argv[0], allow_abbrev=False)
    for name in ("host", "port", "api-url"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import fastapi
    import gradio

    fastchat = light()
    mend(fastchat, Api(options.api_url))
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Every open page keeps a connection for as long as it is open.
    serve(door, gradio.mount_gradio_app(app, build(fastchat), path="/"), patience_s=PATIENCE_S)
