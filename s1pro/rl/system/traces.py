"""Routing traces on their way from rollout workers to the trainer: few bytes, and never text.

Slot k of a token holds an expert of router group k // (K / G), so its number inside the group says everything. With
groups of at most 256 experts that is one byte instead of two: 752 instead of 1,504 bytes per token of the full model.
The traces of a piece of work lie one after another in one array, which Ray keeps in shared memory as it is. Which
tokens a trace is about is not sent again, but a hash over them and their slots is: whatever is lost, moved or exchanged
on the way does not fit the tokens that the trainer has.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.records import RoutingTrace
from s1pro.model.config import RouterConfig
from s1pro.rl.rollout import RecordError, Rollout

ONE_BYTE = 256
Slots = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """The traces of several rollouts. N: rows of all of them.

    Attributes:
        slots_NLK: number of an expert in its group, uint8 or uint16.
        rows: of every rollout; -1 for one without a trace.
        versions: of their weights.
        hashes: of the tokens that the rows are about, and of their slots.
        named: whether the engine told which tokens these are.
    """

    slots_NLK: Slots
    rows: tuple[int, ...]
    versions: tuple[int, ...]
    hashes: tuple[bytes, ...]
    named: tuple[bool, ...]


def pack(traces: Sequence[RoutingTrace | None], router: RouterConfig, tokens: Sequence[Sequence[int]]) -> Traces:
    """Traces of rollouts that fed `tokens` to the network.

    Raises:
        RecordError: experts that are not in the group of their slot, or a trace about other tokens.
    """
    slots: list[Slots] = []
    hashes: list[bytes] = []
    for trace, fed in zip(traces, tokens, strict=True):
        if trace is None:
            hashes.append(b"")
            continue
        fed_T = np.array(fed, dtype=np.int32)
        known_T = trace.token_ids_T
        if len(trace.experts_TLK) != len(fed_T) or (known_T is not None and not np.array_equal(known_T, fed_T)):
            raise RecordError(
                f"a routing trace of {len(trace.experts_TLK)} rows is not about these {len(fed_T)} tokens"
            )
        slots.append(to_slots(trace.experts_TLK, router))
        hashes.append(_hash_of(fed_T, slots[-1]))
    return Traces(
        slots_NLK=_joined(slots, router),
        rows=tuple(-1 if trace is None else len(trace.experts_TLK) for trace in traces),
        versions=tuple(0 if trace is None else trace.policy_version for trace in traces),
        hashes=tuple(hashes),
        named=tuple(trace is not None and trace.token_ids_T is not None for trace in traces),
    )


def unpack(packed: Traces, router: RouterConfig, tokens: Sequence[Sequence[int]]) -> list[RoutingTrace | None]:
    """The inverse of `pack`.

    Raises:
        RecordError: the traces are not whole, or about other tokens.
    """
    found: list[RoutingTrace | None] = []
    start = 0
    for number, (rows, fed) in enumerate(zip(packed.rows, tokens, strict=True)):
        if rows < 0:
            found.append(None)
            continue
        fed_T, slots_TLK = np.array(fed, dtype=np.int32), packed.slots_NLK[start : start + rows]
        if len(slots_TLK) != len(fed_T) or _hash_of(fed_T, slots_TLK) != packed.hashes[number]:
            raise RecordError(f"a routing trace of {rows} rows arrived damaged, or with an answer that it is not about")
        found.append(
            RoutingTrace(
                experts_TLK=from_slots(slots_TLK, router),
                policy_version=packed.versions[number],
                token_ids_T=fed_T if packed.named[number] else None,
            )
        )
        start += rows
    if start != len(packed.slots_NLK):
        raise RecordError(f"{len(packed.slots_NLK)} rows of routing for rollouts with {start}")
    return found


def to_slots(experts_TLK: npt.NDArray[np.uint16], router: RouterConfig) -> Slots:
    """Global numbers of experts to numbers in the group of the slot."""
    local_TLK = experts_TLK.astype(np.int32) - _firsts_K(router)
    if local_TLK.size and (local_TLK.min() < 0 or local_TLK.max() >= router.experts_per_group):
        raise RecordError(f"routing with experts outside the {router.num_groups} groups of their slots")
    return local_TLK.astype(np.uint8) if router.experts_per_group <= ONE_BYTE else local_TLK.astype(np.uint16)


def from_slots(slots_TLK: Slots, router: RouterConfig) -> npt.NDArray[np.uint16]:
    """The inverse of `to_slots`."""
    return (slots_TLK.astype(np.int32) + _firsts_K(router)).astype(np.uint16)


def without_routing(rollout: Rollout) -> Rollout:
    return dataclasses.replace(rollout, completion=dataclasses.replace(rollout.completion, routing=None))


def with_routing(rollout: Rollout, trace: RoutingTrace | None) -> Rollout:
    return dataclasses.replace(rollout, completion=dataclasses.replace(rollout.completion, routing=trace))


def _joined(slots: Sequence[Slots], router: RouterConfig) -> Slots:
    joined: Any = np.concatenate(slots) if slots else np.zeros((0, 0, router.top_k), np.uint8)
    found: Slots = joined
    return found


def fed_tokens(rollout: Rollout) -> tuple[int, ...]:
    """What went through the network: all tokens but the last, which was only sampled."""
    return (*rollout.question.token_ids, *rollout.completion.token_ids[:-1])


def _hash_of(tokens_T: npt.NDArray[np.int32], slots_TLK: Slots) -> bytes:
    found = hashlib.blake2b(tokens_T.astype("<i4").tobytes(), digest_size=8)
    found.update(np.ascontiguousarray(slots_TLK).data)
    return found.digest()


def _firsts_K(router: RouterConfig) -> npt.NDArray[np.int32]:
    """First expert of the group of every slot."""
    slots_K = np.arange(router.top_k, dtype=np.int32)
    return slots_K // np.int32(router.top_k_per_group) * np.int32(router.experts_per_group)
