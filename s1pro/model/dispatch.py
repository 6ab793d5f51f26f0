"""`ExpertDispatch`: the only seam inside a mixture of experts.

The network says *which* tokens go to *which* experts; a dispatch decides *where* that is computed. `LocalDispatch`
computes here. Expert parallelism (`parallel/`) provides another one that exchanges rows between ranks, and replaces
`MoE.dispatch` from outside: the network knows nothing of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from s1pro.kernels.experts import experts_forward

if TYPE_CHECKING:
    from s1pro.model.moe import Experts


class ExpertDispatch(Protocol):
    """Combines the outputs of the chosen experts: `[T, D]`, ids and weights `[T, K]` -> `[T, D]`.

    Attributes:
        can_be_exact: whether exact experts give a token the bits of a single process: every result of an expert travels
            by itself, and they are added in the router's order (`model.exact`).
    """

    can_be_exact: bool

    def __call__(self, x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, experts: Experts) -> Tensor: ...


class LocalDispatch:
    """All experts live on this device."""

    can_be_exact = True

    def __call__(self, x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, experts: Experts) -> Tensor:
        weights = (experts.gate_up_proj, experts.down_proj)
        return experts_forward(x_TD, topk_ids_TK, topk_weights_TK, *weights, fp8=experts.fp8, exact=experts.exact)
