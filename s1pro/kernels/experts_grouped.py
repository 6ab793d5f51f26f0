"""The experts on a GPU: grouped products. The steps are those of `kernels.experts`.

Offsets stay on the device, nothing waits for it, and every size is known before the step. Rows are added to their token
in a fixed order (back to the order of tokens, then sum), not by atomic additions.

`grouped_mm` wants strides that are multiples of 16 bytes; other sizes, and float64, take the loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import grouped_mm, silu

from s1pro.kernels.expert_rows import ExpertRows
from s1pro.kernels.experts_loop import Gradients


def is_supported(x: Tensor, down_EDF: Tensor) -> bool:
    """Whether this engine can serve tensors like these. Of fake tensors, torch knows the shapes in bfloat16 alone."""
    aligned = all(size * x.element_size() % 16 == 0 for size in down_EDF.shape[1:])
    if isinstance(x, FakeTensor):
        return x.dtype == torch.bfloat16 and aligned
    return x.device.type == "cuda" and x.dtype != torch.float64 and aligned


def can_be_recorded(down_EDF: Tensor) -> bool:
    """Whether products with such experts never wait for the device, so that a CUDA graph can hold them.

    torch has a grouped kernel for bfloat16 on GPUs of compute capability 9 and 10 (H100, H200, B200). Elsewhere, and
    for other dtypes, it reads the offsets on the host and loops.
    """
    if not is_supported(down_EDF, down_EDF) or down_EDF.dtype != torch.bfloat16:
        return False
    return torch.cuda.get_device_capability(down_EDF.device)[0] in (9, 10)


def forward(
    x: Tensor, weights_R: Tensor | None, gate_up_EFD: Tensor, down_EDF: Tensor, rows: ExpertRows, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """As `experts_loop.forward`."""
    act_RG = grouped_mm(_take(x, rows), gate_up_EFD.transpose(1, 2), offs=rows.ends_E)
    gate_RF, up_RF = act_RG.chunk(2, dim=-1)
    h_RF = _scaled(silu(gate_RF) * up_RF, weights_R)
    y = _combine(grouped_mm(h_RF, down_EDF.transpose(1, 2), offs=rows.ends_E), rows)
    return y, act_RG if keep else None


def backward(
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
    gate_RF, up_RF = act_RG.chunk(2, dim=-1)
    dy_RD = _take(grad_y, rows)
    dh_RF = grouped_mm(dy_RD, down_EDF, offs=rows.ends_E)
    s_RF = silu(gate_RF)
    h_RF = s_RF * up_RF
    if wanted[1] and weights_R is not None:
        grad_weights_R = (dh_RF.float() * h_RF.float()).sum(dim=-1).to(weights_R.dtype)
    dh_RF = _scaled(dh_RF, weights_R)
    if wanted[3]:
        grad_down = grouped_mm(dy_RD.t(), _scaled(h_RF, weights_R), offs=rows.ends_E)
    dgate_RF = torch.ops.aten.silu_backward(dh_RF * up_RF, gate_RF)
    dact_RG = torch.cat((dgate_RF, dh_RF * s_RF), dim=-1)
    if wanted[2]:
        grad_gate_up = grouped_mm(dact_RG.t(), _take(x, rows), offs=rows.ends_E)
    if wanted[0]:
        grad_x = _combine(grouped_mm(dact_RG, gate_up_EFD, offs=rows.ends_E), rows)
    return grad_x, grad_weights_R, grad_gate_up, grad_down


def _take(x: Tensor, rows: ExpertRows) -> Tensor:
    return x if rows.tokens_R is None else x.index_select(0, rows.tokens_R)


def _scaled(h_RF: Tensor, weights_R: Tensor | None) -> Tensor:
    return h_RF if weights_R is None else (h_RF * weights_R[:, None]).to(h_RF.dtype)


def _combine(y_RD: Tensor, rows: ExpertRows) -> Tensor:
    """Sums the rows of each token; the sum of bfloat16 runs in float32 inside `sum`."""
    if rows.order_R is None:
        return y_RD
    by_token_RD = torch.empty_like(y_RD).index_copy_(0, rows.order_R, y_RD)
    return by_token_RD.unflatten(0, (-1, rows.top_k)).sum(dim=1)
