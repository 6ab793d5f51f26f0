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
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.base.region import chunk_bounds
from s1pro.kernels.collectives import all_gather

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
        defaults: dict[str, Any] = {
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
                if param.ndim not in (2, 3) or self._rows(param) % group["matrices"]:
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
        param.mul_(1 - group["lr"] * group["weight_decay"])
        rows, columns = self._rows(param) // group["matrices"], param.shape[-1]
        self._apply_update(param, update, rows, group["ns_steps"], -group["lr"] * rms_matched_scale(rows, columns))

    def _rows(self, param: Tensor) -> int:
        """Rows of all matrices that lie one below the other."""
        return param.shape[-2]

    def _apply_update(self, param: Tensor, update: Tensor, rows: int, steps: int, scale: float) -> None:
        weights = param.view(-1, rows, param.shape[-1])
        updates = update.reshape(weights.shape)
        for some, weight in zip(updates.split(MATRICES_AT_ONCE), weights.split(MATRICES_AT_ONCE), strict=True):
            weight.add_(orthogonalise(some, steps), alpha=scale)


class GatheredMuon(ExpertMuon):
    """Muon over parameters of which this rank holds some rows.

    Momentum and weights stay cut. The update of a matrix is gathered, made orthogonal on every rank of `group`
    (the same arithmetic on the same numbers), and each rank applies its own rows.

    Args:
        group: the ranks that hold the parts, cut as `torch.chunk` does.
        rows: for every parameter that is cut, the rows of the whole; others are whole on this rank.
    """

    def __init__(
        self, params: Iterable[Any], *, group: dist.ProcessGroup, rows: Mapping[Tensor, int], **options: Any
    ) -> None:
        self._group, self._whole_rows = group, rows
        super().__init__(params, **options)

    def _rows(self, param: Tensor) -> int:
        return self._whole_rows.get(param, param.shape[-2])

    def _apply_update(self, param: Tensor, update: Tensor, rows: int, steps: int, scale: float) -> None:
        if param not in self._whole_rows:
            super()._apply_update(param, update, rows, steps, scale)
            return
        whole, ranks = self._whole_rows[param], self._group.size()
        padded = update.new_zeros(-(-whole // ranks), update.shape[1])
        padded[: update.shape[0]] = update
        matrices = all_gather(padded, self._group)[:whole].view(-1, rows, update.shape[1])
        parts = [orthogonalise(some, steps) for some in matrices.split(MATRICES_AT_ONCE)]
        start, length = chunk_bounds(whole, ranks, self._group.rank())
        param.add_(torch.cat(parts).flatten(0, 1)[start : start + length], alpha=scale)


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
