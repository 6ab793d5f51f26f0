"""Compiled kernels against plain operations in float64, and the bits of a row, which no other row changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from s1pro.kernels import compiled, experts_compiled
from s1pro.kernels.compiled import forget_older
from s1pro.kernels.compiled.attention import attend
from s1pro.kernels.compiled.elementwise import exp_from, largest, to_bfloat16
from s1pro.kernels.compiled.jit import kept_jit
from s1pro.kernels.compiled.products import rows_dot, rows_times
from s1pro.kernels.compiled.tiles import ADDRESSES
from s1pro.kernels.compiled.vectors import LANES
from s1pro.kernels.experts import experts_forward, experts_reference
from s1pro.kernels.experts_compiled import inner_first

DTYPES = [torch.float32, torch.bfloat16]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@njit
def exponentials(x, shift):  # type: ignore[no-untyped-def]
    return exp_from(x.ctypes.data, len(x), shift)


@njit
def largest_of(x):  # type: ignore[no-untyped-def]
    return largest(x.ctypes.data, len(x))


@njit
def halves(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = to_bfloat16(x[i])


def test_the_exponential_function() -> None:
    x = np.linspace(-86.9, 87.9, 100 * LANES * 16).astype(np.float32)
    exact, mine = np.exp(x.astype(np.float64)), x.copy()
    exponentials(mine, np.float32(0))
    assert np.abs(mine / exact - 1).max() < 3 * np.finfo(np.float32).eps
    small = numbers(20 * LANES).numpy()
    expected = np.exp(small.astype(np.float64) - 0.5)
    assert exponentials(small, np.float32(0.5)) == pytest.approx(expected.sum(), rel=1e-6)
    np.testing.assert_allclose(small, expected, rtol=1e-6)
    around = np.array([-np.inf, -1e30, -87.0, 0.0] * LANES, dtype=np.float32)
    exponentials(around, np.float32(0))
    strange = np.full(LANES, np.nan, np.float32)
    assert np.isnan(exponentials(strange, np.float32(0))) and np.isnan(strange).all()
    assert around[3] == 1 and (around[:3] <= np.exp(np.float32(-86.9))).all() and (around >= 0).all()


def test_the_largest_number_and_bfloat16() -> None:
    x = numbers(5 * LANES, seed=1).numpy()
    assert largest_of(x) == x.max()
    values = torch.cat([numbers(3000), torch.tensor([0.0, -0.0, 1.0, 3.0e38, torch.inf, -torch.inf])])
    ties = (values.view(torch.int32) & ~0xFFFF | 0x8000).view(torch.float32)  # half way between two neighbours
    for given in (values, ties[ties.isfinite()]):
        out = np.empty(len(given), np.int16)
        halves(given.numpy(), out)
        assert torch.equal(torch.from_numpy(out).view(torch.bfloat16), given.bfloat16())


def times(x: Tensor, weight_KN: Tensor) -> Tensor:
    weight = weight_KN.view(torch.int16).numpy() if weight_KN.dtype is torch.bfloat16 else weight_KN.numpy()
    out, given = torch.full((len(x), weight.shape[1]), torch.nan), x.numpy()
    inner, columns = weight.shape
    pointers = given.ctypes.data, inner, len(given), weight.ctypes.data, columns, inner, columns
    rows_times(ADDRESSES, weight.itemsize, *pointers, out.numpy().ctypes.data, columns)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inner", "columns"), [(64, 256), (17, 3 * LANES), (1, LANES), (30, 11 * LANES + 5), (8, 3)])
def test_products_of_any_size(inner: int, columns: int, dtype: torch.dtype) -> None:
    weight = numbers(inner, columns, seed=2).to(dtype)
    x = numbers(31, inner, seed=3)
    expected = x.double() @ weight.double()
    alone = torch.cat([times(row[None], weight) for row in x])
    for rows in (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 31):
        mine = times(x[:rows], weight)
        torch.testing.assert_close(mine.double(), expected[:rows], atol=2e-5, rtol=1e-5)
        assert torch.equal(mine, alone[:rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 8])
def test_dot_products(rows: int, dtype: torch.dtype) -> None:
    inner, count, stride = 2 * LANES, 2 * LANES + 3, 5 * LANES
    memory, x = numbers(count, stride, seed=4).to(dtype), numbers(rows, inner, seed=5)
    keys = memory.view(torch.int16).numpy() if dtype is torch.bfloat16 else memory.numpy()
    out = np.empty((rows, count), np.float32)
    pointers = x.numpy().ctypes.data, inner, rows, keys.ctypes.data, stride, inner, count, out.ctypes.data, count
    rows_dot(ADDRESSES, keys.itemsize, *pointers)
    expected = x.double() @ memory[:, :inner].double().T
    torch.testing.assert_close(torch.from_numpy(out).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 2), (3, 3), (6, 1), (16, 2)])
def test_attention_over_scattered_blocks(heads: int, kv_heads: int, dtype: torch.dtype) -> None:
    channels, size, lengths = 2 * LANES, 4, np.array([1, 4, 5, 23, 16])
    slots = numbers(40 * size, 2, kv_heads, channels, seed=6).to(dtype)
    table = torch.randperm(40, generator=torch.Generator().manual_seed(7)).view(5, 8).numpy().copy()
    table[3] = np.arange(table[3].min(), table[3].min() + 8) % 40  # a row without gaps
    q = numbers(5, heads + 1, channels, seed=8) * 0.3  # more heads than are asked for
    out = torch.full((5, heads * channels), torch.nan)
    memory = slots.view(torch.int16).numpy() if dtype is torch.bfloat16 else slots.numpy()
    attend(ADDRESSES, q.numpy(), heads, memory, table, np.arange(5), lengths, size, out.numpy())
    for b, length in enumerate(lengths):
        seen = [int(table[b, s // size]) * size + s % size for s in range(length)]
        keys, values = slots[seen].double().unbind(1)
        for h in range(heads):
            j = h * kv_heads // heads
            expected = (keys[:, j] @ q[b, h].double()).softmax(0) @ values[:, j]
            mine = out[b, h * channels : (h + 1) * channels].double()
            torch.testing.assert_close(mine, expected, atol=2e-6, rtol=1e-5)


def layer(num_experts: int = 6, hidden: int = 3 * LANES, width: int = LANES) -> tuple[Tensor, Tensor]:
    """Weights with the inner size first."""
    gate_up = numbers(num_experts, hidden, 2 * width, seed=9).mT * 0.2
    return gate_up, numbers(num_experts, width, hidden, seed=10).mT * 0.2


def choices(tokens: int, num_experts: int = 6, top_k: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(tokens)
    return torch.rand(tokens, num_experts, generator=g).topk(top_k).indices, torch.rand(tokens, top_k, generator=g)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 2, 40, 300])
@torch.no_grad()
def test_experts(tokens: int, dtype: torch.dtype) -> None:
    gate_up, down = (weight.to(dtype) for weight in layer())
    x, (ids, weights) = numbers(tokens, gate_up.shape[2], seed=11).to(dtype), choices(tokens)
    assert experts_compiled.is_supported(x, gate_up, down)
    wide = [given.double() for given in (x, weights, gate_up, down)]
    expected = experts_reference(wide[0], ids, *wide[1:])
    mine = experts_forward(x, ids, weights, gate_up, down)
    assert mine.dtype is dtype
    exact = dtype is torch.float32
    torch.testing.assert_close(mine.double(), expected, atol=1e-5 if exact else 2e-2, rtol=1e-5 if exact else 8e-3)
    for i in range(min(tokens, 3)):
        row = slice(i, i + 1)
        assert torch.equal(mine[row], experts_compiled.forward(x[row], ids[row], weights[row], gate_up, down))


@torch.no_grad()
def test_threads_share_the_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    gate_up, down = layer()
    x, (ids, weights) = numbers(90, gate_up.shape[2], seed=12), choices(90)
    expected = experts_compiled.forward(x, ids, weights, gate_up, down)
    for threads in (2, 3, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        mine = experts_compiled.forward(x, ids, weights, gate_up, down)
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
    one = torch.full_like(ids, 4)[:, :1]
    torch.testing.assert_close(
        experts_compiled.forward(x, one, weights[:, :1], gate_up, down),
        experts_reference(x, one, weights[:, :1], gate_up, down),
        atol=1e-5,
        rtol=1e-5,
    )


@torch.no_grad()
def test_other_layouts_sizes_and_gradients_go_other_ways() -> None:
    gate_up, down = layer()
    x, (ids, weights) = numbers(4, gate_up.shape[2], seed=13), choices(4)
    assert not experts_compiled.is_supported(x, gate_up.contiguous(), down.contiguous())
    assert not experts_compiled.is_supported(x.double(), gate_up.double(), down.double())
    assert not experts_compiled.is_supported(x[:0], gate_up, down)
    odd = layer(hidden=LANES + 1)
    assert not experts_compiled.is_supported(numbers(4, LANES + 1), *odd)
    with pytest.raises(ValueError, match=r"must lie in \[0, 6\), got 0 to 9"):
        experts_forward(x, torch.tensor([[0, 9]] * 4), weights, gate_up, down)
    with torch.enable_grad():
        x.requires_grad_()
        experts_forward(x, ids, weights, gate_up, down).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_arrays_are_the_memory_of_weights() -> None:
    gate_up, _ = layer()
    for weight in (gate_up, gate_up.bfloat16()):
        array = inner_first(weight)
        assert array.shape == weight.mT.shape and array.flags.c_contiguous
        assert array.ctypes.data == weight.data_ptr()


def test_what_was_compiled_from_older_sources_is_forgotten(tmp_path: Path) -> None:
    kept = tmp_path / "__pycache__"
    kept.mkdir()
    for name, age in (("step.nbi", 10), ("step.1.nbc", 0), ("step.cpython-311.pyc", 10)):
        (kept / name).touch()
        os.utime(kept / name, (1000 - age, 1000 - age))
    for name, age in (("step.py", 20), ("tiles.py", 5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    forget_older(tmp_path)
    assert sorted(path.name for path in kept.iterdir()) == ["step.1.nbc", "step.cpython-311.pyc"]


def test_where_nothing_can_be_written_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_place(self: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.registry.CPUDispatcher.enable_caching", no_place)
    assert kept_jit(lambda x: x + 1)(2) == 3


def test_without_numba_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    assert not compiled.is_available.__wrapped__()
