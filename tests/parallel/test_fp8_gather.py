"""Gathered FP8 weights are the quantised whole weight, byte for byte, on 2 gloo ranks; blocks never lie on two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from s1pro.kernels.fp8 import dequantize_blocks, quantize_blocks
from s1pro.parallel.fp8_gather import all_gather_fp8, chunk_size, from_bytes, to_bytes

# name: shape of the whole weight
SHAPES = {
    "stack": (4, 130, 150),
    "uneven stack": (3, 20, 33),
    "more ranks than experts": (1, 9, 7),
    "matrix": (256, 5),
    "matrix with a partial block at the end": (255, 3),
}


def weight(shape: tuple[int, ...]) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=draw) * torch.logspace(-4, 3, shape[-1])


def on_rank(rank: int, file: str, scale_format: Any, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    try:
        for name, shape in SHAPES.items():
            whole = weight(shape)
            chunk = chunk_size(shape[0], 2, is_stack=len(shape) > 2)
            shard = whole[rank * chunk : (rank + 1) * chunk]
            gathered = all_gather_fp8(shard, shape[0], scale_format=scale_format)
            results[rank, name] = equal_bytes(gathered, quantize_blocks(whole, scale_format=scale_format))
        try:
            all_gather_fp8(weight((2, 4)), 3)
        except ValueError as error:
            results[rank, "error"] = str(error)
    finally:
        dist.destroy_process_group()


def equal_bytes(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0].view(torch.uint8), b[0].view(torch.uint8)) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
def test_gathering_equals_quantising_the_whole(tmp_path: Path, scale_format: str) -> None:
    with mp.get_context("fork").Manager() as manager:
        results = manager.dict()
        args = (str(tmp_path / "group"), scale_format, results)
        mp.start_processes(on_rank, args=args, nprocs=2, start_method="fork")
        found = dict(results)
    for rank in range(2):
        assert "use a number of ranks" in found.pop((rank, "error"))
    assert found == {(rank, name): True for rank in range(2) for name in SHAPES}


@pytest.mark.parametrize(("shape", "ranks"), [((383, 6), 3), ((16, 5, 3), 8), ((7, 129, 131), 3), ((128, 2), 4)])
def test_bytes_of_many_ranks(shape: tuple[int, ...], ranks: int) -> None:
    """As above, with the exchange done by hand; the last case has a single block, on the first rank."""
    whole = weight(shape)
    chunk = 128 if shape == (128, 2) else chunk_size(shape[0], ranks, is_stack=len(shape) > 2)
    received = torch.stack([to_bytes(whole[r * chunk : (r + 1) * chunk], chunk) for r in range(ranks)])
    assert received.shape[1] < 1.1 * chunk * whole[0].numel() + 16  # one byte per number, and few scales
    gathered = from_bytes(received, shape[0], whole[:chunk], chunk)
    assert equal_bytes(gathered, quantize_blocks(whole))
    assert torch.equal(dequantize_blocks(*gathered), dequantize_blocks(*quantize_blocks(whole)))


@pytest.mark.parametrize(("rows", "ranks"), [(300, 2), (128, 4), (1000, 8)])
def test_blocks_on_two_ranks_are_an_error(rows: int, ranks: int) -> None:
    with pytest.raises(ValueError, match="lie on two"):
        chunk_size(rows, ranks, is_stack=False)
    assert chunk_size(rows, ranks, is_stack=True) == -(-rows // ranks)
