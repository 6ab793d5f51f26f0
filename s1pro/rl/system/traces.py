"""Routing traces on their way from rollout workers to the trainer: few bytes, and never text.

Slot k of a token holds an expert of router group k // (K / G), so its number inside the group says everything. With
groups of at most 256 experts that is one byte instead of two: 752 instead of 1,504 bytes per token of the full model.
The traces of a piece of work lie one after another in one array, which Ray keeps in shared memory as it is. Which
tokens a trace is about is not sent again, but a hash of them is: it must be that of the tokens that the trainer has.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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
        hashes: of the tokens that the rows are about; empty if the engine did not tell.
    """

    slots_NLK: Slots
    rows: tuple[int, ...]
    versions: tuple[int, ...]
    hashes: tuple[bytes, ...]


def pack(traces: Sequence[RoutingTrace | None], router: RouterConfig) -> Traces:
    """Raises `RecordError` for experts that are not in the group of their slot."""
    experts = [trace.experts_TLK for trace in traces if trace is not None]
    joined = np.concatenate(experts) if experts else np.zeros((0, 0, router.top_k), np.uint16)
    return Traces(
        slots_NLK=to_slots(joined, router),
        rows=tuple(-1 if trace is None else len(trace.experts_TLK) for trace in traces),
        versions=tuple(0 if trace is None else trace.policy_version for trace in traces),
        hashes=tuple(
            b"" if trace is None or trace.token_ids_T is None else _hash_of(trace.token_ids_T) for trace in traces
        ),
    )


def unpack(packed: Traces, router: RouterConfig, tokens: Sequence[Sequence[int]]) -> list[RoutingTrace | None]:
    """The inverse of `pack`.

    Args:
        tokens: that every rollout fed to the network.

    Raises:
        RecordError: the traces are about other tokens.
    """
    experts_NLK = from_slots(packed.slots_NLK, router)
    found: list[RoutingTrace | None] = []
    start = 0
    for rows, version, known, fed in zip(packed.rows, packed.versions, packed.hashes, tokens, strict=True):
        if rows < 0:
            found.append(None)
            continue
        fed_T = np.array(fed, dtype=np.int32)
        if rows != len(fed_T) or known not in (b"", _hash_of(fed_T)):
            raise RecordError(f"a routing trace of {rows} rows arrived with an answer of {len(fed_T)} other tokens")
        part = slice(start, start + rows)
        about = fed_T if known else None
        found.append(RoutingTrace(experts_TLK=experts_NLK[part], policy_version=version, token_ids_T=about))
        start += rows
    if start != len(experts_NLK):
        raise RecordError(f"{len(experts_NLK)} rows of routing for rollouts with {start}")
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


def _hash_of(tokens_T: npt.NDArray[np.int32]) -> bytes:
    return hashlib.blake2b(tokens_T.astype("<i4").tobytes(), digest_size=8).digest()


def _firsts_K(router: RouterConfig) -> npt.NDArray[np.int32]:
    """First expert of the group of every slot."""
    slots_K = np.arange(router.top_k, dtype=np.int32)
    return slots_K // np.int32(router.top_k_per_group) * np.int32(router.experts_per_group)
