"""Rotary positions with Fourier mixing (FoPE, "Fourier position embedding"; paper section on position encoding).

Plain rotary embedding turns pair i of a head by the angle `position * inv_freq[i]`. FoPE

1. keeps the D frequencies that complete at least one period within `max_position_embeddings`;
2. mixes the sines, and separately the cosines, of the kept frequencies by a coefficient matrix per KV head:
   `sin_TJZ = sin(angle_TD) @ sin_coef_JDD`;
3. fills the dropped pairs with a constant, 1 for sine *and* cosine. A pair (a, b) there becomes (a - b, b + a): a fixed
   turn by 45 degrees and a factor of sqrt(2), without any position.

Query head h uses the table of its KV head h // (H / J). Because frequencies are mixed, scores do not depend on
relative positions alone: positions must start at 0 in every sequence and a cache can never be re-based.

Angles are float32 products whatever the dtype of the model (float64 angles differ by 6e-3 at position 262,143), and
casting the model casts neither frequencies nor coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from s1pro.kernels.exact import exact_linear
from s1pro.kernels.precision import without_autocast
from s1pro.model.config import RopeConfig


@dataclass(frozen=True)
class RopeTable:
    """`cos` and `sin` of every pair, float32 `[T, J or 1, C / 2]`, for the positions of one forward pass."""

    cos: Tensor
    sin: Tensor
    _side_by_side: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @cached_property
    def per_channel(self) -> tuple[Tensor, Tensor]:
        """Both `[T, J or 1, 1, C]`, made once for all layers: a turn is `x * cos + swapped(x) * sin`.

        Channels c and c + C / 2 are a pair. Both have its cosine, the first minus its sine, the second its sine.
        """
        cos, sin = torch.cat((self.cos, self.cos), dim=-1), torch.cat((-self.sin, self.sin), dim=-1)
        return cos[:, :, None], sin[:, :, None]

    def side_by_side(self, num_heads: int, num_kv_heads: int) -> tuple[Tensor, Tensor]:
        """Both `[T, H + J, C]`, for queries and keys in one tensor. Made once: all layers have equal heads."""
        if not self._side_by_side:
            kinds = (x.expand(-1, num_kv_heads, -1, -1)[:, :, 0] for x in self.per_channel)
            group = num_heads // num_kv_heads
            cos, sin = (torch.cat((x_TJC.repeat_interleave(group, dim=1), x_TJC), dim=1) for x_TJC in kinds)
            self._side_by_side.append((cos, sin))
        return self._side_by_side[0]


def inverse_frequencies(config: RopeConfig, head_dim: int) -> Tensor:
    """`theta ** (-2 i / C)` for the kept i, float32 `[D]`, with the bits of the released code."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").to(torch.float32) / head_dim
    inv_freq = 1.0 / (config.theta**exponents)
    return inv_freq[: config.kept_frequencies(head_dim)]


class RotaryEmbedding(nn.Module):
    """Builds the table of one forward pass. One instance serves all layers."""

    def __init__(self, config: RopeConfig, head_dim: int, num_kv_heads: int) -> None:
        super().__init__()
        self.config = config
        self.num_pairs = head_dim // 2
        self.exact = False
        self._inv_freq_D = inverse_frequencies(config, head_dim)  # no buffer: never cast, never stored
        if config.fope:
            kept = self._inv_freq_D.numel()
            shape = (num_kv_heads, kept, kept) if config.sep_head else (kept, kept)
            for name in ("sin_coef", "cos_coef"):
                coef = torch.empty(shape, dtype=torch.float32)
                if config.learnable:
                    self.register_parameter(name, nn.Parameter(coef))
                else:
                    self.register_buffer(name, coef)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Identity plus Xavier noise, as the released code does on the 3-D tensor (fan_out counts the heads)."""
        if not self.config.fope:
            return
        for coef in (self.sin_coef, self.cos_coef):
            nn.init.xavier_normal_(coef, gain=self.config.init_factor, generator=generator)
            coef += torch.eye(coef.shape[-1])

    def forward(self, position_ids_T: Tensor) -> RopeTable:
        if self._inv_freq_D.device != position_ids_T.device:
            self._inv_freq_D = self._inv_freq_D.to(position_ids_T.device)
        with without_autocast(position_ids_T.device):
            angles_TD = position_ids_T.to(torch.float32)[:, None] * self._inv_freq_D
            cos, sin = angles_TD.cos(), angles_TD.sin()
            if not self.config.fope:
                return RopeTable(cos[:, None], sin[:, None])
            return RopeTable(self._mix(cos, self.cos_coef), self._mix(sin, self.sin_coef))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Of sines and of cosines; none without Fourier mixing."""
        return (self.sin_coef.detach(), self.cos_coef.detach()) if self.config.fope else ()

    def _mix(self, waves_TD: Tensor, coef: Tensor) -> Tensor:
        coef_JDD = coef.view(-1, *coef.shape[-2:])
        if self.exact:
            mixed_TJZ = torch.stack([exact_linear(waves_TD, coef_DD.t()) for coef_DD in coef_JDD.unbind()], dim=1)
        else:
            mixed_TJZ = torch.matmul(waves_TD, coef_JDD).transpose(0, 1)
        missing = self.num_pairs - mixed_TJZ.shape[-1]
        return nn.functional.pad(mixed_TJZ, (0, missing), value=self.config.pad_value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Moves like any module but keeps float32: `model.to(bfloat16)` must not round the coefficients."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)


def apply_rotary(x_THC: Tensor, table: RopeTable) -> Tensor:
    """Turns the pairs (c, c + C / 2) of every head, in float32, and casts back.

    Args:
        x_THC: queries `[T, H, C]` or keys `[T, J, C]`; H is a multiple of the heads in `table`.
    """
    tokens, heads, channels = x_THC.shape
    cos, sin = table.per_channel
    x = x_THC.view(tokens, cos.shape[1], -1, channels)
    wide = x if x.dtype == cos.dtype else x.to(cos.dtype)
    turned = torch.addcmul(wide * cos, wide.roll(channels // 2, dims=-1), sin).view(tokens, heads, channels)
    return turned if turned.dtype == x.dtype else turned.to(x.dtype)


def turn(x_TNC: Tensor, cos_TNC: Tensor, sin_TNC: Tensor, out: Tensor | None = None) -> Tensor:
    """`apply_rotary` for float32 and a table that has every head."""
    return torch.addcmul(x_TNC * cos_TNC, x_TNC.roll(x_TNC.shape[-1] // 2, dims=-1), sin_TNC, out=out)
