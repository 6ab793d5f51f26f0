"""The experts of one layer: `y_t = sum_k weight_tk * down_e(silu(gate_e(x_t)) * up_e(x_t))` with e = ids_tk.

Tokens are not moved expert by expert in Python-level masks. The T * K (token, expert) pairs, *rows*, are sorted by
expert, so that each expert owns a run of consecutive rows, and

1. rows gather their token:                      x_RD
2. gate and up in one product per expert:        a_R2F = x_RD @ gate_up_e^T
3. activation, scaled by the routing weight:     h_RF = silu(a[:, :F]) * a[:, F:] * w_R
4. down:                                         y_RD = h_RF @ down_e^T
5. rows are added to their token:                y_TD

Scaling h instead of y is cheaper (F < D) and gives the weight its gradient for little: with g = dy @ down_e, the
gradient of h before scaling, `dw_R = sum_F g * h`, so y_RD is not kept. Kept for the backward pass is a_R2F alone.

There are three engines with the same steps. On a CPU a loop over the experts in use, in batches of rows that stay in
the cache: no `[R, D]` tensor exists, and every product writes into memory that is used again. For decoding steps on a
CPU a shorter loop, whose cost depends on K, not on E. On a GPU five grouped products with offsets that stay on the
device, and no wait for it. Fake tensors take the way of a GPU where they can, so that its memory can be planned;
otherwise, and on the meta device, only shapes are computed. With `fp8` a fourth one
takes their place, whose products see numbers rounded to 8 bits (`kernels.experts_fp8`), and with `exact` a fifth one,
whose rows do not depend on each other to the last bit (`kernels.experts_exact`); both together
are `kernels.experts_fp8_exact`.

`grouped_mlp` is the middle, steps 2 to 4 without weights, for rows that somebody else has sorted (expert parallelism).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from s1pro.kernels import experts_compiled, experts_exact, experts_few, experts_grouped, experts_loop
from s1pro.kernels.expert_rows import ExpertRows
from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.kernels.experts_fp8_exact import ExactFp8Experts


def experts_forward(
    x_TD: Tensor,
    topk_ids_TK: Tensor,
    topk_weights_TK: Tensor,
    gate_up_EFD: Tensor,
    down_EDF: Tensor,
    *,
    fp8: Fp8Experts | None = None,
    exact: bool = False,
) -> Tensor:
    """Combined output of the chosen experts, `[T, D]` in the dtype of x.

    Args:
        topk_ids_TK: int64 expert ids.
        topk_weights_TK: gradient flows into them; may be float32 while x is bfloat16.
        gate_up_EFD: `[E, 2F, D]`, gate rows above up rows.
        down_EDF: `[E, D, F]`.
        fp8: computes the products in FP8.
        exact: the same bits for a token whatever the other tokens are.

    Raises:
        ValueError: shapes or dtypes that do not fit together.
    """
    _check(x_TD, gate_up_EFD, down_EDF)
    fits = topk_ids_TK.dim() == 2 and topk_ids_TK.shape[0] == x_TD.shape[0]
    if not fits or topk_ids_TK.shape != topk_weights_TK.shape:
        raise ValueError(
            f"ids {tuple(topk_ids_TK.shape)} and weights {tuple(topk_weights_TK.shape)} must both be [T, K] "
            f"for T = {x_TD.shape[0]}"
        )
    if _shape_only(x_TD, down_EDF):
        return _ShapeOnly.apply(x_TD, topk_weights_TK, gate_up_EFD, down_EDF)
    tensors = (x_TD, topk_weights_TK, gate_up_EFD, down_EDF)
    plain = fp8 is None and not exact and not _needs_grad(tensors)
    if plain and experts_compiled.is_supported(x_TD, gate_up_EFD, down_EDF):
        return experts_compiled.forward(x_TD, topk_ids_TK, topk_weights_TK, gate_up_EFD, down_EDF)
    few = fp8 is None and not isinstance(x_TD, FakeTensor) and experts_few.is_supported(x_TD, topk_ids_TK)
    if few and not _needs_grad(tensors):
        forward = experts_exact.forward_few if exact else experts_few.forward
        return forward(x_TD, topk_ids_TK, topk_weights_TK, gate_up_EFD, down_EDF)
    rows = ExpertRows.from_ids(topk_ids_TK, num_experts=gate_up_EFD.shape[0])
    weights_R = topk_weights_TK.reshape(-1).index_select(0, rows.order_R)
    chosen: Any = fp8
    if exact:
        chosen = experts_exact if fp8 is None else ExactFp8Experts(fp8)
    return _run(x_TD, weights_R, gate_up_EFD, down_EDF, rows, chosen)


def grouped_mlp(
    x_RD: Tensor, counts_E: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor, *, fp8: Fp8Experts | None = None
) -> Tensor:
    """Every row through the expert it belongs to, `[R, D]`; the first `counts_E[0]` rows to expert 0, and so on.

    Raises:
        ValueError: shapes or dtypes that do not fit, or (CPU only) counts whose sum is not R.
    """
    _check(x_RD, gate_up_EFD, down_EDF)
    if counts_E.shape != gate_up_EFD.shape[:1]:
        raise ValueError(f"counts have shape {tuple(counts_E.shape)} for {gate_up_EFD.shape[0]} experts")
    if _shape_only(x_RD, down_EDF):
        return _ShapeOnly.apply(x_RD, None, gate_up_EFD, down_EDF)
    rows = ExpertRows.from_counts(counts_E, num_rows=x_RD.shape[0])
    return _run(x_RD, None, gate_up_EFD, down_EDF, rows, fp8)


def experts_reference(
    x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor
) -> Tensor:
    """The definition: one expert after the other, in plain operations."""
    y_TD = torch.zeros_like(x_TD)
    for e, (gate_up, down) in enumerate(zip(gate_up_EFD.unbind(), down_EDF.unbind(), strict=True)):
        tokens, slots = (topk_ids_TK == e).nonzero(as_tuple=True)
        gate, up = (x_TD[tokens] @ gate_up.T).chunk(2, dim=-1)
        y_ND = ((silu(gate) * up) @ down.T) * topk_weights_TK[tokens, slots, None]
        y_TD = y_TD.index_add(0, tokens, y_ND.to(y_TD.dtype))
    return y_TD


def _check(x: Tensor, gate_up_EFD: Tensor, down_EDF: Tensor) -> None:
    num_experts, double, hidden = gate_up_EFD.shape if gate_up_EFD.dim() == 3 else (0, 0, 0)
    if down_EDF.shape != (num_experts, hidden, double // 2) or double % 2 or x.dim() != 2 or x.shape[1] != hidden:
        raise ValueError(
            f"x {tuple(x.shape)}, gate_up {tuple(gate_up_EFD.shape)} and down {tuple(down_EDF.shape)} do not fit: "
            "expected [T, D], [E, 2F, D] and [E, D, F]"
        )
    if not x.dtype == gate_up_EFD.dtype == down_EDF.dtype:
        raise ValueError(
            f"x is {x.dtype}, gate_up {gate_up_EFD.dtype}, down {down_EDF.dtype}; cast them to one dtype (grouped "
            "products know no autocast)"
        )


def _shape_only(x: Tensor, down_EDF: Tensor) -> bool:
    return x.is_meta or (isinstance(x, FakeTensor) and not experts_grouped.is_supported(x, down_EDF))


def _run(
    x: Tensor,
    weights_R: Tensor | None,
    gate_up_EFD: Tensor,
    down_EDF: Tensor,
    rows: ExpertRows,
    chosen: Any,
) -> Tensor:
    inputs = (x, weights_R, gate_up_EFD, down_EDF)
    engine = _engine(x, down_EDF) if chosen is None or isinstance(x, FakeTensor) else chosen
    if _needs_grad(inputs):
        return _Experts.apply(*inputs, rows, engine)
    return engine.forward(*inputs, rows, keep=False)[0]


def _needs_grad(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _engine(x: Tensor, down_EDF: Tensor) -> Any:
    return experts_grouped if experts_grouped.is_supported(x, down_EDF) else experts_loop


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights_R: Tensor | None,
        gate_up_EFD: Tensor,
        down_EDF: Tensor,
        rows: ExpertRows,
        engine: Any,
    ) -> Tensor:
        ctx.engine = engine
        y, act_RG = engine.forward(x, weights_R, gate_up_EFD, down_EDF, rows, keep=True)
        ctx.save_for_backward(x, weights_R, gate_up_EFD, down_EDF, act_RG)
        ctx.rows = rows
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.engine.backward(grad_y.contiguous(), *ctx.saved_tensors, ctx.rows, ctx.needs_input_grad[:4])
        return *grads, None, None


class _ShapeOnly(torch.autograd.Function):
    """Result and gradients without values; keeps what the real function would keep."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor) -> Tensor:
        num_rows = x.shape[0] if weights is None else weights.numel()
        ctx.save_for_backward(x, weights, gate_up_EFD, down_EDF, x.new_empty(num_rows, gate_up_EFD.shape[1]))
        return torch.empty_like(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        inputs = zip(ctx.saved_tensors[:4], ctx.needs_input_grad, strict=True)
        return tuple(torch.empty_like(tensor) if needed else None for tensor, needed in inputs)
