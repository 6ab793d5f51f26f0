"""The experts in FP8: the recipe of all six products of a training step (paper: precision policy; DeepSeek-V3).

Every product sums over one dim, and along that dim its operands share a scale per 128 numbers:

| product            | left operand               | right operand                        | summed over |
|--------------------|----------------------------|--------------------------------------|-------------|
| gate and up        | x, 1 x 128                 | gate, up: 128 x 128, each by itself  | D           |
| down               | h, 1 x 128                 | down: 128 x 128                      | F           |
| gradient of h      | dy, 1 x 128                | down, the same bytes                 | D           |
| gradient of x      | da, 1 x 128                | gate and up, the same bytes          | F           |
| gradient of down   | dy, 128 rows x 1 channel   | h, 128 rows x 1 channel              | rows        |
| gradient of gate, up | da, 128 rows x 1 channel | x, 128 rows x 1 channel              | rows        |

with h = silu(gate) * up * routing weight and a = (gate, up). Square blocks of the weights serve both directions, so a
weight is quantised once. Blocks of rows begin at the first row of each expert, the last one may be partial, and no
block of channels reaches from gate into up: sizes need not be multiples of 128. Weights are quantised from the tensor
that is saved and published, by the quantiser that saves it, so the bytes on both sides are equal.

Gradients pass the rounding as if it were not there. x, a and dy are kept and passed on in the dtype of the network, as
in the other engines; the routing weight and its gradient, activation functions and sums over experts are float32.

This is the reference on any device: quantise, dequantise, multiply in float32. It needs no FP8 matrix unit and gains
no speed. A faster engine for the same numbers has to offer `forward` and `backward` of this class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

from s1pro.kernels.expert_rows import ExpertRows, Run
from s1pro.kernels.experts_loop import Gradients
from s1pro.kernels.fp8 import ScaleFormat, dequantize_blocks, quantize_blocks
from s1pro.kernels.fp8_statistics import RoundingStatistics

SQUARE, ALONG_CHANNELS, ALONG_ROWS = (128, 128), (1, 128), (128, 1)


def quantize_experts(
    gate_up_EFD: Tensor, down_EDF: Tensor, scale_format: ScaleFormat = "fp32", *, refuse: bool = True
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(values, scales) of gate and up, `[E, 2, F, D]`, and of down, `[E, D, F]`: what training computes with."""
    gate_up_E2FD = gate_up_EFD.unflatten(1, (2, -1))
    gate_up = quantize_blocks(gate_up_E2FD, scale_format=scale_format, block=SQUARE, refuse=refuse)
    return gate_up, quantize_blocks(down_EDF, scale_format=scale_format, block=SQUARE, refuse=refuse)


class Fp8Experts:
    """An engine for `kernels.experts`; see the module docstring.

    Args:
        scale_format: of weights, activations and gradients.

    Attributes:
        statistics: counts what rounding does to every operand while it is not None.
        gathered: values and scales of "gate_up" and "down" that came from other ranks already quantised; the weights
            that `forward` and `backward` are given are not read then. None quantises the weights.
    """

    def __init__(self, scale_format: ScaleFormat = "fp32") -> None:
        self.scale_format: ScaleFormat = scale_format
        self.statistics: RoundingStatistics | None = None
        self.gathered: dict[str, tuple[Tensor, Tensor]] | None = None

    def forward(
        self,
        x: Tensor,
        weights_R: Tensor | None,
        gate_up_EFD: Tensor,
        down_EDF: Tensor,
        rows: ExpertRows,
        *,
        keep: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """As `experts_loop.forward`."""
        gate_up, down = self.weights(gate_up_EFD, down_EDF, count=True)
        x_RD = _take(self.rounded("x", x, ALONG_CHANNELS), rows)
        act_RG = _products(x_RD, gate_up.transpose(1, 2), rows.runs).to(x.dtype)
        h_RF = _scaled(_activation(act_RG)[2], weights_R)
        y_RD = _products(self.rounded("h", h_RF, ALONG_CHANNELS), down.transpose(1, 2), rows.runs)
        return _combine(y_RD, x, rows), act_RG if keep else None

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        weights_R: Tensor | None,
        gate_up_EFD: Tensor,
        down_EDF: Tensor,
        act_RG: Tensor,
        rows: ExpertRows,
        wanted: tuple[bool, bool, bool, bool],
    ) -> Gradients:
        """As `experts_loop.backward`."""
        grad_x = grad_weights_R = grad_gate_up = grad_down = None
        gate_up, down = self.weights(gate_up_EFD, down_EDF, count=False)
        gate_RF, silu_RF, h_RF = _activation(act_RG)
        up_RF = act_RG.float().chunk(2, dim=-1)[1]
        dh_RF = _products(_take(self.rounded("dy", grad_y, ALONG_CHANNELS), rows), down, rows.runs)
        if wanted[1] and weights_R is not None:
            grad_weights_R = torch.linalg.vecdot(dh_RF, h_RF).to(weights_R.dtype)
        h_RF, dh_RF = _scaled(h_RF, weights_R), _scaled(dh_RF, weights_R)
        if wanted[3]:
            grad_down = self._weight_gradient(_take(grad_y, rows), h_RF, rows.runs, down_EDF)
        dgate_RF = torch.ops.aten.silu_backward(dh_RF * up_RF, gate_RF)
        dact_R2F = torch.stack((dgate_RF, dh_RF * silu_RF), dim=1)
        if wanted[2]:
            grad_gate_up = self._weight_gradient(dact_R2F.flatten(1), _take(x, rows), rows.runs, gate_up_EFD)
        if wanted[0]:
            dact_RG = self.rounded("da", dact_R2F, ALONG_CHANNELS).flatten(1)
            grad_x = _combine(_products(dact_RG, gate_up, rows.runs), x, rows)
        return grad_x, grad_weights_R, grad_gate_up, grad_down

    def weights(self, gate_up_EFD: Tensor, down_EDF: Tensor, *, count: bool) -> tuple[Tensor, Tensor]:
        """What the bytes stand for: float32 `[E, 2F, D]` and `[E, D, F]`."""
        if self.gathered is not None:
            pairs = (self.gathered["gate_up"], self.gathered["down"])
        else:
            pairs = quantize_experts(gate_up_EFD, down_EDF, self.scale_format, refuse=False)
        if count and self.statistics is not None and self.gathered is None:
            self.statistics.add("gate_up", gate_up_EFD.unflatten(1, (2, -1)), *pairs[0], SQUARE)
            self.statistics.add("down", down_EDF, *pairs[1], SQUARE)
        gate_up_E2FD, down = (dequantize_blocks(*pair, block=SQUARE) for pair in pairs)
        return gate_up_E2FD.flatten(1, 2), down

    def rounded(self, operand: str, values: Tensor, block: tuple[int, int]) -> Tensor:
        """The values after quantising and back; `operand` names them in the statistics."""
        quantized, scale = quantize_blocks(values, scale_format=self.scale_format, block=block, refuse=False)
        if self.statistics is not None:
            self.statistics.add(operand, values, quantized, scale, block)
        return dequantize_blocks(quantized, scale, block=block)

    def _weight_gradient(self, grad_RO: Tensor, a_RI: Tensor, runs: Sequence[Run], weight_EOI: Tensor) -> Tensor:
        """`grad^T a` over the rows of each expert, both rounded in blocks of 128 of its rows; 0 without rows."""
        out_EOI = torch.zeros_like(weight_EOI, memory_format=torch.contiguous_format)
        for expert, start, stop in runs:
            grad, a = (self.rounded("rows", t[start:stop], ALONG_ROWS) for t in (grad_RO, a_RI))
            out_EOI[expert] = grad.t() @ a
        return out_EOI


def _activation(act_RG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """gate, silu(gate) and silu(gate) * up in float32."""
    gate_RF, up_RF = act_RG.float().chunk(2, dim=-1)
    silu_RF = silu(gate_RF)
    return gate_RF, silu_RF, silu_RF * up_RF


def _scaled(h_RF: Tensor, weights_R: Tensor | None) -> Tensor:
    return h_RF if weights_R is None else h_RF * weights_R.float()[:, None]


def _take(x: Tensor, rows: ExpertRows) -> Tensor:
    return x if rows.tokens_R is None else x.index_select(0, rows.tokens_R)


def _products(a_RI: Tensor, weight_EIO: Tensor, runs: Sequence[Run]) -> Tensor:
    out_RO = a_RI.new_empty(a_RI.shape[0], weight_EIO.shape[2])
    for expert, start, stop in runs:
        torch.mm(a_RI[start:stop], weight_EIO[expert], out=out_RO[start:stop])
    return out_RO


def _combine(y_RD: Tensor, x: Tensor, rows: ExpertRows) -> Tensor:
    """Sums the rows of every token in float32; the result is like x."""
    if rows.tokens_R is None:
        return y_RD.to(x.dtype)
    return torch.zeros_like(x, dtype=torch.float32).index_add_(0, rows.tokens_R, y_RD).to(x.dtype)
