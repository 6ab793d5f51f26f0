"""The native-resolution vision tower, as released (spec 1.5).

    patches_PX --conv as linear--> x_PD --+ interpolated positions--> blocks --> merger (2 x 2 patches) --> tokens_ND

* Patches of all images and video frames lie one after another; attention is bidirectional inside one temporal slice of
  one grid and sees nothing else, so no padding is needed. Inside the blocks slices stand in the order of their lengths,
  and all of one length are one attention call: many small images of one size are the common case in training.
* Patch order is merge order: (t, h / 2, w / 2, 2, 2); the four patches that are merged are neighbours.
* Positions: a learned square table, interpolated bilinearly to the grid, plus 2-D rotary angles of row and column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from s1pro.base.media import Grid, Patches
from s1pro.model.config import VisionConfig
from s1pro.model.layers import Embedding, Linear


@dataclass(frozen=True)
class SliceOrder:
    """Temporal slices sorted by length.

    Attributes:
        lengths: patches of every slice, in the order given.
        order: positions of the slices in the sorted row; equal ones keep their order.
        groups: (slices, patches of each) of neighbours with equal length in the sorted row.
    """

    lengths: tuple[int, ...]
    order: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, grids: tuple[Grid, ...]) -> SliceOrder:
        lengths = tuple(h * w for t, h, w in grids for _ in range(t))
        order = tuple(sorted(range(len(lengths)), key=lengths.__getitem__))
        groups = tuple((len(list(same)), length) for length, same in groupby(lengths[i] for i in order))
        return cls(lengths, order, groups)

    def sort(self, x_PX: Tensor) -> Tensor:
        """Rows of patches, slice by slice in sorted order."""
        if self._is_sorted:
            return x_PX
        slices = x_PX.split(self.lengths)
        return torch.cat([slices[i] for i in self.order])

    def unsort(self, x_NX: Tensor, patches_per_row: int) -> Tensor:
        """Rows in the order given; a row stands for so many patches."""
        if self._is_sorted:
            return x_NX
        slices = x_NX.split([self.lengths[i] // patches_per_row for i in self.order])
        places = sorted(range(len(self.order)), key=self.order.__getitem__)
        return torch.cat([slices[place] for place in places])

    @property
    def _is_sorted(self) -> bool:
        return self.order == tuple(range(len(self.order)))


class VisionAttention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_PD: Tensor, cos_P1Z: Tensor, sin_P1Z: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
        q, k, v = self.qkv(x_PD).view(x_PD.shape[0], 3, self.num_heads, -1).unbind(1)
        q, k = _rotate(q, cos_P1Z, sin_P1Z), _rotate(k, cos_P1Z, sin_P1Z)
        rows = [count * length for count, length in groups]
        outs = [
            scaled_dot_product_attention(*(part.unflatten(0, group).transpose(1, 2) for part in qkv))
            .transpose(1, 2)
            .reshape(-1, x_PD.shape[1])
            for group, *qkv in zip(groups, q.split(rows), k.split(rows), v.split(rows), strict=True)
        ]
        return self.proj(outs[0] if len(outs) == 1 else torch.cat(outs))


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_fc2(gelu(self.linear_fc1(x), approximate="tanh"))


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)

    def forward(self, x_PD: Tensor, cos_P1Z: Tensor, sin_P1Z: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
        x_PD = x_PD + self.attn(self.norm1(x_PD), cos_P1Z, sin_P1Z, groups)
        return x_PD + self.mlp(self.norm2(x_PD))


class PatchEmbed(nn.Module):
    """A 3-D convolution whose stride is its kernel, applied to flattened patches as one matrix product."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, kernel, stride=kernel)

    def forward(self, pixel_values_PX: Tensor) -> Tensor:
        weight = self.proj.weight
        return linear(pixel_values_PX.to(weight.dtype), weight.flatten(1), self.proj.bias)


class Merger(nn.Module):
    """Joins merge x merge neighbouring patches and maps them to the width of the language model."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.width = config.hidden_size * config.spatial_merge_size**2
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.linear_fc1 = Linear(self.width, self.width)
        self.linear_fc2 = Linear(self.width, config.out_hidden_size)

    def forward(self, x_PD: Tensor) -> Tensor:
        return self.linear_fc2(gelu(self.linear_fc1(self.norm(x_PD).view(-1, self.width))))


class VisionTower(nn.Module):
    """See the module docstring. `forward` maps `Patches` to merged tokens `[N, out_hidden_size]`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.merger = Merger(config)

    def forward(self, patches: Patches[Tensor]) -> Tensor:
        self._check(patches.grids)
        x_PD = self.patch_embed(patches.pixel_values_PX)
        slices = SliceOrder.of(patches.grids)
        x_PD = slices.sort(x_PD + self.position_embeddings(patches.grids))
        angles_PZ = slices.sort(self.rotary_angles(patches.grids))
        cos, sin = angles_PZ.cos()[:, None], angles_PZ.sin()[:, None]
        for block in self.blocks:
            x_PD = block(x_PD, cos, sin, slices.groups)
        return slices.unsort(self.merger(x_PD), self.config.spatial_merge_size**2)

    def position_embeddings(self, grids: tuple[Grid, ...]) -> Tensor:
        """The learned table interpolated to each grid, `[P, D]` in merge order."""
        tables = {(h, w): self._interpolate(h, w) for h, w in {grid[1:] for grid in grids}}
        return torch.cat([tables[h, w] for t, h, w in grids for _ in range(t)])

    def rotary_angles(self, grids: tuple[Grid, ...]) -> Tensor:
        """Angles of row and column, float32 `[P, head_dim / 2]` in merge order."""
        device = self.pos_embed.weight.device
        pairs = self.config.hidden_size // self.config.num_heads // 2
        exponents = torch.arange(0, pairs, 2, dtype=torch.float32, device=device) / pairs
        inv_freq = 1.0 / 10000.0**exponents
        tables = {}
        for h, w in {grid[1:] for grid in grids}:
            rows, cols = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
            index_P2 = self._merge_order(torch.stack((rows, cols), dim=-1))
            tables[h, w] = (index_P2[:, :, None] * inv_freq).flatten(1)
        return torch.cat([tables[h, w] for t, h, w in grids for _ in range(t)])

    def _interpolate(self, h: int, w: int) -> Tensor:
        table = self.pos_embed.weight
        side = math.isqrt(self.config.num_position_embeddings)
        y = torch.linspace(0, side - 1, h, device=table.device)
        x = torch.linspace(0, side - 1, w, device=table.device)
        y0, x0 = y.long(), x.long()
        y1, x1 = (y0 + 1).clamp(max=side - 1), (x0 + 1).clamp(max=side - 1)
        dy, dx = (y - y0)[:, None], (x - x0)[None]
        corners = (
            (y0, x0, (1 - dy) * (1 - dx)),
            (y0, x1, (1 - dy) * dx),
            (y1, x0, dy * (1 - dx)),
            (y1, x1, dy * dx),
        )
        grid = sum(table[(row[:, None] * side + col).flatten()] * weight.to(table.dtype).reshape(-1, 1)
                   for row, col, weight in corners)  # fmt: skip
        return self._merge_order(torch.as_tensor(grid).view(h, w, -1))

    def _merge_order(self, grid_hwX: Tensor) -> Tensor:
        h, w, size = grid_hwX.shape
        merge = self.config.spatial_merge_size
        return grid_hwX.view(h // merge, merge, w // merge, merge, size).transpose(1, 2).reshape(h * w, size)

    def _check(self, grids: tuple[Grid, ...]) -> None:
        merge = self.config.spatial_merge_size
        for t, h, w in grids:
            if min(t, h, w) < 1 or h % merge or w % merge:
                raise ValueError(f"grid {(t, h, w)} must be positive, with h and w multiples of {merge}")


def _rotate(x_PHC: Tensor, cos_P1Z: Tensor, sin_P1Z: Tensor) -> Tensor:
    first, second = x_PHC.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos_P1Z - second * sin_P1Z, second * cos_P1Z + first * sin_P1Z), dim=-1)
    return turned.to(x_PHC.dtype)
