"""The language-model head and its loss, without ever holding the logits of all tokens.

For T tokens and V words the logits are by far the largest tensor of a training step. They are needed only to reduce
each row to one number and, backwards, to one vector of size D, so both happen in slices of `chunk` rows:

    logits = h W^T,   logprob_t = logits[target] - logsumexp(logits)
    d loss / d logits = w_t (softmax(logits) - onehot(target))

`linear_cross_entropy` forms the gradients in the forward pass, while a slice is at hand, and keeps only dh `[T, D]` and
dW `[V, D]`: the product with W is made three times in all, as in the plain version, and not four. `token_logprobs` is
for losses that are not a weighted sum of log-probabilities (reinforcement learning): it keeps nothing and computes
every slice again backwards.

The head works in float32 (precision policy of the paper; the engine does the same), in float64 for float64 inputs.
Dividing the loss by a number of tokens is the business of the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from s1pro.kernels.exact import tiled_product

IGNORE_INDEX = -100
"""Target of rows that have no next token."""


def linear_cross_entropy(
    hidden_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    loss_weights_T: Tensor,
    *,
    chunk: int = 1024,
    exact: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of `-loss_weight * logprob(target)`, a float32 scalar, and the log-probs.

    Args:
        hidden_TD: after the final norm.
        weight_VD: the head.
        targets_T: int64 ids; rows with `IGNORE_INDEX` cost nothing.
        loss_weights_T: constants; no gradient flows into them.
        chunk: rows per slice; memory is about `2 * chunk * V` floats.
        exact: the same bits for a row whatever the others are (`kernels.exact`).

    Returns:
        The loss, and detached log-probs `[T]`, 0 where ignored.

    Raises:
        ValueError: shapes that do not fit together, or a chunk below 1.
    """
    _check(hidden_TD, weight_VD, targets_T, chunk)
    if loss_weights_T.shape != targets_T.shape:
        raise ValueError(f"loss weights {tuple(loss_weights_T.shape)} do not fit targets {tuple(targets_T.shape)}")
    keep = torch.is_grad_enabled() and (hidden_TD.requires_grad or weight_VD.requires_grad)
    return _LinearCrossEntropy.apply(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk, keep, exact)


def token_logprobs(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, *, chunk: int = 1024, exact: bool = False
) -> Tensor:
    """Log-probs `[T]` of the targets in float32, with gradient; 0 where the target is `IGNORE_INDEX`."""
    _check(hidden_TD, weight_VD, targets_T, chunk)
    return _TokenLogprobs.apply(hidden_TD, weight_VD, targets_T, chunk, exact)


def linear_cross_entropy_reference(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, loss_weights_T: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, with all logits at once."""
    dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
    logprobs_TV = (hidden_TD.to(dtype) @ weight_VD.to(dtype).T).log_softmax(dim=-1)
    counts_T = targets_T != IGNORE_INDEX
    logprobs_T = logprobs_TV.gather(1, targets_T.where(counts_T, 0)[:, None])[:, 0].where(counts_T, 0.0)
    return -(logprobs_T * loss_weights_T.to(dtype)).sum(), logprobs_T


def _check(hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, chunk: int) -> None:
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    matrices = hidden_TD.dim() == weight_VD.dim() == 2
    if not matrices or hidden_TD.shape[1] != weight_VD.shape[1] or hidden_TD.shape[:1] != targets_T.shape:
        raise ValueError(
            f"hidden {tuple(hidden_TD.shape)}, head {tuple(weight_VD.shape)} and targets {tuple(targets_T.shape)} "
            "do not fit together"
        )


class _Slices:
    """Rows with a target, cut into slices, with buffers that every slice uses again."""

    def __init__(
        self, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, chunk: int, exact: bool = False
    ) -> None:
        self.exact = exact
        self.dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
        self.hidden_TD, self.targets_T = hidden_TD, targets_T
        self.weight_VD = weight_VD.to(self.dtype)
        self.rows_N: Tensor | None = None  # all rows
        has_values = hidden_TD.device.type == "cpu" and not isinstance(hidden_TD, FakeTensor)
        if has_values and not bool((targets_T != IGNORE_INDEX).all()):
            self.rows_N = (targets_T != IGNORE_INDEX).nonzero()[:, 0]  # elsewhere this would wait for the device
        self.count = targets_T.shape[0] if self.rows_N is None else self.rows_N.shape[0]
        self.chunk = max(1, min(chunk, self.count))
        buffer = weight_VD.new_empty((2, self.chunk, weight_VD.shape[0]), dtype=self.dtype)
        self._logits, self._logprobs = buffer[0], buffer[1]

    def __iter__(self) -> Iterator[Tensor | slice]:
        for start in range(0, self.count, self.chunk):
            piece = slice(start, min(start + self.chunk, self.count))
            yield piece if self.rows_N is None else self.rows_N[piece]

    def logprobs(self, rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden `[n, D]`, log-probs `[n, V]` (a buffer), targets `[n, 1]` and whether they count `[n]`."""
        hidden, targets = self.hidden_TD[rows].to(self.dtype), self.targets_T[rows]
        counts = targets != IGNORE_INDEX
        n = hidden.shape[0]
        if self.exact:
            logits = tiled_product(hidden, self.weight_VD, self._logits[:n])
        else:
            logits = torch.mm(hidden, self.weight_VD.t(), out=self._logits[:n])
        logprobs = torch.log_softmax(logits, dim=-1, out=self._logprobs[:n])
        return hidden, logprobs, targets.where(counts, 0)[:, None], counts

    def add_gradient(
        self, rows: Tensor | slice, hidden: Tensor, logprobs: Tensor, targets: Tensor, scale: Tensor,
        grads: tuple[Tensor | None, Tensor | None],
    ) -> None:  # fmt: skip
        """Adds `scale * (softmax - onehot)` through the product, for the rows of one slice; overwrites `logprobs`."""
        probs = logprobs.exp_().scatter_add_(1, targets, torch.full_like(targets, -1, dtype=self.dtype))
        grad_hidden, grad_weight = grads
        if grad_hidden is not None:
            grad_hidden[rows] = torch.mm(probs, self.weight_VD).mul_(scale[:, None]).to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight.addmm_(probs.t(), hidden * scale[:, None])


def _gradients(slices: _Slices, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
    grad_hidden = torch.zeros_like(slices.hidden_TD) if wanted[0] else None
    grad_weight = torch.zeros_like(slices.weight_VD) if wanted[1] else None
    return grad_hidden, grad_weight


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        targets_T: Tensor,
        loss_weights_T: Tensor,
        chunk: int,
        keep: bool,
        exact: bool,
    ) -> tuple[Tensor, Tensor]:
        slices = _Slices(hidden_TD, weight_VD, targets_T, chunk, exact)
        wanted = (keep and ctx.needs_input_grad[0], keep and ctx.needs_input_grad[1])
        grads = _gradients(slices, wanted)
        logprobs_T = torch.zeros(targets_T.shape, dtype=slices.dtype, device=hidden_TD.device)
        for rows in slices:
            hidden, logprobs, targets, counts = slices.logprobs(rows)
            logprobs_T[rows] = logprobs.gather(1, targets)[:, 0].where(counts, 0.0)
            if keep:
                scale = loss_weights_T[rows].to(slices.dtype).where(counts, 0.0)
                slices.add_gradient(rows, hidden, logprobs, targets, scale, grads)
        ctx.save_for_backward(*grads)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(logprobs_T)
        return -(logprobs_T * loss_weights_T.to(slices.dtype)).sum(), logprobs_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = (grad_hidden.to(grad.dtype) * grad).to(grad_hidden.dtype)  # a bfloat16 factor is 0.4 % off
        if grad_weight is not None:
            grad_weight = (grad_weight * grad).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None, None, None, None


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, chunk: int, exact: bool) -> Tensor:
        slices = _Slices(hidden_TD, weight_VD, targets_T, chunk, exact)
        logprobs_T = torch.zeros(targets_T.shape, dtype=slices.dtype, device=hidden_TD.device)
        for rows in slices:
            _, logprobs, targets, counts = slices.logprobs(rows)
            logprobs_T[rows] = logprobs.gather(1, targets)[:, 0].where(counts, 0.0)
        ctx.save_for_backward(hidden_TD, weight_VD, targets_T)
        ctx.chunk, ctx.exact = chunk, exact
        return logprobs_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, targets_T = ctx.saved_tensors
        slices = _Slices(hidden_TD, weight_VD, targets_T, ctx.chunk, ctx.exact)
        grads = _gradients(slices, (ctx.needs_input_grad[0], ctx.needs_input_grad[1]))
        for rows in slices:
            hidden, logprobs, targets, counts = slices.logprobs(rows)
            scale = -grad_T[rows].where(counts, 0.0)
            slices.add_gradient(rows, hidden, logprobs, targets, scale, grads)
        grad_hidden, grad_weight = grads
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype), None, None, None
