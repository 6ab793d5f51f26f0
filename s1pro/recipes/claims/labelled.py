"""Small models that answer with one of a few labels: how the claims about data and modalities train and examine.

    Labelled --encode--> Kept (tokens and media in memory) --fit--> Network --answers--> one label per question

A question is a conversation of one turn whose right answer is one of its labels. Training is that of `train/`: packed
batches of a fixed number of tokens, Muon for matrices, warm-up-stable-decay, loss on the answers only. The examination
runs every question through the network once and takes, at the first token in which the labels differ, the likeliest of
those tokens. That is greedy decoding restricted to the labels, in one pass instead of one per token.

All arms of a claim use these functions with the same settings; what differs is what they are given to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from s1pro.base.records import Message, Sample
from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.packing import Packer
from s1pro.data.sequence import Encoder, ProcessorEncoder, TokenSequence
from s1pro.data.sources import Source
from s1pro.inputs.expansion import written
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.signals import SignalSettings
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny, with_media
from s1pro.train.guards import Guard, GuardConfig
from s1pro.train.losses import LanguageModelLoss, LossConfig
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.schedules import ScheduleConfig, lr_scale, step_progress
from s1pro.train.setup import SIGNAL_TOKENS, VISION_TOKENS
from s1pro.train.step import Stepper

PATCH = 8
INIT = 0.08
_EXAMINED_ROWS = 2048
PREPARATION = Preparation(
    images=ImageSettings(patch_size=PATCH, min_pixels=4 * PATCH * PATCH, max_pixels=256 * 256),
    signals=SignalSettings(describe=False),
)
"""Patches of 8 pixels; signals without a description, so that no route is told more than another."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One question.

    Attributes:
        content: of the user's turn, media first.
        answer: one of `labels`.
    """

    content: tuple[Mapping[str, Any], ...]
    answer: str
    labels: tuple[str, ...]

    def messages(self, answer: str | None = None) -> tuple[Message, ...]:
        """The conversation with its right answer, or another."""
        said = Message(role="assistant", content=self.answer if answer is None else answer)
        return (Message(role="user", content=list(self.content)), said)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long and how fast. `tokens_per_batch` rows are one step.

    Attributes:
        balance: coefficient of the load-balancing loss.
        warmup, decay: shares of the steps.
    """

    steps: int
    tokens_per_batch: int = 512
    lr: float = 4e-3
    optimizer: Literal["adamw", "muon"] = "muon"
    balance: float = 1e-3
    warmup: float = 0.05
    decay: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training took: rows that belong to samples, of each source, seconds, and (step, loss) along the way."""

    tokens: int
    by_source: Mapping[str, int]
    seconds: float
    losses: tuple[tuple[float, float], ...]


class Kept:
    """A source whose sequences stay in memory with their media. Implements `data.sources.Source`."""

    def __init__(self, name: str, sequences: Sequence[TokenSequence]) -> None:
        self.name, self._sequences = name, tuple(sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def num_tokens(self) -> int:
        return sum(sequence.num_rows for sequence in self._sequences)

    def num_rows(self, index: int) -> int:
        return self._sequences[index].num_rows

    def is_conversation(self, index: int) -> bool:
        return self._sequences[index].conversation

    def has_media(self, index: int) -> bool:
        return self._sequences[index].media is not None

    def sequence(self, index: int) -> TokenSequence:
        return self._sequences[index]


def make_processor(questions: Iterable[Labelled], *, vocab_size: int = 400) -> Processor:
    """A tokenizer trained on the questions and the preparation of media."""
    conversations = (written(question.messages(), PREPARATION) for question in questions)
    tokenizer = train_tokenizer(conversations, vocab_size=vocab_size)
    return Processor(tokenizer, preparation=PREPARATION)


def make_network(processor: Processor, seed: int) -> Network:
    """A small mixture of experts with towers for pictures and signals."""
    tokenizer = processor.tokenizer
    ids = {field: tokenizer.token_to_id(token) for field, token in (VISION_TOKENS | SIGNAL_TOKENS).items()}
    config = with_media(tiny(), **ids)  # type: ignore[arg-type]
    assert config.vision is not None
    vision = replace(config.vision, patch_size=PATCH, num_position_embeddings=1024, initializer_range=INIT)
    text = replace(config.text, vocab_size=-(-tokenizer.vocab_size // 32) * 32, initializer_range=INIT)
    return Network(replace(config, vision=vision, text=text), seed=seed)


def keep(name: str, questions: Iterable[Labelled], encoder: Encoder) -> Kept:
    """Questions and their answers, encoded."""
    samples = [Sample(source=name, prompt_group="science", messages=q.messages()) for q in questions]
    return Kept(name, encoder.encode(samples))


def fit(
    network: Network,
    sources: Sequence[Source],
    settings: FitSettings,
    *,
    seed: int,
    weights: Sequence[float] | None = None,
    each: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Trains for `settings.steps` steps.

    Args:
        weights: shares of the tokens by source; in proportion to their sizes by default, so that every question is
            asked equally often.
        each: called after every step.
    """
    started = time.perf_counter()
    shares = weights or [float(sum(source.num_rows(i) for i in range(len(source)))) for source in sources]
    policy = LengthPolicy(max_length=settings.tokens_per_batch)
    packer = Packer(Mixture(sources, shares, policy=policy, seed=seed), num_rows=settings.tokens_per_batch)
    optimizer = Optimizer(network, OptimizerConfig(kind=settings.optimizer, lr=settings.lr))
    loss = LanguageModelLoss(LossConfig(balance=settings.balance))
    stepper = Stepper(network.train(), optimizer, Guard(GuardConfig()), loss)
    schedule = ScheduleConfig(warmup=settings.warmup, decay=settings.decay)
    losses, rows, by_source = [], 0, dict.fromkeys((source.name for source in sources), 0)
    for step in range(settings.steps):
        plan = packer.plan()
        assert plan is not None
        for chunk in plan:
            by_source[sources[chunk.source].name] += chunk.num_rows
        report = stepper.step([packer.materialise(plan)], lr_scale(schedule, step_progress(step, settings.steps)))
        rows += report.rows
        losses.append((float(step + 1), report.loss))
        each(step + 1)
    network.eval()
    every = max(1, settings.steps // 40)
    return Fitted(
        tokens=rows,
        by_source=by_source,
        seconds=time.perf_counter() - started,
        losses=tuple(losses[every - 1 :: every]),
    )


@torch.no_grad()
def answers(network: Network, processor: Processor, questions: Sequence[Labelled]) -> list[str]:
    """The label that the network gives to every question.

    Raises:
        ValueError: two labels of a question begin alike beyond their common beginning.
    """
    encoder = ProcessorEncoder(processor)
    prompts, choices = [], []
    known: dict[tuple[str, ...], tuple[int, tuple[int, ...]]] = {}
    for question in questions:
        if question.labels not in known:
            known[question.labels] = _first_differences(processor, question)
        behind, firsts = known[question.labels]
        sample = Sample(source="exam", prompt_group="science", messages=question.messages(question.labels[0]))
        [sequence] = encoder.encode([sample])
        end = int((sequence.loss_weights > 0).argmax()) + behind + 1
        prompts.append(replace(sequence, token_ids=sequence.token_ids[:end], loss_weights=sequence.loss_weights[:end]))
        choices.append(torch.tensor(firsts))
    said: list[str] = []
    for batch, ends in _batches(prompts):
        output = network(
            batch.input_ids_T,
            batch.position_ids_T,
            PackedContext(cu_seqlens=batch.cu_seqlens),
            media=batch.media,
            logits_index=torch.tensor(ends),
        )
        for logits_V in output.logits:
            number = len(said)
            said.append(questions[number].labels[int(logits_V[choices[number]].argmax())])
    return said


def _first_differences(processor: Processor, question: Labelled) -> tuple[int, tuple[int, ...]]:
    """How many learned tokens the answers have in common, and the first token of each behind them."""
    learned = []
    for label in question.labels:
        encoded = processor.encode_training_chat(({"role": "user", "content": ""}, question.messages(label)[1]))
        learned.append([i for i, is_learned in zip(*encoded, strict=True) if is_learned])
    common = 0
    while len({ids[common] for ids in learned}) == 1:
        common += 1
    firsts = tuple(ids[common] for ids in learned)
    if len(set(firsts)) < len(firsts):
        raise ValueError(f"labels {question.labels} are not told apart by their first different token {firsts}")
    return common, firsts


def _batches(prompts: Sequence[TokenSequence]) -> Iterable[tuple[PackedBatch, list[int]]]:
    """Prompts in their order, packed, with the last row of each."""
    waiting: list[TokenSequence] = []
    for prompt in prompts:
        if waiting and sum(one.num_rows for one in waiting) + prompt.num_rows > _EXAMINED_ROWS:
            yield _batch(waiting)
            waiting = []
        waiting.append(prompt)
    if waiting:
        yield _batch(waiting)


def _batch(prompts: Sequence[TokenSequence]) -> tuple[PackedBatch, list[int]]:
    rows = sum(prompt.num_rows for prompt in prompts)
    batch = collate([Segment(sequence=prompt, source=0) for prompt in prompts], num_rows=rows, source_names=("exam",))
    return batch, [bound - 1 for bound in batch.cu_seqlens[1:]]
