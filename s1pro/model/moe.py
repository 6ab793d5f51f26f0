"""Feed-forward blocks: the mixture of experts, and the dense SwiGLU of layers without experts.

An expert is `down(silu(gate(x)) * up(x))` without bias. The experts of a layer live in two stacked parameters, gate
rows above up rows, so that a grouped GEMM runs over them in place; the checkpoint room splits them into the
per-expert tensors of the released layout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from s1pro.kernels.exact import exact_silu
from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.model.config import TextConfig
from s1pro.model.dispatch import ExpertDispatch, LocalDispatch
from s1pro.model.layers import Linear
from s1pro.model.router import Router, RouterOutput


class Experts(nn.Module):
    """`gate_up_proj` `[E, 2F, D]` and `down_proj` `[E, D, F]`, both as logical [out, in] per expert.

    Attributes:
        fp8: computes the products of these experts in FP8 (`model.precision`); None computes in the dtype of the
            weights. A dispatch hands it on to the kernel.
        exact: as in `model.exact`.
    """

    def __init__(self, num_experts: int, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(num_experts, 2 * width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(num_experts, hidden_size, width))
        self.fp8: Fp8Experts | None = None
        self.exact = False


class MoE(nn.Module):
    """Router, experts and the dispatch between them."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate = Router(config.router, config.hidden_size)
        self.experts = Experts(config.router.num_experts, config.hidden_size, config.moe_intermediate_size)
        self.dispatch: ExpertDispatch = LocalDispatch()

    def forward(self, x_TD: Tensor, replay_ids_TK: Tensor | None = None) -> tuple[Tensor, RouterOutput]:
        router = self.gate(x_TD, replay_ids_TK)
        return self.dispatch(x_TD, router.topk_ids_TK, router.topk_weights_TK, self.experts), router


class DenseMLP(nn.Module):
    """SwiGLU for layers that the configuration excludes from the mixture (`mlp_only_layers`, `decoder_sparse_step`)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.exact = False

    def forward(self, x_TD: Tensor) -> Tensor:
        if self.exact:
            return self.down_proj(exact_silu(self.gate_proj(x_TD)) * self.up_proj(x_TD))
        return self.down_proj(silu(self.gate_proj(x_TD)) * self.up_proj(x_TD))
