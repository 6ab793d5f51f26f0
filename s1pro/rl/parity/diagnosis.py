"""From measurements to a verdict: how large is the gap between engine and trainer, and what explains it.

1. **Gap.** Log-probabilities of the sampled tokens on both sides: k1 and k3 (`rl.mismatch`), the mean and largest
   difference, agreement of routing per layer; and of the greedy answers, how often the engine's token is the trainer's
   most likely one.
2. **Routing record.** Compared with the trainer's own choice as it is, and moved by a token or two, prompt by prompt: a
   record that fits better when it is moved is off by as much. One that does not fit while log-probabilities do is of
   other experts than those that computed.
3. **Sampler.** Whether the draws come from the distribution that was asked for, or from one at another temperature, cut
   by top_p, top_k or min_p, or with a penalty on what was there before (`rl.parity.sampler`). The same fit of a
   temperature on the reported numbers says whether they were taken after it.
4. **Chat.** The same conversation by the engine's template and by ours.
5. **Explanations.** If there is a gap, every hypothesis recomputes the trainer's side, alone and in pairs; what leaves
   the least of the gap is named if it leaves less than a fifth of it. Rounding is not repeated bit for bit by another
   order of sums; what leaves less than nine tenths and makes a gap of the same size by itself is named as of that kind.

Several faults may be there at once. So steps 2 and 3 are repeated with the network that explains the gap: what it does
not explain, another temperature or a record that was moved, is a fault of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from s1pro.model.network import Network
from s1pro.rl.parity.explanations import Explanation, Gap, believed, explained_side, explanations
from s1pro.rl.parity.probes import ChatProbe, Probe
from s1pro.rl.parity.routing_records import compare_records
from s1pro.rl.parity.sampler import SamplerFinding, examine_sampler, fitted_temperatures, logprobs_at
from s1pro.rl.parity.trainer_side import Floats, TrainerSide, engine_logprobs, trainer_side

TEMPERATURE = "temperature"


@dataclass(frozen=True, kw_only=True)
class WorstToken:
    probe: int
    position: int
    token_id: int
    engine: float
    trainer: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """See the module docstring. `faults` are sentences; an empty list is a pass.

    Attributes:
        routing_shift: of the records of `routing_moved` of `routing_prompts` prompts.
        routing_fits: whether records are of the experts that computed, as far as that can be said.
        cause: names of explanations, joined by " + "; empty if nothing explains the gap.
        sampler: against the network that explains the gap, if one does.
    """

    gap: Gap
    limit: float
    top1: float
    sampler: SamplerFinding
    chats_agree: tuple[bool, ...]
    routing_agreement: tuple[float, ...] = ()
    routing_shift: int = 0
    routing_moved: int = 0
    routing_prompts: int = 0
    routing_fits: bool = True
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
    gap = Gap.between(engine, own.logprobs)
    nothing: tuple[Explanation, ...] = ()
    side, found, cause = _explained(network, probes, engine, own, limit, bos) if gap.k3 > limit else (own, nothing, "")
    routing = compare_records(probes, own)
    fits = (not cause and gap.k3 > limit) or compare_records(probes, side).fits
    result = Diagnosis(
        gap=gap,
        limit=limit,
        top1=_greedy_agreement(network, chats),
        sampler=examine_sampler(side, probes, engine),
        chats_agree=tuple(chat.agrees for chat in chats),
        routing_agreement=routing.agreement,
        routing_shift=routing.shift,
        routing_moved=routing.moved,
        routing_prompts=routing.prompts,
        routing_fits=fits,
        routing_agreement_shifted=routing.agreement_shifted,
        explanations=found,
        cause=cause,
        worst=_worst(probes, engine, own.logprobs),
        by_position=_by_position(probes, engine, own.logprobs),
    )
    result.faults.extend(_faults(result))
    return result


def _explained(
    network: Network, probes: Sequence[Probe], engine: Floats, own: TrainerSide, limit: float, bos: int | None
) -> tuple[TrainerSide, tuple[Explanation, ...], str]:
    """The side that explains the gap (the trainer's own if none does), all explanations, and the name of the best."""
    found = list(explanations(network, probes, engine, own.logprobs, limit=limit, bos=bos))
    found += _tempered(probes, engine, own, own, "")
    if found and believed(found) is None:
        side = explained_side(network, probes, found[0].name, bos=bos)
        found += _tempered(probes, engine, own, side, found[0].name)
    found.sort(key=lambda explanation: explanation.left)
    best = believed(found)
    cause = "" if best is None else best.name
    changes = " + ".join(name for name in cause.split(" + ") if name not in ("", TEMPERATURE))
    side = explained_side(network, probes, changes, bos=bos) if changes else own
    return side, tuple(found), cause


def _tempered(
    probes: Sequence[Probe], engine: Floats, own: TrainerSide, side: TrainerSide, name: str
) -> list[Explanation]:
    """The explanation that the engine reports log-probabilities after a temperature, on top of `name`."""
    _, temperature, _ = fitted_temperatures(side, probes, engine)
    if temperature == 1.0:
        return []
    rest = Gap.between(engine, logprobs_at(side, probes, temperature))
    return [
        Explanation(
            name=f"{name} + {TEMPERATURE}" if name else TEMPERATURE,
            says=f"log-probabilities are those after temperature {temperature:.2f}"
            + (f" ({name} too)" if name else ""),
            left=rest.mean / Gap.between(engine, own.logprobs).mean,
            size=1.0,
            k3=rest.k3,
        )
    ]


def _greedy_agreement(network: Network, chats: Sequence[ChatProbe]) -> float:
    """Share of the engine's greedy tokens, on ids of ours, that the trainer holds most likely too."""
    greedy = [Probe(prompt=c.prompt_token_ids, completion=c) for chat in chats for c in chat.by_ids if c.token_ids]
    tokens = np.array([token for probe in greedy for token in probe.completion.token_ids])
    return float((trainer_side(network, greedy).top1 == tokens).mean())


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
            + (f" (KL {explanation.k3:.2g}: something else is there too)" if explanation.k3 > found.limit else "")
            if explanation is not None
            else _of_a_kind(found.explanations)
        )
        faults.append(f"log-probabilities differ: KL(engine || trainer) {found.gap.k3:.3g} > {found.limit:g}; {why}")
    if found.routing_shift:
        some = f" of {found.routing_moved} of {found.routing_prompts} prompts"
        whole = found.routing_moved > 0.9 * found.routing_prompts
        faults.append(f"records of experts{'' if whole else some} are off by {found.routing_shift:+d} tokens")
    elif not found.routing_fits:
        layer = int(np.argmin(found.routing_agreement))
        faults.append(
            f"records of experts are not those that computed: in layer {layer} of those with experts "
            f"{found.routing_agreement[layer]:.1%} agree"
        )
    if (drawn := found.sampler.fault()) is not None:
        faults.append(drawn)
    if not all(found.chats_agree):
        faults.append(
            f"{found.chats_agree.count(False)} of {len(found.chats_agree)} conversations get other tokens than ours: "
            "another chat template"
        )
    return faults
