"""The experts in FP8 and in exact mode: an engine of `kernels.experts` that rounds as `kernels.experts_fp8` does, with
products as in `kernels.experts_exact`.

Rounding sees one row: x and h have a scale per row and 128 channels, weights have scales of their own. So nothing but
the products has to be taken care of, the activation, and the sum over the experts of a token: results of experts are
rounded to the dtype of x, then added in the router's order, as they also are when they come from other ranks. The
backward pass is the usual one.
"""

from __future__ import annotations

from torch import Tensor

from s1pro.kernels import experts_exact
from s1pro.kernels.exact import exact_silu
from s1pro.kernels.expert_rows import ExpertRows
from s1pro.kernels.experts_fp8 import ALONG_CHANNELS, Fp8Experts


class ExactFp8Experts:
    """See the module docstring.

    Args:
        fp8: what rounds, and what computes the gradients.
    """

    def __init__(self, fp8: Fp8Experts) -> None:
        self._fp8 = fp8
        self.backward = fp8.backward

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
        gate_up, down = self._fp8.weights(gate_up_EFD, down_EDF, count=True)
        x_RD = self._fp8.rounded("x", x, ALONG_CHANNELS)
        if rows.tokens_R is not None:
            x_RD = x_RD.index_select(0, rows.tokens_R)
        act_RG = experts_exact.products(x_RD, gate_up, rows.runs).to(x.dtype)
        gate_RF, up_RF = act_RG.float().chunk(2, dim=-1)
        h_RF = exact_silu(gate_RF).mul_(up_RF)
        if weights_R is not None:
            h_RF.mul_(weights_R.float()[:, None])
        y_RD = experts_exact.products(self._fp8.rounded("h", h_RF, ALONG_CHANNELS), down, rows.runs).to(x.dtype)
        return experts_exact.combine(y_RD, rows), act_RG if keep else None
