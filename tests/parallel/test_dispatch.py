"""Every dispatch against one process that holds all experts: outputs, gradients, rows per rank."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from s1pro.base.errors import InputError
from s1pro.kernels import collectives_async, experts_loop
from s1pro.kernels.collectives import all_to_all, reduce_scatter
from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.model.config import RouterConfig, TextConfig
from s1pro.model.moe import Experts, MoE
from s1pro.parallel import dispatch as dispatch_module
from s1pro.parallel.dispatch import build_dispatch
from s1pro.parallel.rows import combine_rows, spread_rows
from tests.parallel.ranks import RankError, run_ranks

TOKENS, HIDDEN, WIDTH = 13, 12, 8
STATIC = ("all_gather", "all_to_all")
GROUPED = RouterConfig(num_experts=16, top_k=8, num_groups=4)
EQUAL = RouterConfig(num_experts=8, top_k=4, num_groups=4)
PLAIN = RouterConfig(num_experts=8, top_k=3)


def moe_of(router: RouterConfig, dtype: torch.dtype) -> MoE:
    """The same weights on every rank."""
    text = TextConfig(
        vocab_size=8, hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        head_dim=4, moe_intermediate_size=WIDTH, router=router,
    )  # fmt: skip
    moe = MoE(text).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return moe.to(dtype)


def keep_local_experts(experts: Experts, rank: int, ranks: int) -> None:
    for name, parameter in list(experts.named_parameters()):
        setattr(experts, name, nn.Parameter(parameter.detach().chunk(ranks)[rank].clone()))


def run_moe(moe: MoE, x_TD: Tensor, upstream_TD: Tensor, replay: Tensor | None = None) -> dict[str, Tensor]:
    x_TD = x_TD.clone().requires_grad_()
    y_TD, router = moe(x_TD, replay)
    loss = (y_TD * upstream_TD).sum() + 0.1 * router.logits_TE.square().sum()
    loss.backward()
    grads = {name: parameter.grad for name, parameter in moe.named_parameters()}
    return {"y": y_TD.detach(), "x": x_TD.grad, **grads}  # type: ignore[dict-item]


def largest_difference(mine: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    return max(float((mine[n] - expected[n]).abs().max()) / float(expected[n].abs().max()) for n in expected)


def compare(
    rank: int,
    name: str,
    router: RouterConfig,
    dtype: torch.dtype,
    *,
    replay: bool = False,
    fp8: bool = False,
    overlap: int = 1,
    exact: bool = False,
) -> dict[str, Any]:
    """Outputs and gradients of this rank's tokens and experts against one process with all tokens and experts."""
    ranks = dist.get_world_size()
    generator = torch.Generator().manual_seed(5)
    x_RD, upstream_RD = (torch.randn(ranks * TOKENS, HIDDEN, generator=generator, dtype=torch.float64) for _ in "ab")
    x_RD, upstream_RD = x_RD.to(dtype), upstream_RD.to(dtype)
    ids_RK = None
    if replay:  # the router's own choice, slots in another order: an external engine may write them down like this
        ids_RK = moe_of(router, dtype).gate(x_RD).topk_ids_TK.flip(1)
    alone = moe_of(router, dtype)
    alone.experts.fp8 = Fp8Experts() if fp8 else None
    alone.experts.exact = alone.gate.exact = exact
    whole = run_moe(alone, x_RD, upstream_RD, ids_RK)
    mine = slice(rank * TOKENS, (rank + 1) * TOKENS)
    moe = moe_of(router, dtype)
    keep_local_experts(moe.experts, rank, ranks)
    moe.dispatch = build_dispatch(name, router, dist.group.WORLD, overlap, exact=exact)  # type: ignore[arg-type]
    moe.experts.fp8 = alone.experts.fp8
    moe.experts.exact = moe.gate.exact = exact
    part = run_moe(moe, x_RD[mine], upstream_RD[mine], None if ids_RK is None else ids_RK[mine])
    dist.all_reduce(part["gate.weight"])
    expected = {"y": whole["y"][mine], "x": whole["x"][mine], "gate.weight": whole["gate.weight"]}
    for key in ("experts.gate_up_proj", "experts.down_proj"):
        expected[key] = whole[key].chunk(ranks)[rank]
    assert all(part[key].shape == expected[key].shape for key in expected)
    return {"error": largest_difference(part, expected), "same_bits": torch.equal(part["y"], expected["y"])}


def cases(ranks: int) -> Iterator[tuple[str, RouterConfig]]:
    """Every dispatch with every router that it supports; at 8 ranks everything is doubled to be divisible."""
    factor = max(ranks // 4, 1)
    for router, straight_through in itertools.product((GROUPED, EQUAL, PLAIN), (False, True)):
        grouped = router.num_groups > 1
        chosen = replace(
            router,
            num_experts=factor * router.num_experts,
            num_groups=factor * router.num_groups if grouped else 1,
            top_k=factor * router.top_k,
            straight_through=straight_through,
            temperature=1.5,
        )
        for name in (*STATIC, "counted") if grouped else ("counted",):
            yield name, chosen


def compare_fp8(rank: int) -> list[float]:
    return [compare(rank, name, GROUPED, torch.float32, fp8=True)["error"] for name in (*STATIC, "counted")]


def test_fp8_experts_are_the_same_numbers_behind_every_dispatch() -> None:
    """Blocks of rows see the tokens of all ranks in the order of one process; sums may differ in their last bit."""
    for errors in run_ranks(compare_fp8, 2):
        assert max(errors) < 1e-4, errors


def compare_all(rank: int) -> list[tuple[str, float, bool]]:
    results = []
    for name, router in cases(dist.get_world_size()):
        double = compare(rank, name, router, torch.float64)
        single = compare(rank, name, router, torch.float32)
        assert single["error"] < 1e-5, (name, router, single)
        results.append((name, double["error"], double["same_bits"] and single["same_bits"]))
    return results


@pytest.mark.parametrize("ranks", [2, 4, pytest.param(8, marks=pytest.mark.slow)])
def test_dispatches_equal_one_process(ranks: int) -> None:
    for results in run_ranks(compare_all, ranks):
        assert len(results) == 14
        for name, error, same_bits in results:
            assert error < 1e-12, (name, error)
            assert same_bits or name == "all_gather", name


def compare_exact(rank: int) -> list[tuple[Any, ...]]:
    """Also with other rows per expert: parts of a pipeline, and slots that a record names in another order."""
    results = []
    for dtype, fp8, replay in itertools.product((torch.float32, torch.bfloat16), (False, True), (False, True)):
        options: Any = {"fp8": fp8, "replay": replay, "exact": True}
        found = {
            "all_to_all": compare(rank, "all_to_all", GROUPED, dtype, **options),
            "in parts": compare(rank, "all_to_all", GROUPED, dtype, overlap=3, **options),
            "counted": compare(rank, "counted", PLAIN, dtype, **options),
        }
        results += [(name, dtype, fp8, replay, one["same_bits"], one["error"]) for name, one in found.items()]
    return results


def test_exact_experts_have_the_bits_of_one_process() -> None:
    for results in run_ranks(compare_exact, 2):
        assert len(results) == 24
        for *case, same_bits, error in results:
            assert same_bits and error < (0.15 if case[2] else 0.02), case  # blocks of rows differ between parts


def compare_overlapped(rank: int, overlap: int) -> list[tuple[str, float]]:
    results = []
    for name, router in itertools.product(STATIC, (GROUPED, EQUAL)):
        double = compare(rank, name, replace(router, straight_through=True), torch.float64, overlap=overlap)
        rounded = compare(rank, name, router, torch.bfloat16, overlap=overlap)
        assert rounded["error"] < 0.02, (name, rounded)
        results.append((name, double["error"]))
    return results


@pytest.mark.parametrize(("ranks", "overlap"), [(2, 2), (2, 5), (4, 3)])
def test_a_pipeline_of_parts_changes_nothing(ranks: int, overlap: int) -> None:
    """13 tokens in parts of unequal size."""
    for results in run_ranks(compare_overlapped, ranks, overlap):
        assert len(results) == 4
        for name, error in results:
            assert error < 1e-12, (name, error)


@pytest.mark.parametrize("name", STATIC)
def test_exchanges_are_under_way_while_experts_compute(name: str) -> None:
    """The second part is sent before the first is computed, forward and backward."""

    def events(rank: int) -> list[str]:
        seen: list[str] = []
        for what in ("_begin_gather", "_begin_reduce", "_begin_exchange"):
            begin = getattr(collectives_async, what)
            setattr(collectives_async, what, lambda *a, begin=begin: (seen.append("send"), begin(*a))[1])
        wait = collectives_async.Pending.__call__
        collectives_async.Pending.__call__ = lambda self: (seen.append("wait"), wait(self))[1]  # type: ignore[method-assign]
        for what in ("forward", "backward"):
            compute = getattr(experts_loop, what)
            setattr(experts_loop, what, lambda *a, compute=compute, **o: (seen.append("compute"), compute(*a, **o))[1])
        compare(rank, name, GROUPED, torch.float64, overlap=2)
        first = seen.index("send")
        return seen[first:]

    forward = ["send", "send", "wait", "compute", "send", "wait", "compute", "send", "wait", "wait"]
    for seen in run_ranks(events, 2):
        assert seen == [*forward, *forward]


def test_replayed_ids_in_any_order() -> None:
    def compare_replayed(rank: int) -> list[float]:
        return [compare(rank, n, GROUPED, torch.float64, replay=True)["error"] for n in (*STATIC, "counted")]

    assert max(max(errors) for errors in run_ranks(compare_replayed, 2)) < 1e-12


def test_bfloat16_rows_are_added_in_float32() -> None:
    """Bit-equal outputs where rows travel unsummed; otherwise one more rounding of a partial sum."""

    def compare_bfloat16(rank: int) -> dict[str, dict[str, Any]]:
        return {n: compare(rank, n, GROUPED, torch.bfloat16) for n in (*STATIC, "counted")}

    for results in run_ranks(compare_bfloat16, 2):
        assert results["all_to_all"]["same_bits"] and results["counted"]["same_bits"]
        assert max(result["error"] for result in results.values()) < 0.02


def test_a_rank_without_rows() -> None:
    """All tokens choose experts of rank 0: the others still take part in every exchange."""

    def lonely(rank: int) -> tuple[float, float]:
        moe = moe_of(PLAIN, torch.float64)
        ids = torch.tensor([[0, 3, 2]] * TOKENS)
        x_TD = torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
        whole = run_moe(moe_of(PLAIN, torch.float64), x_TD, torch.ones_like(x_TD), ids)
        keep_local_experts(moe.experts, rank, 2)
        moe.dispatch = build_dispatch("counted", PLAIN, dist.group.WORLD)
        part = run_moe(moe, x_TD, torch.ones_like(x_TD), ids)
        error = largest_difference({k: part[k] for k in ("y", "x")}, {k: whole[k] for k in ("y", "x")})
        return error, float(part["experts.gate_up_proj"].abs().sum())

    (first, used), (second, idle) = run_ranks(lonely, 2)
    assert max(first, second) < 1e-12 and used > 0 and idle == 0


def rows_received(rank: int, name: str, router: RouterConfig) -> list[int]:
    """Rows that the experts of this rank compute, for batches of several shapes of documents."""
    counts: list[int] = []
    compute = dispatch_module.experts_forward

    def counting(x_RD: Tensor, ids: Tensor, *rest: Tensor, **options: object) -> Tensor:
        counts.append(ids.numel())
        return compute(x_RD, ids, *rest, **options)

    dispatch_module.experts_forward = counting
    moe = moe_of(router, torch.float32)
    keep_local_experts(moe.experts, rank, dist.get_world_size())
    moe.dispatch = build_dispatch(name, router, dist.group.WORLD)  # type: ignore[arg-type]
    for step in range(5):
        moe(torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(100 * step + rank)))
    return counts


@pytest.mark.parametrize("name", [*STATIC, "counted"])
def test_grouped_routing_gives_every_rank_the_same_rows(name: str) -> None:
    for counts in run_ranks(rows_received, 4, name, GROUPED):
        assert counts == [TOKENS * GROUPED.top_k] * 5  # T K / P from each of P ranks


def test_plain_routing_does_not() -> None:
    per_rank = run_ranks(rows_received, 4, "counted", PLAIN)
    for counts in zip(*per_rank, strict=True):
        assert sum(counts) == 4 * TOKENS * PLAIN.top_k
        assert max(counts) > sum(counts) / 4


def test_choice_and_its_errors() -> None:
    class Group:
        def __init__(self, size: int) -> None:
            self._size = size

        def size(self) -> int:
            return self._size

    def built(name: str, router: RouterConfig, size: int) -> str:
        return type(build_dispatch(name, router, Group(size))).__name__  # type: ignore[arg-type]

    assert built("auto", GROUPED, 2) == built("auto", EQUAL, 4) == "AllGatherDispatch"
    assert built("auto", PLAIN, 4) == built("auto", GROUPED, 8) == "CountedDispatch"
    assert built("all_to_all", GROUPED, 4) == "AllToAllDispatch"
    assert type(build_dispatch("auto", GROUPED, Group(2), exact=True)).__name__ == "AllToAllDispatch"  # type: ignore[arg-type]
    assert type(build_dispatch("auto", PLAIN, Group(2), exact=True)).__name__ == "CountedDispatch"  # type: ignore[arg-type]
    with pytest.raises(InputError, match="an order of its own"):
        build_dispatch("all_gather", GROUPED, Group(2), exact=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="8 experts cannot be divided among 3"):
        built("auto", PLAIN, 3)
    with pytest.raises(InputError, match=r"1 groups cannot be divided among parallel\.ep=4"):
        built("all_to_all", PLAIN, 4)
    with pytest.raises(InputError, match=r"parallel\.overlap=2 .*; use overlap=1"):
        build_dispatch("auto", PLAIN, Group(2), overlap=2)  # type: ignore[arg-type]


def test_moves_are_transposes_of_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    x_TD = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    y_RD = torch.randn(10, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    places_TK = torch.randperm(10, generator=generator).view(5, 2)
    assert torch.autograd.gradcheck(lambda x: spread_rows(x, places_TK), x_TD)
    assert torch.autograd.gradcheck(lambda y: combine_rows(y, places_TK), y_RD)
    assert torch.equal(spread_rows(x_TD, places_TK)[places_TK[:, 1]], x_TD)
    assert torch.allclose(combine_rows(y_RD, places_TK), y_RD[places_TK].sum(dim=1))


def test_uneven_shares_are_refused() -> None:
    def refused(rank: int) -> int:
        for call in (all_to_all, reduce_scatter):
            with pytest.raises(ValueError, match="3 rows cannot be divided equally among 2 ranks"):
                call(torch.ones(3, 1), dist.group.WORLD)
        return rank

    assert run_ranks(refused, 2) == [0, 1]


def test_failing_ranks_are_reported_and_gone() -> None:
    def failing(rank: int) -> None:
        if rank == 1:
            raise ValueError("a fault on one rank")
        dist.barrier()

    with pytest.raises(RankError, match=r"rank 1 failed:(.|\n)*a fault on one rank"):
        run_ranks(failing, 2)
