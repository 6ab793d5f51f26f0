"""Asking an engine about pages, within its limits, and writing down what it says before anybody uses it.

    layout    POST {address}   {"engine", "page": {"width", "height"}, "mime", "image" (base64)}; the answer is the
              JSON of engines/answer.py
    chat      an OpenAI-compatible model that can see: picture and instruction in, the same JSON as text out

What may work later is tried again by the client (base/http_client.py). A page that the engine refuses, or answers with
something that does not fit, gets the reason. An engine that fails as a whole (wrong address or key, open circuit) is an
error of its own: the replies so far are in the log.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from s1pro.base.endpoint import EndpointError, EndpointRefusedError
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Message, Sampling
from s1pro.base.wire import MalformedAnswerError
from s1pro.corpus.engines.answer import read_answer
from s1pro.corpus.engines.log import Reply, ReplyLog
from s1pro.corpus.engines.render import PagePicture
from s1pro.corpus.engines.settings import LayoutSettings

_BEAT_SECONDS = 1.0
_LONGEST_REASON = 300
INSTRUCTION = """This is a page of a scientific document. Find its figures, tables, formulas and schemes, and read it.
Answer with one JSON object and nothing else:
{"elements": [{"type": T, "box": [x0, y0, x1, y1], "score": s, "text": "...", "label": "...", "caption": "..."}],
 "words": [{"text": "...", "box": [x0, y0, x1, y1]}]}
T is figure, chart, table, formula, scheme, algorithm or other. Boxes are shares of width and height of the picture,
from 0 to 1, origin at the top left corner. A figure with several panels is one element. The box of an element does
not contain its caption; "label" is what it is called ("Figure 3"), "caption" the rest of its caption, "text" what is
written in a table or formula. "words" are all lines of text of the page in reading order."""


def request_of(picture: PagePicture, settings: LayoutSettings) -> str:
    """The name of a call: the digest of what is sent, and to which engine."""
    assert settings.endpoint is not None
    sent = [hashlib.sha256(picture.image).hexdigest(), settings.endpoint.model, settings.protocol]
    if settings.protocol == "chat":
        sent += [INSTRUCTION, str(settings.max_tokens)]
    return hashlib.blake2b(json.dumps(sent).encode(), digest_size=16).hexdigest()


async def ask_pages(
    pictures: Sequence[PagePicture],
    client: HttpClient,
    settings: LayoutSettings,
    log: ReplyLog,
    beat: Callable[[], None] | None = None,
) -> list[Reply]:
    """One reply per page.

    Raises:
        InputError: the engine fails as a whole.
    """
    ticking = asyncio.create_task(_tick(beat or (lambda: None)))
    try:
        async with client:
            found = await asyncio.gather(
                *(_ask(picture, client, settings, log) for picture in pictures), return_exceptions=True
            )
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
    for outcome in found:
        if isinstance(outcome, EndpointError):
            told = f"the layout engine {client.settings.base_url} fails: {outcome}"
            raise InputError(f"{told}; replies so far are kept, give the same command again when it works") from outcome
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in found if isinstance(outcome, Reply)]


async def _ask(picture: PagePicture, client: HttpClient, settings: LayoutSettings, log: ReplyLog) -> Reply:
    request = request_of(picture, settings)
    known = log.reply(request)
    if known is not None:
        return known
    try:
        if settings.protocol == "chat":
            reply = Reply(answer=await _chat(picture, client, settings))
        else:
            reply = Reply(answer=await client.post("", _body(picture, settings), _checker(settings)))
    except EndpointRefusedError:
        raise
    except EndpointError as error:
        if error.kind == "circuit_open":
            raise
        reply = Reply(error=_reason(error))
    except MalformedAnswerError as error:
        reply = Reply(error=f"malformed answer: {error}"[:_LONGEST_REASON])
    log.write(request, reply)
    return reply


def _body(picture: PagePicture, settings: LayoutSettings) -> dict[str, Any]:
    assert settings.endpoint is not None
    return {
        "engine": settings.endpoint.model,
        "page": {"width": picture.width, "height": picture.height},
        "mime": picture.mime,
        "image": base64.b64encode(picture.image).decode("ascii"),
        **settings.endpoint.extra_body,
    }


def _checker(settings: LayoutSettings) -> Callable[[Any], Any]:
    """Gives an answer back if it fits."""

    def check(value: Any) -> Any:
        try:
            read_answer(value, settings.limits)
        except InputError as error:
            raise MalformedAnswerError(str(error)) from error
        return value

    return check


async def _chat(picture: PagePicture, client: HttpClient, settings: LayoutSettings) -> Any:
    parts: list[dict[str, object]] = [
        {"type": "image", "image": picture.image},
        {"type": "text", "text": INSTRUCTION},
    ]
    sampling = Sampling(max_new_tokens=settings.max_tokens, temperature=0.0)
    answer = await client.chat([Message(role="user", content=parts)], sampling)
    if answer.finish_reason != "stop":
        raise MalformedAnswerError(f"the model did not come to an end ({answer.finish_reason})")
    text = answer.text.rpartition("</think>")[2]
    try:
        value = json.loads(text[text.find("{") : text.rfind("}") + 1])
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError(f"no JSON object in the text ({error})") from error
    return _checker(settings)(value)


def _reason(error: EndpointError) -> str:
    """Why there is no answer, without addresses and numbers of attempts: the same in every run."""
    if error.kind == "malformed":
        return f"malformed answer: {error.__cause__}"[:_LONGEST_REASON]
    return f"HTTP {error.status}" if error.kind == "status" else error.kind.replace("_", " ")


async def _tick(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(_BEAT_SECONDS)
