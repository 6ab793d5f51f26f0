"""What rounding to FP8 does to the numbers of a training step, by operand.

    clipped      share of numbers too large for their scale: they lose more than rounding takes
    underflow    share of the numbers other than 0 that become 0
    error        root mean square of the error, over that of the numbers

Scales that follow the largest number of their own block never clip, so `clipped` above 0 means NaN, infinity or a scale
from elsewhere. `underflow` and `error` grow when a block holds numbers of very different size. Sums stay on the device
until `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s1pro.kernels.fp8 import FP8_MAX, dequantize_blocks, expand_scale

CLIPS_ABOVE = FP8_MAX + 16
"""Beyond 448 the next number of the format would be 480: up to 464 rounding to 448 is rounding."""


class RoundingStatistics:
    """Sums over everything that was added."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, operand: str, values: Tensor, quantized: Tensor, scale: Tensor, block: tuple[int, int]) -> None:
        """Counts `values` against what `quantize_blocks` made of them."""
        wide = values.detach().float()
        back = dequantize_blocks(quantized, scale, block=block)
        fits = wide.abs() <= CLIPS_ABOVE * expand_scale(scale, values.shape, block)
        sums = torch.stack(
            [
                torch.tensor(float(wide.numel()), dtype=torch.float64, device=wide.device),
                (~fits).sum().double(),
                (wide != 0).sum().double(),
                ((wide != 0) & (back == 0)).sum().double(),
                (wide - back).double().square().sum(),
                wide.double().square().sum(),
            ]
        )
        self._sums[operand] = self._sums[operand] + sums if operand in self._sums else sums

    def sums(self, operands: Sequence[str]) -> list[float]:
        """Six numbers per operand, in this order; 0 for an operand that was never added. Ranks can add them up."""
        return [number for name in operands for number in self._sums_of(name)]

    def report(self) -> dict[str, dict[str, float]]:
        """The three numbers of every operand, in the order in which operands came."""
        return shares(tuple(self._sums), self.sums(tuple(self._sums)))

    def _sums_of(self, operand: str) -> list[float]:
        found = self._sums.get(operand)
        return [0.0] * 6 if found is None else [float(number) for number in found.tolist()]


def shares(operands: Sequence[str], sums: Sequence[float]) -> dict[str, dict[str, float]]:
    """`clipped`, `underflow` and `error` of the operands that were seen, from `RoundingStatistics.sums`."""
    parts = [sums[at : at + 6] for at in range(0, len(sums), 6)]
    return {name: _shares(part) for name, part in zip(operands, parts, strict=True) if part[0]}


def _shares(sums: Sequence[float]) -> dict[str, float]:
    count, clipped, nonzero, vanished, error, total = sums
    return {
        "clipped": clipped / count,
        "underflow": vanished / max(nonzero, 1.0),
        "error": (error / total) ** 0.5 if total else 0.0,
    }
