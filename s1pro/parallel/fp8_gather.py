"""All-gather of expert weights in FP8: a quarter of the bytes of float32, half of those of bfloat16.

A weight `[rows, in]` or a stack `[E, out, in]` is cut along its first dim, rank r holding the r-th chunk of
ceil(size / ranks) (FSDP2 cuts like this). Each rank quantises what it holds, sends one row of bytes,

    values (1 byte per number) | scales (4 bytes per 128 x 128 block)

and everybody finds the values and scales of the whole weight, as if it had been gathered first and quantised then. This
needs that no block lies on two ranks: stacks are cut between matrices, and the chunks of a single matrix must be
multiples of 128 rows. Process groups on a CPU know no FP8 type, so the bytes travel as uint8.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.kernels.fp8 import ScaleFormat, quantize_blocks

BLOCK = 128


def chunk_size(size: int, num_ranks: int, *, is_stack: bool) -> int:
    """How many entries of the first dim every rank but the last ones holds.

    Raises:
        ValueError: a block of 128 rows would lie on two ranks.
    """
    chunk = -(-size // num_ranks)
    if not is_stack and chunk < size and chunk % BLOCK:
        raise ValueError(
            f"{size} rows on {num_ranks} ranks are chunks of {chunk}, and blocks of {BLOCK} rows would lie on two of "
            f"them; use a number of ranks that gives multiples of {BLOCK}, or gather this weight unquantised"
        )
    return chunk


def to_bytes(shard: Tensor, chunk: int, scale_format: ScaleFormat = "fp32") -> Tensor:
    """uint8 values and scales of a shard, padded to what a whole chunk takes.

    Args:
        shard: `[n, in]` or `[n, out, in]` with n at most `chunk`.
    """
    begin = _aligned(chunk * shard.shape[1:].numel())
    sent = shard.new_zeros(begin + 4 * _scale_rows(shard, chunk) * _scale_tail(shard).numel(), dtype=torch.uint8)
    if shard.shape[0]:
        values, scale = quantize_blocks(shard, scale_format=scale_format, block=(BLOCK, BLOCK))
        sent[: values.numel()] = values.flatten().view(torch.uint8)
        sent[begin : begin + 4 * scale.numel()] = scale.flatten().view(torch.uint8)
    return sent


def from_bytes(received: Tensor, size: int, shard: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Values and scales of the whole weight, whose first dim has `size` entries, from the rows of all ranks.

    Args:
        received: `[num_ranks, bytes]`.
        shard: of this rank, for its shape.
    """
    count = chunk * shard.shape[1:].numel()
    values = received[:, :count].reshape(-1, *shard.shape[1:])[:size]
    scales = received[:, _aligned(count) :].contiguous().view(torch.float32)
    scales = scales.reshape(-1, *_scale_tail(shard))[: _scale_rows(shard, size)]
    return values.contiguous().view(torch.float8_e4m3fn), scales


def all_gather_fp8(
    shard: Tensor, size: int, group: dist.ProcessGroup | None = None, *, scale_format: ScaleFormat = "fp32"
) -> tuple[Tensor, Tensor]:
    """Values and scales of the whole weight; `kernels.fp8.dequantize_blocks` makes numbers of them.

    Args:
        shard: this rank's chunk, `[n, in]` or `[n, out, in]`; n may be smaller, or 0, on the last ranks.
        size: of the whole weight in its first dim.

    Raises:
        ValueError: blocks that lie on two ranks, a shard that is not this rank's chunk, NaN or infinity.
    """
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    chunk = chunk_size(size, ranks, is_stack=shard.dim() > 2)
    expected = min(max(size - rank * chunk, 0), chunk)
    if shard.dim() not in (2, 3) or shard.shape[0] != expected:
        raise ValueError(f"rank {rank} of {ranks} holds {expected} of {size} entries, got a shard {tuple(shard.shape)}")
    sent = to_bytes(shard, chunk, scale_format)
    received = sent.new_empty(ranks, sent.numel())
    dist.all_gather(list(received.unbind()), sent, group=group)
    return from_bytes(received, size, shard, chunk)


def _aligned(count: int) -> int:
    """Where the scales begin: float32 numbers want multiples of 4 bytes."""
    return count + -count % 4


def _scale_rows(shard: Tensor, size: int) -> int:
    """Entries in the first dim of the scales of a weight that is like `shard` with `size` entries."""
    return size if shard.dim() > 2 else -(-size // BLOCK)


def _scale_tail(shard: Tensor) -> torch.Size:
    """Shape of the scales behind their first dim."""
    return torch.Size(-(-size // BLOCK) for size in shard.shape[1:])
