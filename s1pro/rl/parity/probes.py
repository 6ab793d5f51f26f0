"""What an engine is asked, and what it says: the raw material of `s1pro parity`. Nothing else is known of the engine.

* prompts as token ids, sampled at temperature 1: log-probabilities of tokens that are not all likely, and draws that
  show which distribution they come from
* conversations, greedily, twice: by the engine's own chat template, and as the ids that ours gives
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from s1pro.base.client import ModelClient
from s1pro.base.records import Completion, Message, Sampling
from s1pro.inputs.processor import Processor

TEXTS = (
    "The boiling point of a liquid is the temperature at which",
    "Formula of ethanol?",
    "Sequence alignment compares",
    "def mean(values):\n    return",
    "1, 1, 2, 3, 5, 8,",
    "Seismic waves travel through",
    "SMILES: CC(=O)Oc1ccccc1C(=O)O is",
    "In the beginning of the measurement, the detector",
)
"""Beginnings of texts; parts of them, and random tokens, are the other prompts."""

CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="What is the formula of water?"),),
    (Message(role="system", content="Answer briefly."), Message(role="user", content="Name a noble gas.")),
    (
        Message(role="user", content="Count the carbon atoms in CCO."),
        Message(role="assistant", content="2"),
        Message(role="user", content="And in CCCO?"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How much is asked.

    Attributes:
        prompts: that are sampled; tokens: of each answer.
        longest: tokens of the longest prompt; long ones show faults of positions.
        vocabulary: prompts of random tokens draw from the first so many ids.
    """

    prompts: int = 48
    tokens: int = 48
    longest: int = 256
    seed: int = 0
    concurrency: int = 16

    def __post_init__(self) -> None:
        for name in ("prompts", "tokens", "longest", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One prompt with the sampled answer."""

    prompt: tuple[int, ...]
    completion: Completion

    @property
    def token_ids(self) -> tuple[int, ...]:
        return (*self.prompt, *self.completion.token_ids)


@dataclass(frozen=True, kw_only=True)
class ChatProbe:
    """One conversation: through the engine's template, and as the ids that ours gives, with and without thinking; all
    greedy."""

    messages: tuple[Message, ...]
    by_chat: Completion
    by_ids: tuple[Completion, ...]

    @property
    def agrees(self) -> bool:
        """Whether one of our forms is the engine's."""
        return any(_same_prompt(self.by_chat, ours) for ours in self.by_ids)


async def collect(
    client: ModelClient, processor: Processor, settings: ProbeSettings
) -> tuple[list[Probe], list[ChatProbe]]:
    """Asks everything."""
    gate = asyncio.Semaphore(settings.concurrency)

    async def sampled(number: int, prompt: tuple[int, ...]) -> Probe:
        sampling = Sampling(
            max_new_tokens=settings.tokens, temperature=1.0, seed=settings.seed + number, ignore_eos=True
        )
        async with gate:
            return Probe(prompt=prompt, completion=await client.generate(prompt, sampling))

    async def chat(messages: tuple[Message, ...]) -> ChatProbe:
        greedy = Sampling(max_new_tokens=min(settings.tokens, 24))
        by_ids = []
        async with gate:
            by_chat = await client.chat(messages, greedy)
            for thinking in (False, True):
                ids = processor.encode(
                    messages, add_generation_prompt=True, enable_thinking=thinking, allow_control_tokens=False
                ).token_ids
                completion = await client.generate(ids, greedy)
                by_ids.append(replace(completion, prompt_token_ids=tuple(ids)))
        return ChatProbe(messages=messages, by_chat=by_chat, by_ids=tuple(by_ids))

    prompts = prompts_of(processor, settings)
    probes = await asyncio.gather(*(sampled(number, prompt) for number, prompt in enumerate(prompts)))
    chats = await asyncio.gather(*(chat(messages) for messages in CONVERSATIONS))
    return list(probes), list(chats)


def _same_prompt(theirs: Completion, ours: Completion) -> bool:
    """Equal prompts, where the engine tells its own; else equal answers, and equal log-probabilities of them."""
    if theirs.prompt_token_ids:
        return theirs.prompt_token_ids == ours.prompt_token_ids
    if theirs.text != ours.text:
        return False
    if not theirs.logprobs or not ours.logprobs:
        return True
    return bool(np.allclose(theirs.logprobs, ours.logprobs[: len(theirs.logprobs)], atol=1e-2))


def prompts_of(processor: Processor, settings: ProbeSettings) -> list[tuple[int, ...]]:
    """Texts, cut texts joined to long prompts, and a quarter of shuffled ones, lengths from 1 to `longest`."""
    draw = np.random.default_rng(settings.seed)
    texts = [processor.tokenizer.encode(text) for text in TEXTS]
    pool = [token for text in texts for token in text]
    prompts: list[tuple[int, ...]] = []
    for number in range(settings.prompts):
        length = round(settings.longest ** ((number + 1) / settings.prompts))
        if number % 4 == 3:
            ids = draw.choice(pool, size=length).tolist()
        else:
            start = int(draw.integers(len(texts)))
            order = [token for text in (*texts[start:], *texts[:start]) for token in text]
            ids = (order * (length // len(order) + 1))[:length]
        prompts.append(tuple(int(token) for token in ids))
    return prompts


def check_probes(probes: Sequence[Probe]) -> None:
    """Raises `ValueError` if the engine returned no log-probabilities, or fewer than tokens."""
    for probe in probes:
        logprobs, tokens = probe.completion.logprobs, probe.completion.token_ids
        if not tokens or logprobs is None or len(logprobs) != len(tokens):
            got = "none" if logprobs is None else str(len(logprobs))
            raise ValueError(f"the engine returned {len(tokens)} tokens and {got} log-probabilities for them")
