"""From points to frames: the adaptive front end of the time-series module (spec 1.8).

    signal [length, A] --cut--> patches of two strides, half overlapping; each is A rows of points
        --> convolution over 5 points, ReLU, + fixed sinusoids, one transformer layer (post-norm, ReLU)
        --> mean over the points of a row, mean over the rows of a patch --> [patches, 128]
        --> two neighbours side by side --> frames [W, 256]

The stride follows the sampling rate (`base.signal_tokens`), so that a frame lasts a similar time at many rates. The
last patch is filled with zeros, which take part in the layer and in the mean, as released; an odd last patch would be
dropped, and is never computed.

The rows of a patch ought to be its channels. The released code, however, reads the patch [points, A] in memory order
and cuts it into A rows, so that a row holds all channels of some points by turns. Its weights were trained so and the
goldens show it, hence this is the default; `separate_channels` gives every channel its row. With one channel there is
no difference.

A point passes through the layer twice (the patches overlap), each time at 0.7 million multiply-adds: this is where the
time goes. What a row sees is that row alone. Therefore patches of all signals and channels with the same stride
are computed together, some thousand points at a time: the 2048 channels inside the layer then stay in the cache,
nothing grows with the length of a signal, and results do not depend on the other signals of the batch. With
gradients, long inputs keep only the points and compute each chunk again in the backward pass (`_Recomputed`; torch's
checkpoints, thousands of them, would leave small pieces between large ones all over the heap).

The sinusoids are computed, not stored: float32 whatever the dtype of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, relu, scaled_dot_product_attention

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import SignalLayout
from s1pro.kernels.relu_mlp import prepared, relu_mlp
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.layers import Conv1d, Linear

CPU_CHUNK, GPU_CHUNK = 1024, 65_536
"""Points per chunk: per thread on a CPU, all in all elsewhere."""

KEEP_POINTS = 32_768
"""Inputs of more points (after overlapping) are computed again in the backward pass."""


_Read = Callable[[Callable[[Tensor], Tensor], "_Chunk"], Tensor]
"""A chunk, with the feed-forward half to use, to the means of its patches `[patches, width]`."""


class PatchAttention(nn.Module):
    """Attention inside each patch, with the parameters of `nn.MultiheadAttention`."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, x_RSD: Tensor) -> Tensor:
        rows, points, width = x_RSD.shape
        qkv = linear(x_RSD, self.in_proj_weight, self.in_proj_bias).view(rows, points, 3, self.num_heads, -1)
        out_RHSC = scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.out_proj(out_RHSC.transpose(1, 2).reshape(rows, points, width))


class PatchLayer(nn.Module):
    """`nn.TransformerEncoderLayer` with its defaults: ReLU, normalisation after each half."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        width, inner = config.patch_width, config.subsampling_ffn_dim
        self.self_attn = PatchAttention(width, config.subsampling_attention_heads)
        self.linear1 = Linear(width, inner)
        self.linear2 = Linear(inner, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)

    def mlp(self) -> Callable[[Tensor], Tensor]:
        """The feed-forward half, ready for many chunks with the weights of now."""
        weights = self.linear1.weight, self.linear1.bias, self.linear2.weight, self.linear2.bias
        device = weights[0].device.type
        if torch.is_grad_enabled() or device == "meta" or torch.is_autocast_enabled(device):
            return lambda x: relu_mlp(x, *weights)
        return prepared(*weights)

    def forward(self, x_RSD: Tensor, mlp: Callable[[Tensor], Tensor]) -> Tensor:
        x_RSD = self.norm1(x_RSD + self.self_attn(x_RSD))
        return self.norm2(x_RSD + mlp(x_RSD))


class PatchTransformer(nn.Module):
    """A stack of one layer, as the release names it."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PatchLayer(config)])


@dataclass(frozen=True)
class _Piece:
    """Patches `start` to `stop` of one signal."""

    signal: int
    start: int
    stop: int

    @property
    def patches(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Chunk:
    """Pieces of one stride that are computed together."""

    stride: int
    pieces: tuple[_Piece, ...]

    @property
    def patches(self) -> int:
        return sum(piece.patches for piece in self.pieces)


class _Recomputed(torch.autograd.Function):
    """`_read_all` that keeps nothing and computes every chunk again for the gradients of `params`."""

    @staticmethod
    def forward(
        ctx: Any, mlp: Callable[[], Callable[[Tensor], Tensor]], read: _Read, chunks: list[_Chunk], *params: Tensor
    ) -> Tensor:
        ctx.mlp, ctx.read, ctx.chunks, ctx.params = mlp, read, chunks, params
        ctx.save_for_backward(*params)
        return _read_all(mlp(), read, chunks)

    @staticmethod
    def backward(ctx: Any, gradient_PD: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.saved_tensors  # complains if a parameter was changed since
        sums = [torch.zeros_like(param) for param in ctx.params]
        parts = gradient_PD.split([chunk.patches for chunk in ctx.chunks])
        for chunk, part in zip(ctx.chunks, parts, strict=True):
            with torch.enable_grad():
                means_PD = ctx.read(ctx.mlp(), chunk)
            for total, gradient in zip(sums, torch.autograd.grad(means_PD, ctx.params, part), strict=True):
                total += gradient
        return None, None, None, *sums


class SignalFrontend(nn.Module):
    """See the module docstring. `forward` maps signals to the frames of all of them, `[W, ts_adapt_in_dim]`."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.separate_channels = config.separate_channels
        self.conv = Conv1d(1, config.patch_width, kernel_size=5, padding=2)
        self.transformer_encoder = PatchTransformer(config)

    def forward(self, signals: Signals[Tensor], layouts: Sequence[SignalLayout]) -> Tensor:
        """Frames of all signals one after another; `layouts` says how each is cut."""
        values = self._values(signals)
        channels = [v.shape[1] for v in values]
        points = sum(2 * layout.frames * layout.patch * a for layout, a in zip(layouts, channels, strict=True))
        strides = sorted({layout.stride for layout in layouts})
        tables = {stride: sinusoids(2 * stride, self.conv.out_channels, values[0].device) for stride in strides}
        chunks = [
            _Chunk(stride, tuple(pieces))
            for stride in strides
            for pieces in _chunks(stride, self._rows_per_chunk(stride), layouts, channels)
        ]
        params = [p for p in self.parameters() if p.requires_grad]

        def read(mlp: Callable[[Tensor], Tensor], chunk: _Chunk) -> Tensor:
            return self._read(values, chunk, tables[chunk.stride], mlp)

        if torch.is_grad_enabled() and params and points > KEEP_POINTS:
            means_PD: Tensor = _Recomputed.apply(self.transformer_encoder.layers[0].mlp, read, chunks, *params)
        elif torch.is_grad_enabled():
            mlp = self.transformer_encoder.layers[0].mlp()
            means_PD = torch.cat([read(mlp, chunk) for chunk in chunks])
        else:
            means_PD = _read_all(self.transformer_encoder.layers[0].mlp(), read, chunks)
        pieces = [piece for chunk in chunks for piece in chunk.pieces]
        by_piece = dict(zip(pieces, means_PD.split([piece.patches for piece in pieces]), strict=True))
        in_order = sorted(pieces, key=lambda piece: (piece.signal, piece.start))
        return torch.cat([by_piece[piece] for piece in in_order]).view(-1, 2 * self.conv.out_channels)

    def _read(
        self, values: Sequence[Tensor], chunk: _Chunk, sinusoids_SD: Tensor, mlp: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The patches of one chunk, `[patches, width]`."""
        cut = [self._cut(values[piece.signal], piece, chunk.stride) for piece in chunk.pieces]
        rows = self._rows_per_chunk(chunk.stride)  # more than these only if a single patch has very many channels
        means_RD = torch.cat([self.row_means(rows_RS, sinusoids_SD, mlp) for rows_RS in torch.cat(cut).split(rows)])
        parts = zip(chunk.pieces, means_RD.split([len(part) for part in cut]), strict=True)
        return torch.cat([part.unflatten(0, (piece.patches, -1)).mean(dim=1) for piece, part in parts])

    def row_means(self, rows_RS: Tensor, sinusoids_SD: Tensor, mlp: Callable[[Tensor], Tensor]) -> Tensor:
        """Rows of points `[R, points]` to `[R, width]`."""
        neighbours_RS5 = pad(rows_RS, (2, 2)).unfold(1, 5, 1)
        x_RSD = relu(linear(neighbours_RS5, self.conv.weight[:, 0], self.conv.bias), inplace=True)
        x_RSD = x_RSD + sinusoids_SD.to(x_RSD.dtype)
        return self.transformer_encoder.layers[0](x_RSD, mlp).mean(dim=1)

    def _values(self, signals: Signals[Tensor]) -> list[Tensor]:
        """Each signal as `[length, A]`, in the dtype of the weights."""
        values_X = signals.values_X.to(self.conv.weight.dtype)
        parts = values_X.split([length * channels for length, channels in signals.shapes])
        return [part.view(shape) for part, shape in zip(parts, signals.shapes, strict=True)]

    def _cut(self, values_SA: Tensor, piece: _Piece, stride: int) -> Tensor:
        """The rows of a piece, `[patches * A, 2 * stride]`; zeros where the signal has ended."""
        start, stop, points = piece.start * stride, (piece.stop + 1) * stride, 2 * stride
        part_SA = values_SA[start:stop]
        part_SA = pad(part_SA, (0, 0, 0, stop - start - part_SA.shape[0]))
        patches_RAS = part_SA.unfold(0, points, stride)
        if not self.separate_channels:
            patches_RAS = patches_RAS.transpose(1, 2)
        return patches_RAS.reshape(-1, points)

    def _rows_per_chunk(self, stride: int) -> int:
        on_cpu = self.conv.weight.device.type == "cpu"
        return max((CPU_CHUNK * torch.get_num_threads() if on_cpu else GPU_CHUNK) // (2 * stride), 1)


def _chunks(stride: int, rows: int, layouts: Sequence[SignalLayout], channels: Sequence[int]) -> Iterator[list[_Piece]]:
    """The patches of all signals with this stride, in lists of so many rows, or of one patch with more."""
    pieces: list[_Piece] = []
    free = rows
    for signal, layout in enumerate(layouts):
        start, stop = 0, 2 * layout.frames if layout.stride == stride else 0
        while start < stop:
            count = min(free // channels[signal], stop - start)
            if count == 0 and pieces:
                yield pieces
                pieces, free = [], rows
                continue
            count = max(count, 1)
            pieces.append(_Piece(signal, start, start + count))
            start, free = start + count, free - count * channels[signal]
    if pieces:
        yield pieces


def _read_all(mlp: Callable[[Tensor], Tensor], read: _Read, chunks: list[_Chunk]) -> Tensor:
    """All chunks one after another, `[patches, width]`, written into memory that is taken once; no gradient."""
    first = read(mlp, chunks[0])
    means_PD = first.new_empty(sum(chunk.patches for chunk in chunks), first.shape[1])
    done = 0
    for chunk in chunks:
        means_PD[done : done + chunk.patches] = first if done == 0 else read(mlp, chunk)
        done += chunk.patches
    return means_PD


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Fixed positions, float32 `[length, width]`: sines in even columns, cosines in odd ones."""
    position = torch.arange(length, dtype=torch.float32, device=device)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / width))
    angles = position * frequency
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
