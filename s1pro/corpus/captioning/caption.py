"""Captions of elements: from a model behind a client, or from the describer without one.

    element, rollout -> prompt -> request_id -> log? -> client -> accepted? -> checks -> CaptionRow

1. A request is named by the digest of picture, prompt, model and sampling, so it is the same call wherever it is made.
   What the log holds is not asked again.
2. `concurrency` requests are under way at once; the elements are read as places become free.
3. An answer is accepted if it ended by itself (`finish_reason` "stop") and does not repeat itself; otherwise the next
   temperature of the list is tried. After the last one the row has an error and no text.
4. Failures of single calls (refused prompts, time-outs after all retries) are rows with an error. When the endpoint as
   a whole fails (its circuit stays open, or it refuses us), the run stops with that error instead of turning all that
   is left into error rows; the log keeps what was answered, and the next run goes on.
5. A budget (`spending`) is asked before every call. What it does not allow is a row with the error `PRICE_CAP` that is
   not in the log: with a higher cap it is asked.
6. Every text is checked against the crop (`checks`); flags are part of the row.

Without a client, `embedded_captions` renders the facts of the describer in a style chosen by the same kind of hash. A
grounded text of it carries the authors' caption and mentions behind `checks.CONTEXT_MARK`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s1pro.base.client import ModelClient
from s1pro.base.endpoint import EndpointError, EndpointRefusedError, PromptRefusedError
from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.corpus.captioning.checks import CONTEXT_MARK, check_caption, form_flags
from s1pro.corpus.captioning.log import CallLog
from s1pro.corpus.captioning.spending import RouteBudget
from s1pro.corpus.captioning.templates import Prompt, TemplateBank, load_templates
from s1pro.corpus.describe.facts import Facts
from s1pro.corpus.describe.prose import STYLES, render
from s1pro.corpus.records import CaptionRow, ElementRow

EMBEDDED = "embedded"
_BUDGET_SECONDS = 0.05
PRICE_CAP = "not asked: the price cap of the route is reached"
NOTHING_PROVEN = "the page proves nothing about this element"


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """How elements are captioned.

    Attributes:
        model: name of the model; part of the request.
        seed: of all choices; `rollouts` texts are made per element.
        grounded_share: share of requests that show the authors' caption, chosen by hash.
        styles, lengths: names in the template bank to choose from; default all. For the embedded describer `styles` are
            those of `describe.prose`.
        temperatures: of the attempts, in order.
        concurrency: most requests under way at once.
    """

    model: str
    seed: int = 0
    rollouts: int = 1
    grounded_share: float = 0.0
    styles: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=1024, temperature=0.3, top_p=0.95))
    temperatures: tuple[float, ...] = (0.3, 0.6, 0.9)
    concurrency: int = 16

    def __post_init__(self) -> None:
        if self.rollouts < 1 or self.concurrency < 1 or not self.temperatures:
            raise InputError("captions: rollouts, concurrency and the list of temperatures must not be empty")
        if not 0 <= self.grounded_share <= 1:
            raise InputError(f"grounded_share must be between 0 and 1, got {self.grounded_share}")


def embedded_captions(elements: Iterable[ElementRow], settings: CaptionSettings) -> Iterator[CaptionRow]:
    """Captions from the facts of the describer: `rollouts` rows per element, in order. Needs no model."""
    for element in elements:
        for rollout in range(settings.rollouts):
            yield _embedded(element, rollout, settings)


def model_captions(
    elements: Iterable[ElementRow],
    client: ModelClient,
    settings: CaptionSettings,
    *,
    log: Path | None = None,
    domains: Mapping[str, str] | None = None,
    templates: TemplateBank | None = None,
    retry_errors: bool = False,
    budget: RouteBudget | None = None,
) -> list[CaptionRow]:
    """`model_captions_async` in an event loop of its own."""
    return asyncio.run(
        model_captions_async(
            elements,
            client,
            settings,
            log=log,
            domains=domains,
            templates=templates,
            retry_errors=retry_errors,
            budget=budget,
        )
    )


async def model_captions_async(
    elements: Iterable[ElementRow],
    client: ModelClient,
    settings: CaptionSettings,
    *,
    log: Path | None = None,
    domains: Mapping[str, str] | None = None,
    templates: TemplateBank | None = None,
    retry_errors: bool = False,
    budget: RouteBudget | None = None,
) -> list[CaptionRow]:
    """Captions by a model: `rollouts` rows per element, in order.

    Args:
        log: the write-ahead log of this unit of work; None keeps nothing.
        domains: topic of elements by `element_id`, for the wording of prompts.
        retry_errors: ask again what the log holds as an error.
        budget: counts what calls cost, and ends them at a cap.

    Raises:
        EndpointError: the endpoint as a whole fails; answers so far are in the log.
        InputError: unknown styles or lengths, or a damaged log.
    """
    bank = templates or load_templates()
    rows: dict[tuple[int, int], CaptionRow] = {}
    failures: list[EndpointError | InputError] = []
    jobs = ((n, element, r) for n, element in enumerate(elements) for r in range(settings.rollouts))

    async def work() -> None:
        for number, element, rollout in jobs:
            domain = (domains or {}).get(element.element_id, "general")
            try:
                prompt = _prompt(bank, element, rollout, domain, settings)
                rows[(number, rollout)] = await _caption(element, prompt, rollout, client, settings, calls, budget)
            except (EndpointError, InputError) as error:  # the other workers finish their call, and begin no other
                failures.append(error)
            if failures:
                return

    with CallLog(log, retry_errors=retry_errors) as calls:
        async with asyncio.TaskGroup() as group:
            for _ in range(settings.concurrency):
                group.create_task(work())
    if failures:
        raise failures[0]
    return [rows[key] for key in sorted(rows)]


def _prompt(bank: TemplateBank, element: ElementRow, rollout: int, domain: str, settings: CaptionSettings) -> Prompt:
    return bank.prompt(
        element,
        seed=settings.seed,
        rollout=rollout,
        domain=domain,
        grounded=_is_grounded(element, rollout, settings),
        styles=settings.styles,
        lengths=settings.lengths,
    )


def _is_grounded(element: ElementRow, rollout: int, settings: CaptionSettings) -> bool:
    """By hash, for elements that have a caption or mentions."""
    digest = hashlib.blake2b(
        f"{settings.seed}|{element.element_id}|{rollout}|grounded".encode(), digest_size=8
    ).digest()
    chosen = int.from_bytes(digest, "big") / 2**64 < settings.grounded_share
    return chosen and bool(element.caption or element.mentions)


async def _caption(
    element: ElementRow,
    prompt: Prompt,
    rollout: int,
    client: ModelClient,
    settings: CaptionSettings,
    calls: CallLog,
    budget: RouteBudget | None,
) -> CaptionRow:
    """Steps 1 to 6 of one request."""
    blank = CaptionRow(
        request_id=request_id(element, prompt, rollout, settings),
        element_id=element.element_id,
        template_id=prompt.template_id,
        model=settings.model,
        text="",
        grounded=prompt.grounded,
        rollout=rollout,
        prompt=prompt.text,
    )
    known = calls.row(blank.request_id)
    if known is not None:
        return known
    if not element.image:
        return _failed(blank, "the element has no picture", calls)
    messages = _messages(element, prompt)
    row = blank
    for attempt in range(calls.attempts(blank.request_id), len(settings.temperatures)):
        sampling = dataclasses.replace(settings.sampling, temperature=settings.temperatures[attempt])
        try:
            answer = await _paid(client, messages, sampling, element, prompt, budget)
        except EndpointRefusedError:
            raise
        except EndpointError as error:
            if error.kind == "circuit_open":
                raise
            return _failed(blank, str(error), calls)
        except ValueError as error:
            return _failed(blank, str(error), calls)
        if answer is None:
            return dataclasses.replace(blank, error=PRICE_CAP, finish_reason="abort")
        row = _row(blank, answer)
        reason = _refused(row)
        if not reason:
            row = _checked(row, element)
            calls.write(row, final=True)
            return row
        last = attempt + 1 == len(settings.temperatures)
        row = dataclasses.replace(row, text="", error=f"not accepted: {reason}", flags=(reason.partition(" ")[0],))
        calls.write(row, final=last)
    return row if row.error else _failed(blank, "all attempts of an earlier run were not accepted", calls)


async def _paid(
    client: ModelClient,
    messages: Sequence[Message],
    sampling: Sampling,
    element: ElementRow,
    prompt: Prompt,
    budget: RouteBudget | None,
) -> Completion | None:
    """One call, with its cost in the ledger; None if the budget does not allow it."""
    if budget is None:
        return await client.chat(messages, sampling)
    size = len(prompt.text), element.width * element.height, sampling.max_new_tokens
    while (call := budget.reserve(*size)) is None:
        if not budget.under_way:
            return None
        await asyncio.sleep(_BUDGET_SECONDS)  # a call of ours may cost less than its most
    try:
        answer = await client.chat(messages, sampling)
        budget.settle(call, answer)
    except EndpointError as error:
        if isinstance(error, PromptRefusedError | EndpointRefusedError) or error.kind == "circuit_open":
            budget.settle(call, None)
        raise
    finally:
        budget.under_way.discard(call)
    return answer


def request_id(element: ElementRow, prompt: Prompt, rollout: int, settings: CaptionSettings) -> str:
    """The name of a call: what goes out decides it, and which rollout it is."""
    picture = element.image_id or hashlib.sha256(element.image).hexdigest()
    sampling = dataclasses.asdict(settings.sampling)
    sent = [picture, element.element_id, prompt.template_id, prompt.text, settings.model, settings.temperatures]
    text = json.dumps([*sent, sampling, rollout, settings.seed], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _messages(element: ElementRow, prompt: Prompt) -> Sequence[Message]:
    parts: list[dict[str, object]] = [{"type": "image", "image": element.image}, {"type": "text", "text": prompt.text}]
    return [Message(role="user", content=parts)]


def _row(blank: CaptionRow, answer: Completion) -> CaptionRow:
    usage = answer.usage
    return dataclasses.replace(
        blank,
        text=answer.text.rpartition("</think>")[2].strip(),
        finish_reason=answer.finish_reason,
        num_prompt_tokens=usage.num_prompt_tokens if usage else len(answer.prompt_token_ids),
        num_tokens=usage.num_tokens if usage else len(answer.token_ids),
    )


def _refused(row: CaptionRow) -> str:
    """Why an answer is not taken; empty if it is."""
    if row.finish_reason != "stop":
        return f"finish_reason {row.finish_reason}"
    return next((flag for flag in form_flags(row.text) if flag in ("empty", "repetition")), "")


def _checked(row: CaptionRow, element: ElementRow) -> CaptionRow:
    found = check_caption(
        row.text,
        element.text_layer,
        authors_caption=" ".join([element.caption, *(mention.text for mention in element.mentions)]).strip(),
        grounded=row.grounded,
        prompt=row.prompt,
        finish_reason=row.finish_reason,
    )
    return dataclasses.replace(row, flags=found.flags)


def _failed(blank: CaptionRow, reason: str, calls: CallLog) -> CaptionRow:
    row = dataclasses.replace(blank, error=reason, finish_reason="abort")
    calls.write(row, final=True)
    return row


def _embedded(element: ElementRow, rollout: int, settings: CaptionSettings) -> CaptionRow:
    key = f"{settings.seed}|{element.element_id}|{rollout}"
    styles = settings.styles or STYLES
    style = styles[
        int.from_bytes(hashlib.blake2b(f"{key}|style".encode(), digest_size=8).digest(), "big") % len(styles)
    ]
    text = render(Facts.from_json(element.facts), style=style, seed=key) if element.facts else element.description
    grounded = _is_grounded(element, rollout, settings)
    row = CaptionRow(
        request_id=hashlib.blake2b(f"{EMBEDDED}|{key}|{style}|{grounded}|{text}".encode(), digest_size=16).hexdigest(),
        element_id=element.element_id,
        template_id=f"{EMBEDDED}/{style}",
        model=EMBEDDED,
        text=text,
        grounded=grounded,
        rollout=rollout,
    )
    if not text.strip():
        return dataclasses.replace(row, error=NOTHING_PROVEN, finish_reason="abort")
    if grounded:
        row = dataclasses.replace(row, text=f"{text}\n\n{context_text(element)}")
    return _checked(row, element)


def context_text(element: ElementRow) -> str:
    """The authors' own words, marked as what they are."""
    parts = [CONTEXT_MARK]
    if element.caption:
        label = f" of {element.label}" if element.label else ""
        parts.append(f"the authors' caption{label} says “{' '.join(element.caption.split())}”")
    if element.mentions:
        mentioned = " ".join(f"“{' '.join(mention.text.split())}”" for mention in element.mentions)
        parts.append(f"{'and ' if element.caption else ''}the text says {mentioned}")
    return " ".join(parts)
