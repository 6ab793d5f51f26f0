"""From measurements to a verdict: how large is the gap between engine and trainer, and what explains it.

1. **Gap.** Log-probabilities of the sampled tokens on both sides: k1 and k3 (`rl.mismatch`), the mean and largest
   difference, agreement of routing per layer; and of the greedy answers, how often the engine's token is the trainer's
   most likely one.
2. **Routing record.** Compared with the trainer's own choice as it is, and moved by a token or two: a record that fits
   better when it is moved is off by as much.
3. **Sampler.** If the draws come from the distribution whose log-probabilities are reported, the sum of
   `log p(token) - E[log p]` has mean 0 and a known variance. z far from 0 says that something else was drawn from; the
   temperature that makes the draws most likely says what. The same fit on the reported numbers says whether they were
   taken after the temperature.
4. **Chat.** The same conversation by the engine's template and by ours.
5. **Explanations.** If there is a gap, every hypothesis recomputes the trainer's side; what leaves the least of the gap
   is named if it leaves less than a fifth of it. Rounding is not repeated bit for bit by another order of sums; what
   leaves less than nine tenths and makes a gap of the same size by itself is named as of that kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.model.network import Network
from s1pro.rl.parity.hypotheses import hypotheses
from s1pro.rl.parity.probes import ChatProbe, Probe
from s1pro.rl.parity.trainer_side import Floats, TrainerSide, engine_logprobs, engine_routing, trainer_side

EXPLAINS = 0.2
"""Share of the gap that an explanation may leave."""
Z_LIMIT = 4.5
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 113))


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Log-probabilities: engine against trainer, over `tokens` sampled tokens."""

    tokens: int
    k1: float
    k3: float
    mean: float
    largest: float

    @staticmethod
    def between(engine: Floats, trainer: Floats) -> Gap:
        difference = np.clip(trainer - engine, -20, 20)
        return Gap(
            tokens=len(engine),
            k1=float(-difference.mean()),
            k3=float((np.exp(difference) - 1 - difference).mean()),
            mean=float(np.abs(difference).mean()),
            largest=float(np.abs(difference).max()),
        )


@dataclass(frozen=True, kw_only=True)
class SamplerFinding:
    """Which distribution the draws come from.

    Attributes:
        z: of the draws under the trainer's distribution; beyond +-4.5 it is another one.
        drawn_at: temperature that makes the draws most likely.
        reported_at: temperature after which the reported log-probabilities fit best; 1 is the raw distribution.
    """

    z: float
    drawn_at: float
    reported_at: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What is left of the gap under a hypothesis, and how large a gap it makes by itself (1: as large)."""

    name: str
    says: str
    left: float
    size: float


@dataclass(frozen=True, kw_only=True)
class WorstToken:
    probe: int
    position: int
    token_id: int
    engine: float
    trainer: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """See the module docstring. `faults` are sentences; an empty list is a pass."""

    gap: Gap
    limit: float
    top1: float
    sampler: SamplerFinding
    chats_agree: tuple[bool, ...]
    routing_agreement: tuple[float, ...] = ()
    routing_shift: int = 0
    routing_agreement_shifted: tuple[float, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    cause: str = ""
    worst: tuple[WorstToken, ...] = ()
    by_position: tuple[tuple[int, float], ...] = ()
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def diagnose(
    network: Network,
    probes: Sequence[Probe],
    chats: Sequence[ChatProbe],
    *,
    limit: float = 1e-6,
    bos: int | None = None,
) -> Diagnosis:
    """Compares and explains.

    Args:
        network: of the trainer, in evaluation mode.
        limit: largest k3 that passes.
        bos: a token that an engine might put before prompts.
    """
    engine = engine_logprobs(probes)
    own = trainer_side(network, probes, keep_logits=True)
    assert own.logits is not None
    gap = Gap.between(engine, own.logprobs)
    sampled = torch.tensor([token for probe in probes for token in probe.completion.token_ids])
    sampler = _sampler(own, own.logits, sampled, engine)
    shift, agreement, shifted = _routing(probes, own)
    explanations: tuple[Explanation, ...] = ()
    if gap.k3 > limit:
        explanations = _explanations(network, probes, engine, gap, sampler, own.logits, sampled, own.logprobs, bos)
    cause = _cause(explanations, gap)
    found = Diagnosis(
        gap=gap,
        limit=limit,
        top1=_greedy_agreement(network, chats),
        sampler=sampler,
        chats_agree=tuple(chat.agrees for chat in chats),
        routing_agreement=agreement,
        routing_shift=shift,
        routing_agreement_shifted=shifted,
        explanations=explanations,
        cause=cause,
        worst=_worst(probes, engine, own.logprobs),
        by_position=_by_position(probes, engine, own.logprobs),
    )
    found.faults.extend(_faults(found))
    return found


def _greedy_agreement(network: Network, chats: Sequence[ChatProbe]) -> float:
    """Share of the engine's greedy tokens, on ids of ours, that the trainer holds most likely too."""
    greedy = [Probe(prompt=c.prompt_token_ids, completion=c) for chat in chats for c in chat.by_ids if c.token_ids]
    tokens = np.array([token for probe in greedy for token in probe.completion.token_ids])
    return float((trainer_side(network, greedy).top1 == tokens).mean())


def _sampler(own: TrainerSide, logits: Tensor, sampled: Tensor, engine: Floats) -> SamplerFinding:
    deviation = own.logprobs - own.mean_logprob
    z = float(deviation.sum() / np.sqrt(max(own.variance.sum(), 1e-12)))
    drawn, reported = [], []
    for temperature in TEMPERATURES:
        at = (logits.double() / temperature).log_softmax(-1).gather(1, sampled[:, None])[:, 0].numpy()
        drawn.append(at.mean())
        reported.append(-np.abs(at - engine).mean())
    return SamplerFinding(
        z=z,
        drawn_at=float(TEMPERATURES[int(np.argmax(drawn))]),
        reported_at=float(TEMPERATURES[int(np.argmax(reported))]),
    )


def _routing(probes: Sequence[Probe], own: TrainerSide) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """The shift at which records fit best, and agreement per layer without and with it."""
    recorded = engine_routing(probes)
    if recorded is None or own.routing is None or recorded.shape != own.routing.shape:
        return 0, (), ()
    bounds = np.cumsum([0, *(len(probe.token_ids) - 1 for probe in probes)])
    by_shift = {shift: _agreement(recorded, own.routing, bounds, shift) for shift in (-2, -1, 0, 1, 2)}
    best = max(by_shift, key=lambda shift: float(np.mean(by_shift[shift])))
    clearly = np.mean(by_shift[best]) > np.mean(by_shift[0]) + 0.1
    shift = best if clearly else 0
    return shift, tuple(by_shift[0]), tuple(by_shift[shift]) if shift else ()


def _agreement(
    recorded: npt.NDArray[np.int64], own: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], shift: int
) -> list[float]:
    """Share of tokens with equal sets, per layer, when row t of a record is about token t - shift."""
    pairs = []
    for start, stop in itertools.pairwise(bounds):
        a, b = recorded[start:stop], own[start:stop]
        length = len(a) - abs(shift)
        if length > 0:
            pairs.append((a[max(shift, 0) :][:length], b[max(-shift, 0) :][:length]))
    same = np.concatenate([(a == b).all(axis=-1) for a, b in pairs])
    return [float(value) for value in same.mean(axis=0)]


def _explanations(
    network: Network,
    probes: Sequence[Probe],
    engine: Floats,
    gap: Gap,
    sampler: SamplerFinding,
    logits: Tensor,
    sampled: Tensor,
    own: Floats,
    bos: int | None,
) -> tuple[Explanation, ...]:
    found = []
    if sampler.reported_at != 1.0:
        at = (logits.double() / sampler.reported_at).log_softmax(-1).gather(1, sampled[:, None])[:, 0].numpy()
        says = f"log-probabilities are those after temperature {sampler.reported_at:.2f}"
        found.append(Explanation(name="temperature", says=says, left=Gap.between(engine, at).mean / gap.mean, size=1.0))
    for hypothesis in hypotheses(network, bos=bos):
        side = trainer_side(
            hypothesis.applied(network), probes, prefix=hypothesis.prefix, first_position=hypothesis.first_position
        )
        left = Gap.between(engine, side.logprobs).mean / gap.mean
        size = Gap.between(own, side.logprobs).mean / gap.mean
        found.append(Explanation(name=hypothesis.name, says=hypothesis.says, left=left, size=size))
    return tuple(sorted(found, key=lambda explanation: explanation.left))


def _cause(explanations: Sequence[Explanation], gap: Gap) -> str:
    """Name of what explains the gap; empty if nothing does, or if several say different things equally well."""
    if not explanations or explanations[0].left > EXPLAINS:
        return ""
    return explanations[0].name


def _worst(probes: Sequence[Probe], engine: Floats, trainer: Floats, count: int = 10) -> tuple[WorstToken, ...]:
    places = [
        (number, len(probe.prompt) + i, token)
        for number, probe in enumerate(probes)
        for i, token in enumerate(probe.completion.token_ids)
    ]
    order = np.argsort(-np.abs(engine - trainer))[:count]
    return tuple(
        WorstToken(probe=p, position=at, token_id=token, engine=float(engine[i]), trainer=float(trainer[i]))
        for i in order
        for p, at, token in (places[i],)
    )


def _by_position(probes: Sequence[Probe], engine: Floats, trainer: Floats) -> tuple[tuple[int, float], ...]:
    """Mean difference by position, in steps that double: faults of positions grow, others do not."""
    positions = np.concatenate([len(p.prompt) + np.arange(len(p.completion.token_ids)) for p in probes])
    difference = np.abs(engine - trainer)
    edges = [1 << i for i in range(20)]
    return tuple(
        (low, float(difference[chosen].mean()))
        for low, high in itertools.pairwise(edges)
        for chosen in ((positions >= low) & (positions < high),)
        if chosen.any()
    )


def _of_a_kind(explanations: Sequence[Explanation]) -> str:
    alike = [e for e in explanations if e.left < 0.9 and 1 / 3 < e.size < 3]
    if not alike:
        return "no known difference explains it; see positions, layers and worst tokens"
    return f"nothing explains it exactly; it is of the size and kind of: {alike[0].says} ({alike[0].name})"


def _faults(found: Diagnosis) -> list[str]:
    faults = []
    if found.gap.k3 > found.limit:
        explanation = next((e for e in found.explanations if e.name == found.cause), None)
        why = (
            f"explained by: {explanation.says} ({found.cause}), which leaves {explanation.left:.1%} of it"
            if explanation is not None
            else _of_a_kind(found.explanations)
        )
        faults.append(f"log-probabilities differ: KL(engine || trainer) {found.gap.k3:.3g} > {found.limit:g}; {why}")
    if found.routing_shift:
        faults.append(f"records of experts are off by {found.routing_shift:+d} tokens")
    if abs(found.sampler.z) > Z_LIMIT and not (found.gap.k3 > found.limit and found.cause not in ("", "temperature")):
        faults.append(
            f"draws do not come from the distribution that was asked for (z = {found.sampler.z:+.1f}); they fit "
            f"temperature {found.sampler.drawn_at:.2f}"
        )
    if not all(found.chats_agree):
        faults.append(
            f"{found.chats_agree.count(False)} of {len(found.chats_agree)} conversations get other tokens than ours: "
            "another chat template"
        )
    return faults
