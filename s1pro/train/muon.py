"""Muon for stacks of matrices: experts, and queries, keys and values that lie in one.

Muon replaces the momentum of a weight matrix by the nearest (semi-)orthogonal matrix, found by five Newton-Schulz
iterations, so that every direction of the update has the same size. It is defined for one matrix. Experts are
stored stacked, `gate_up_proj` `[E, 2F, D]` even as two matrices per expert, and `torch.optim.Muon` refuses anything
but two dimensions. Orthogonalising the stack as one matrix would couple the experts; here each of the E (or 2E)
matrices is treated by itself, in batched products. So are the three of a fused `qkv` `[3D, D]`. The arithmetic is that
of `torch.optim.Muon` (bfloat16 iterations, Nesterov momentum, decoupled weight decay), and a test compares the two
matrix by matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic iteration tuned for slope at zero; singular values end in about 0.7 .. 1.2, which is good enough."""

MATRICES_AT_ONCE = 64
"""Bounds the memory of the batched iterations."""


class ExpertMuon(torch.optim.Optimizer):
    """Muon over parameters `[E, n * out, in]` or `[n * out, in]`, n being the group option `matrices`."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        matrices: int = 1,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "matrices": matrices,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                if param.ndim not in (2, 3) or param.shape[-2] % group["matrices"]:
                    raise ValueError(f"expected [E, {group['matrices']} * out, in], got {tuple(param.shape)}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update. `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, param.grad, group)

    def _update(self, param: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        buffer, momentum = state["momentum_buffer"], group["momentum"]
        buffer.lerp_(grad, 1 - momentum)
        update = grad.lerp(buffer, momentum) if group["nesterov"] else buffer
        rows, columns = param.shape[-2] // group["matrices"], param.shape[-1]
        weights = param.view(-1, rows, columns)
        updates = update.reshape(weights.shape)
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        scale = group["lr"] * rms_matched_scale(rows, columns)
        for some, weight in zip(updates.split(MATRICES_AT_ONCE), weights.split(MATRICES_AT_ONCE), strict=True):
            weight.add_(orthogonalise(some, group["ns_steps"]), alpha=-scale)


def rms_matched_scale(rows: int, columns: int) -> float:
    """Makes the root mean square of an update about that of AdamW, so that both share one learning rate."""
    return 0.2 * math.sqrt(max(rows, columns))


def orthogonalise(matrices: Tensor, steps: int, eps: float = 1e-7) -> Tensor:
    """Newton-Schulz iterations in bfloat16 on each matrix; result in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, poly, x, beta=a)
    return x.mT if tall else x
