"""Exact operators: a row has the same bits wherever and beside whatever it is computed, and the right value."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from s1pro.kernels import attention_exact, experts_exact
from s1pro.kernels.attention import PackedContext, attention, attention_reference
from s1pro.kernels.cross_entropy import IGNORE_INDEX, linear_cross_entropy, token_logprobs
from s1pro.kernels.exact import TILE_ROWS, exact_linear, exact_silu, tiled_product
from s1pro.kernels.expert_rows import ExpertRows
from s1pro.kernels.experts import experts_forward, experts_reference, grouped_mlp
from s1pro.kernels.experts_fp8 import Fp8Experts

DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(256, 256), (64, 8), (40, 24), (33, 17), (1000, 300), (2048, 16)]
"""Inner and outer size of products: round, odd, and so long that threads like to share the inner sum."""


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_rows_of_a_product_do_not_depend_on_others(sizes: tuple[int, int], dtype: torch.dtype, threads: int) -> None:
    g = generator()
    inner, outer = sizes
    weight, x = torch.randn(outer, inner, generator=g).to(dtype), torch.randn(131, inner, generator=g).to(dtype)
    everything = tiled_product(x, weight)
    exact = x.double() @ weight.double().t()
    tolerance = 2e-3 if dtype == torch.float32 else 0.5
    torch.testing.assert_close(everything.double(), exact, atol=tolerance, rtol=tolerance)
    for rows in (1, 2, 3, 7, 8, 9, 16, 64, 130):
        chosen = torch.randperm(131, generator=g)[:rows]
        assert torch.equal(tiled_product(x[chosen], weight), everything[chosen])


def test_a_usual_product_would_not_do() -> None:
    """Why all this: if this ever fails, exact mode may have become superfluous."""
    g = generator()
    weight, x = torch.randn(256, 256, generator=g), torch.randn(64, 256, generator=g)
    rows = [torch.equal(x[:n] @ weight.t(), (x @ weight.t())[:n]) for n in (1, 2, 3, 5, 7)]
    assert not all(rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activation(dtype: torch.dtype, threads: int) -> None:
    x = (4 * torch.randn(70_001, generator=generator())).to(dtype)
    everything = exact_silu(x)
    torch.testing.assert_close(
        everything, torch.nn.functional.silu(x), atol=1e-6, rtol=1e-6 if x.itemsize > 2 else 8e-3
    )
    for start, stop in ((0, 1), (5, 36), (17, 66_000), (69_999, 70_001)):
        assert torch.equal(exact_silu(x[start:stop].clone()), everything[start:stop])
    assert torch.equal(exact_silu(torch.tensor([-200.0, 200.0])), torch.tensor([-0.0, 200.0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [24, 100, 256, 4096])
def test_what_the_library_computes_row_by_row(width: int, dtype: torch.dtype, threads: int) -> None:
    x = (3 * torch.randn(57, width, generator=generator())).to(dtype)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.float().softmax(-1),
        lambda x: x.float().log_softmax(-1),
        lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32),
        lambda x: x.float().sum(-1, keepdim=True).rsqrt(),
        lambda x: torch.cos(x.float()),
        lambda x: torch.exp(x.float().clamp(min=attention_exact.LEAST)),
    ]
    for function in functions:
        everything = function(x)
        for start, stop in ((0, 1), (3, 5), (8, 57), (56, 57)):
            assert torch.equal(function(x[start:stop].clone()).nan_to_num(), everything[start:stop].nan_to_num())


def test_gradients_of_a_product() -> None:
    g = generator()
    x, weight, bias = (torch.randn(*s, generator=g).double().requires_grad_() for s in ((5, 3, 6), (4, 6), (4,)))
    assert torch.autograd.gradcheck(exact_linear, (x, weight, bias))


HEADS, GROUPS, CHANNELS, SCALE = 6, 2, 8, 0.3


def qkv(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    g = generator(tokens)
    q, k, v = (torch.randn(tokens, h, CHANNELS, generator=g).to(dtype) for h in (HEADS, GROUPS, GROUPS))
    return q, k, v


@pytest.mark.parametrize("scores", [1, 1 << 22], ids=["tile by tile", "all tiles at once"])
def test_attention_is_the_definition(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_exact, "SCORES", scores)
    context = PackedContext.from_lengths((150, 1, 0, 64, 65))
    mine, plain = ([x.requires_grad_() for x in qkv(280, torch.float64)] for _ in range(2))
    out = attention(*mine, context, layer=0, scale=SCALE, exact=True)
    expected = attention_reference(*plain, context, scale=SCALE)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-10)
    weight = torch.randn(out.shape, generator=generator(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(o, leaves, weight) for o, leaves in ((out, mine), (expected, plain)))
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_of_parts_and_steps(dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = qkv(200, dtype)
    whole = attention_exact.attend(q, k, v, SCALE)
    assert whole.dtype == dtype
    for start, stop in ((0, 1), (0, 64), (63, 65), (100, 101), (7, 200), (199, 200)):
        assert torch.equal(attention_exact.attend(q[start:stop], k[:stop], v[:stop], SCALE), whole[start:stop])
    lengths = (1, 64, 65, 130, 200)
    last = [length - 1 for length in lengths]
    k_BNJC, v_BNJC = (torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 56)).expand(5, -1, -1, -1).clone() for x in (k, v))
    seen = attention_exact.Seen(lengths, k.device)
    for b, length in enumerate(lengths):
        k_BNJC[b, length:], v_BNJC[b, length:] = 100.0, -100.0
    keys, values = (attention_exact.in_blocks(x).flatten(0, 3) for x in (k_BNJC, v_BNJC))
    assert torch.equal(attention_exact.attend_step(q[last], keys, values, seen, SCALE), whole[last])
    monkeypatch.setattr(attention_exact, "SCORES", 1)
    assert torch.equal(attention_exact.attend(q, k, v, SCALE), whole)
    assert torch.equal(attention_exact.attend_step(q[last], keys, values, seen, SCALE), whole[last])


@pytest.mark.parametrize("heads", [2, 16, 34, 40])
def test_any_number_of_heads_shares_keys(heads: int) -> None:
    g = generator()
    q, k, v = (torch.randn(70, h, 8, generator=g, dtype=torch.float64) for h in (heads, 2, 2))
    expected = attention_reference(q, k, v, PackedContext.from_lengths((70,)), scale=SCALE)
    torch.testing.assert_close(attention_exact.attend(q, k, v, SCALE), expected, atol=1e-12, rtol=1e-10)
    k, v = (attention_exact.in_blocks(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 58))[None]) for x in (k, v))
    k, v = k.flatten(0, 3), v.flatten(0, 3)
    step = attention_exact.attend_step(q[-1:], k, v, attention_exact.Seen((70,), k.device), SCALE)
    torch.testing.assert_close(step, expected[-1:], atol=1e-12, rtol=1e-10)


def expert_inputs(tokens: int, dtype: torch.dtype, hidden: int = 40, width: int = 24) -> list[Tensor]:
    g = generator(tokens)
    ids_TK = torch.rand(tokens, 8, generator=g).mul(torch.linspace(1, 3, 8)).topk(3, dim=1).indices
    x, weights = torch.randn(tokens, hidden, generator=g), torch.rand(tokens, 3, generator=g)
    gate_up, down = torch.randn(8, 2 * width, hidden, generator=g), torch.randn(8, hidden, width, generator=g)
    return [x.to(dtype), ids_TK, weights, gate_up.mul(0.1).to(dtype), down.mul(0.1).to(dtype)]


def test_experts_have_the_right_values_and_gradients() -> None:
    inputs = [t.double() if t.is_floating_point() else t for t in expert_inputs(21, torch.float64)]
    grads = []
    for function in (lambda *a: experts_forward(*a, exact=True), experts_reference):
        leaves = [t.clone().requires_grad_() for t in (inputs[0], *inputs[2:])]
        out = function(leaves[0], inputs[1], *leaves[1:])
        torch.testing.assert_close(out, experts_reference(*inputs), atol=1e-12, rtol=1e-10)
        grads.append(torch.autograd.grad(out.square().sum(), leaves))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts_do_not_see_other_tokens(dtype: torch.dtype, threads: int) -> None:
    x_TD, ids_TK, weights_TK, gate_up, down = expert_inputs(77, dtype)
    everything = experts_forward(x_TD, ids_TK, weights_TK, gate_up, down, exact=True)
    g = generator(5)
    for count in (1, 2, 5, 30, 76):
        t = torch.randperm(77, generator=g)[:count]
        alone = experts_forward(x_TD[t], ids_TK[t], weights_TK[t], gate_up, down, exact=True)
        assert torch.equal(alone, everything[t])
    with_gradient = experts_forward(x_TD.requires_grad_(), ids_TK, weights_TK, gate_up, down, exact=True)
    assert with_gradient.requires_grad and torch.equal(with_gradient, everything)


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts_in_fp8_do_not_see_other_tokens(dtype: torch.dtype, threads: int) -> None:
    x_TD, ids_TK, weights_TK, gate_up, down = expert_inputs(77, dtype, hidden=200, width=136)
    fp8 = Fp8Experts("ue8m0")
    inputs = x_TD, ids_TK, weights_TK, gate_up, down
    everything = experts_forward(*inputs, fp8=fp8, exact=True)
    torch.testing.assert_close(
        everything, experts_forward(*inputs, fp8=fp8), atol=0.02, rtol=1e-4 if dtype is torch.float32 else 0.02
    )
    for count in (1, 2, 5, 30, 76):
        t = torch.randperm(77, generator=generator(count))[:count]
        alone = experts_forward(x_TD[t], ids_TK[t], weights_TK[t], gate_up, down, fp8=fp8, exact=True)
        assert torch.equal(alone, everything[t])
    grads = []
    for exact in (True, False):
        leaves = [x_TD.clone().requires_grad_(), gate_up.clone().requires_grad_(), down.clone().requires_grad_()]
        out = experts_forward(leaves[0], ids_TK, weights_TK, *leaves[1:], fp8=fp8, exact=exact)
        assert not exact or torch.equal(out, everything)
        grads.append(torch.autograd.grad(out.float().sum(), leaves))
    for ours, usual in zip(*grads, strict=True):
        torch.testing.assert_close(ours, usual, atol=0.05 * float(usual.abs().max()), rtol=1e-3)


def test_sorted_rows_and_no_rows() -> None:
    x_TD, _, _, gate_up, down = expert_inputs(20, torch.float64)
    counts = torch.tensor([0, 9, 0, 1, 10, 0, 0, 0])
    rows = ExpertRows.from_counts(counts, num_rows=20)
    ours = experts_exact.forward(x_TD, None, gate_up, down, rows, keep=False)[0]
    torch.testing.assert_close(ours, grouped_mlp(x_TD, counts, gate_up, down), atol=1e-12, rtol=1e-10)
    empty = x_TD[:0]
    none = experts_forward(empty, torch.zeros(0, 2, dtype=torch.int64), empty[:, :2], gate_up, down, exact=True)
    assert none.shape == (0, x_TD.shape[1])
    assert tiled_product(empty, gate_up[0]).shape == (0, gate_up.shape[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_do_not_depend_on_slices(dtype: torch.dtype) -> None:
    g = generator()
    hidden, weight = torch.randn(50, 40, generator=g).to(dtype), torch.randn(300, 40, generator=g).to(dtype)
    targets = torch.randint(300, (50,), generator=g)
    targets[::7] = IGNORE_INDEX
    kept = targets != IGNORE_INDEX
    logits = tiled_product(hidden.float(), weight.float())
    expected = logits[kept].log_softmax(-1).gather(1, targets[kept][:, None])[:, 0]
    for chunk in (1, TILE_ROWS + 1, 1024):
        ours = token_logprobs(hidden, weight, targets, chunk=chunk, exact=True)
        assert torch.equal(ours[kept], expected)
        again = linear_cross_entropy(hidden, weight, targets, kept.float(), chunk=chunk, exact=True)[1]
        assert torch.equal(again, ours)
