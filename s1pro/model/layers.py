"""The small layers every part of the network uses.

They allocate without initialising: `Network` draws all weights in one place, in one order, from one generator.

`Linear` and `RMSNorm` are called directly, without the hooks of `nn.Module`: at batch 1 a decoding step calls 56 of
them, and asking each for hooks costs as much as the norms themselves. Blocks, attention and mixture keep their hooks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s1pro.kernels.exact import exact_linear
from s1pro.kernels.linear import linear
from s1pro.kernels.norm import rms_norm


class Linear(nn.Linear):
    """`nn.Linear` that does not draw weights when it is built.

    Attributes:
        exact: as in `model.exact`.
    """

    exact = False

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if self.exact:
            return exact_linear(x, self.weight, self.bias)
        return linear(x, self.weight, self.bias)

    __call__ = forward


class Embedding(nn.Embedding):
    """`nn.Embedding` that does not draw weights when it is built."""

    def reset_parameters(self) -> None:
        pass


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` that does not draw weights when it is built."""

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """`x / rms(x)` with float32 statistics, cast to the dtype of x, *then* times the weight (order as released)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)

    __call__ = forward
