"""Routing on the wire: one byte per slot, the same experts in the same order, and never of other tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from s1pro.base.records import RoutingTrace
from s1pro.model.config import RouterConfig
from s1pro.rl.rollout import RecordError
from s1pro.rl.system.traces import Traces, from_slots, pack, to_slots, unpack

FULL = RouterConfig(num_experts=512, top_k=8, num_groups=8)
ROUTERS = [
    FULL,
    RouterConfig(num_experts=8, top_k=4, num_groups=4),
    RouterConfig(num_experts=256, top_k=8, num_groups=1),
    RouterConfig(num_experts=1024, top_k=4, num_groups=2),
]


def random_trace(draw: np.random.Generator, router: RouterConfig, rows: int, layers: int) -> RoutingTrace:
    """Distinct experts in every group, in a random order inside it."""
    per, size = router.top_k_per_group, router.experts_per_group
    groups = [
        draw.random((rows, layers, size)).argsort(axis=-1)[..., :per] + g * size for g in range(router.num_groups)
    ]
    experts = np.concatenate(groups, axis=-1).astype(np.uint16)
    tokens = draw.integers(0, 1000, rows).astype(np.int32)
    return RoutingTrace(experts_TLK=experts, policy_version=int(draw.integers(9)), token_ids_T=tokens)


def tokens_of(trace: RoutingTrace | None) -> list[int]:
    return [] if trace is None or trace.token_ids_T is None else trace.token_ids_T.tolist()


@pytest.mark.parametrize("router", ROUTERS, ids=str)
def test_there_and_back(router: RouterConfig) -> None:
    draw = np.random.default_rng(router.num_experts)
    traces: list[RoutingTrace | None] = [random_trace(draw, router, int(draw.integers(1, 9)), 3) for _ in range(20)]
    traces[3] = traces[11] = None
    fed = [tokens_of(trace) for trace in traces]
    traces[5] = replace(traces[5], token_ids_T=None)  # type: ignore[type-var]
    packed = pack(traces, router, fed)
    assert packed.slots_NLK.dtype == (np.uint8 if router.experts_per_group <= 256 else np.uint16)
    for before, after in zip(traces, unpack(packed, router, fed), strict=True):
        if before is None or after is None:
            assert before is after
            continue
        assert np.array_equal(before.experts_TLK, after.experts_TLK) and before.policy_version == after.policy_version
        same = before.token_ids_T is None or np.array_equal(before.token_ids_T, after.token_ids_T)  # type: ignore[arg-type]
        assert same and after.experts_TLK.dtype == np.uint16


def test_bytes_per_token_at_full_size() -> None:
    """94 layers with 8 experts per token: 752 bytes instead of 1,504."""
    trace = random_trace(np.random.default_rng(0), FULL, 10, 94)
    assert trace.experts_TLK.nbytes == 10 * 1504
    assert pack([trace], FULL, [tokens_of(trace)]).slots_NLK.nbytes == 10 * 752


def test_a_slot_of_another_group_is_noticed() -> None:
    trace = random_trace(np.random.default_rng(1), FULL, 5, 2)
    moved = np.roll(trace.experts_TLK, 1, axis=-1)
    with pytest.raises(RecordError, match="outside the 8 groups"):
        to_slots(moved, FULL)
    assert np.array_equal(from_slots(to_slots(trace.experts_TLK, FULL), FULL), trace.experts_TLK)


def test_traces_of_other_answers_are_noticed() -> None:
    """Any two exchanged, one short; slots lost, exchanged or moved while the tokens stay: over a hundred answers."""
    draw = np.random.default_rng(2)
    router = ROUTERS[1]
    traces = [random_trace(draw, router, int(draw.integers(3, 7)), 2) for _ in range(100)]
    fed = [tokens_of(trace) for trace in traces]
    packed = pack(traces, router, fed)
    for _ in range(300):
        i, j = draw.choice(100, 2, replace=False)
        swapped = list(fed)
        swapped[i], swapped[j] = fed[j], fed[i]
        with pytest.raises(RecordError, match="not about"):
            unpack(packed, router, swapped)
        with pytest.raises(RecordError, match="is not about these"):
            pack(traces, router, swapped)
    for i in range(100):
        with pytest.raises(RecordError):
            unpack(packed, router, [*fed[:i], fed[i][:-1], *fed[i + 1 :]])
    slots = packed.slots_NLK
    rolled, mirrored = np.roll(slots, 1, axis=0), slots[:, ::-1]
    for damaged in (slots[1:], slots[:-1], rolled, mirrored, slots ^ 1, np.concatenate([slots, slots[:1]])):
        with pytest.raises(RecordError):
            unpack(Traces(**{**vars(packed), "slots_NLK": damaged}), router, fed)
