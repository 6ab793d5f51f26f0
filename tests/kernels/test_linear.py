"""One row through a batch of products, against torch's own linear."""

from __future__ import annotations

import pytest
import torch

from s1pro.kernels import linear as module
from s1pro.kernels import processor
from s1pro.kernels.linear import linear, parts_of, row_times_weight


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (258, 130), (257, 128), (1, 7)])
@pytest.mark.parametrize("bias", [False, True])
def test_row_times_weight(rows: int, columns: int, bias: bool) -> None:
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, columns, generator=g), torch.randn(rows, columns, generator=g)
    b = torch.randn(rows, generator=g) if bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if b is None else b.double())
    torch.testing.assert_close(row_times_weight(x, weight, b).double(), expected, atol=1e-5, rtol=1e-5)


def test_only_large_weights_without_gradient_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def record(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        calls.append(weight.shape)
        return row_times_weight(x, weight, bias)

    monkeypatch.setattr(module, "row_times_weight", record)
    monkeypatch.setattr(module, "prefers_weight_first", lambda: True)
    large, small = torch.randn(256, 256), torch.randn(8, 256)
    x = torch.randn(1, 256)
    linear(x, large)
    assert not calls  # gradients are recorded
    with torch.no_grad():
        short = linear(x, large)
        linear(x, small)
        linear(x.expand(2, 256), large)
        linear(x.double(), large.double())
        linear(x, large.t())
    assert calls == [large.shape]
    torch.testing.assert_close(short, torch.nn.functional.linear(x, large), atol=1e-4, rtol=1e-5)


def test_other_processors_multiply_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prefers_weight_first", lambda: False)
    x, weight = torch.randn(1, 256), torch.randn(256, 256)
    with torch.no_grad():
        assert torch.equal(linear(x, weight), torch.nn.functional.linear(x, weight))


@pytest.mark.parametrize("amd", [True, False])
def test_the_kind_of_processor_decides(monkeypatch: pytest.MonkeyPatch, amd: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"sse4a": amd}, raising=False)
    assert processor.prefers_weight_first.__wrapped__() is amd


def test_parts_divide_the_rows() -> None:
    for rows in (1, 2, 3, 64, 257, 4096):
        assert rows % parts_of(rows) == 0
