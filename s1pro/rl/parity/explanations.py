"""What explains a gap: every hypothesis recomputes the trainer's side, and what leaves little of the gap is believed.

One hypothesis alone may leave much because two things are wrong. If none alone is believed, each of the best few is
combined with all others; a pair is believed under the same condition. If one is believed and what it leaves is still
above the limit, it is combined with all others, and a pair is believed that leaves little of that. More than two at
once are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s1pro.model.network import Network
from s1pro.rl.parity.hypotheses import Hypothesis, hypotheses
from s1pro.rl.parity.probes import Probe
from s1pro.rl.parity.trainer_side import Floats, TrainerSide, trainer_side

EXPLAINS = 0.2
"""Share of the gap that an explanation may leave."""
COMBINED = 3
"""How many of the best explanations are combined with the others."""
PROMISING = 0.97
"""Share of the gap that a first half of a pair may leave."""


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
class Explanation:
    """What is left of the gap under a hypothesis, and how large a gap it makes by itself (1: as large).

    Attributes:
        name: of a hypothesis, or of two joined by " + ".
        k3: of what is left.
    """

    name: str
    says: str
    left: float
    size: float
    k3: float = 0.0


def explanations(
    network: Network, probes: Sequence[Probe], engine: Floats, own: Floats, *, limit: float, bos: int | None
) -> tuple[Explanation, ...]:
    """All hypotheses, and pairs where no one alone is enough; the one that leaves least first.

    Args:
        engine, own: log-probabilities of the sampled tokens on both sides.
        limit: of k3.
        bos: a token that an engine might put before prompts.
    """
    gap = Gap.between(engine, own).mean

    def tried(some: Sequence[Hypothesis]) -> Explanation:
        found = _side(network, probes, some).logprobs
        rest, size = Gap.between(engine, found), Gap.between(own, found).mean / gap
        name, says = " + ".join(one.name for one in some), ", and ".join(one.says for one in some)
        return Explanation(name=name, says=says, left=rest.mean / gap, size=size, k3=rest.k3)

    every = {hypothesis.name: hypothesis for hypothesis in hypotheses(network, bos=bos)}
    found = sorted((tried([one]) for one in every.values()), key=_left)
    if found and found[0].left > EXPLAINS:
        first = [every[one.name] for one in found[:COMBINED] if one.left < PROMISING]
    else:
        first = [every[one.name] for one in found[:1] if one.k3 > limit]
    found += [tried(pair) for pair in _pairs(first, list(every.values()))]
    return tuple(sorted(found, key=_left))


def believed(found: Sequence[Explanation]) -> Explanation | None:
    """What explains the gap: one alone if it does, a pair if it leaves far less than that, or else nothing."""
    alone = min((one for one in found if " + " not in one.name), key=_left, default=None)
    pair = min((one for one in found if " + " in one.name), key=_left, default=None)
    if alone is not None and alone.left <= EXPLAINS:
        return pair if pair is not None and pair.left <= EXPLAINS * alone.left else alone
    return pair if pair is not None and pair.left <= EXPLAINS else None


def _left(explanation: Explanation) -> float:
    return explanation.left


def explained_side(network: Network, probes: Sequence[Probe], name: str, *, bos: int | None) -> TrainerSide:
    """The trainer's side as the explanation `name` says that the engine computes, with logits."""
    every = {hypothesis.name: hypothesis for hypothesis in hypotheses(network, bos=bos)}
    return _side(network, probes, [every[one] for one in name.split(" + ")], keep_logits=True)


def _side(
    network: Network, probes: Sequence[Probe], some: Sequence[Hypothesis], *, keep_logits: bool = False
) -> TrainerSide:
    changed = network
    for one in some:
        changed = one.applied(changed)
    return trainer_side(
        changed,
        probes,
        prefix=tuple(token for one in some for token in one.prefix),
        first_position=sum(one.first_position for one in some),
        keep_logits=keep_logits,
    )


def _pairs(first: Sequence[Hypothesis], others: Sequence[Hypothesis]) -> Iterator[tuple[Hypothesis, Hypothesis]]:
    seen: set[frozenset[str]] = set()
    for one in first:
        for other in others:
            names = frozenset((one.name, other.name))
            if len(names) == 2 and names not in seen:
                seen.add(names)
                yield one, other
