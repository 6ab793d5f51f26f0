"""The chunked head and loss against all logits at once in float64: values, gradients, ignored targets, dtype rules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from s1pro.kernels.cross_entropy import (
    IGNORE_INDEX,
    linear_cross_entropy,
    linear_cross_entropy_reference,
    token_logprobs,
)

TOKENS, HIDDEN, WORDS = 11, 6, 17
CHUNKS = [1, 2, 4, 10, 11, 12, 1024]
IGNORED = {
    "none": [],
    "some": [0, 3, 4, 10],
    "all but one": [t for t in range(TOKENS) if t != 7],
    "all": list(range(TOKENS)),
}


def inputs(ignored: str = "some", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden_TD = torch.randn(TOKENS, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    weight_VD = torch.randn(WORDS, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    targets_T = torch.randint(0, WORDS, (TOKENS,), generator=generator)
    targets_T[IGNORED[ignored]] = IGNORE_INDEX
    loss_weights_T = torch.randn(TOKENS, generator=generator, dtype=torch.float64)  # negative ones too, and a zero
    loss_weights_T[5] = 0
    return hidden_TD, weight_VD, targets_T, loss_weights_T.to(torch.promote_types(dtype, torch.float32))


def by_hand(hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor) -> Tensor:
    """Token by token in Python floats."""
    out = []
    for hidden, target in zip(hidden_TD.tolist(), targets_T.tolist(), strict=True):
        logits = [math.fsum(a * b for a, b in zip(hidden, row, strict=True)) for row in weight_VD.tolist()]
        top = max(logits)
        total = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        out.append(0.0 if target == IGNORE_INDEX else logits[target] - total)
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_values(ignored, chunk):
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs(ignored)
    expected_T = by_hand(hidden_TD, weight_VD, targets_T)
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=chunk)
    torch.testing.assert_close(logprobs_T, expected_T, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(loss, -(expected_T * loss_weights_T).sum(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(token_logprobs(hidden_TD, weight_VD, targets_T, chunk=chunk), expected_T)
    assert torch.equal(logprobs_T == 0, targets_T == IGNORE_INDEX)


def test_the_reference_agrees_with_the_hand_made_one():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    expected_T = by_hand(hidden_TD, weight_VD, targets_T)
    loss, logprobs_T = linear_cross_entropy_reference(hidden_TD, weight_VD, targets_T, loss_weights_T)
    torch.testing.assert_close(logprobs_T, expected_T, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(loss, -(expected_T * loss_weights_T).sum(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("chunk", [1, 4, 1024])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_gradients_match_finite_differences(ignored, chunk, wanted):
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs(ignored)
    hidden_TD.requires_grad_(wanted[0])
    weight_VD.requires_grad_(wanted[1])
    assert torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets_T, loss_weights_T, chunk=chunk)[0], (hidden_TD, weight_VD)
    )
    assert torch.autograd.gradcheck(lambda h, w: token_logprobs(h, w, targets_T, chunk=chunk), (hidden_TD, weight_VD))


def test_ignored_rows_have_no_gradient():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    hidden_TD.requires_grad_()
    loss, _ = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=4)
    token_logprobs_T = token_logprobs(hidden_TD, weight_VD, targets_T, chunk=4)
    for result in (loss, token_logprobs_T.sum()):
        (grad_TD,) = torch.autograd.grad(result, hidden_TD)
        assert not grad_TD[targets_T == IGNORE_INDEX].any()
        assert bool(grad_TD[7].any())


def test_infinite_hidden_states_of_ignored_rows_do_no_harm():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    hidden_TD[0] = math.nan
    hidden_TD.requires_grad_()
    weight_VD.requires_grad_()
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=4)
    loss.backward()
    for tensor in (loss, logprobs_T, hidden_TD.grad, weight_VD.grad):
        assert bool(tensor.isfinite().all())


@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_gradient_the_bits_are_the_same(ignored, dtype):
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs(ignored, dtype)
    plain = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=4)
    with_grad = linear_cross_entropy(
        hidden_TD.clone().requires_grad_(), weight_VD.clone().requires_grad_(), targets_T, loss_weights_T, chunk=4
    )
    with torch.no_grad():
        no_grad = linear_cross_entropy(
            hidden_TD.clone().requires_grad_(), weight_VD, targets_T, loss_weights_T, chunk=4
        )
    assert with_grad[0].requires_grad and not plain[0].requires_grad and not no_grad[0].requires_grad
    assert torch.equal(plain[0], with_grad[0]) and torch.equal(plain[0], no_grad[0])
    assert torch.equal(plain[1], with_grad[1]) and torch.equal(plain[1], no_grad[1])
    assert torch.equal(plain[1], token_logprobs(hidden_TD, weight_VD, targets_T, chunk=4))


def test_the_logprobs_of_the_loss_are_detached():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    loss, logprobs_T = linear_cross_entropy(hidden_TD.requires_grad_(), weight_VD, targets_T, loss_weights_T)
    assert loss.requires_grad and not logprobs_T.requires_grad


def test_loss_weights_are_constants():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    hidden_TD.requires_grad_()
    loss_weights_T.requires_grad_()
    linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T)[0].backward()
    assert loss_weights_T.grad is None and hidden_TD.grad is not None


def test_gradient_of_an_arbitrary_function_of_the_logprobs():
    """A clipped policy ratio, which no weighted sum can express."""
    hidden_TD, weight_VD, targets_T, advantages_T = inputs()
    hidden_TD.requires_grad_()
    weight_VD.requires_grad_()

    def objective(logprobs_T: Tensor) -> Tensor:
        ratio_T = (logprobs_T - logprobs_T.detach() + 0.3 * advantages_T).exp()
        return torch.minimum(ratio_T * advantages_T, ratio_T.clamp(0.8, 1.2) * advantages_T).mean()

    ours = torch.autograd.grad(
        objective(token_logprobs(hidden_TD, weight_VD, targets_T, chunk=3)), [hidden_TD, weight_VD]
    )
    _, logprobs_T = linear_cross_entropy_reference(hidden_TD, weight_VD, targets_T, advantages_T)
    for grad, expected in zip(ours, torch.autograd.grad(objective(logprobs_T), [hidden_TD, weight_VD]), strict=True):
        torch.testing.assert_close(grad, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 1024])
def test_no_tokens(chunk):
    hidden_TD, weight_VD = torch.randn(0, HIDDEN, requires_grad=True), torch.randn(WORDS, HIDDEN, requires_grad=True)
    targets_T = torch.zeros(0, dtype=torch.int64)
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, torch.zeros(0), chunk=chunk)
    assert float(loss.detach()) == 0 and logprobs_T.shape == (0,)
    (loss + token_logprobs(hidden_TD, weight_VD, targets_T, chunk=chunk).sum()).backward()
    assert hidden_TD.grad.shape == (0, HIDDEN) and torch.equal(weight_VD.grad, torch.zeros(WORDS, HIDDEN))


def test_all_targets_ignored_costs_nothing_and_teaches_nothing():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs("all")
    hidden_TD.requires_grad_()
    weight_VD.requires_grad_()
    loss, _ = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T)
    assert float(loss.detach()) == 0
    loss.backward()
    assert not hidden_TD.grad.any() and not weight_VD.grad.any()


def test_large_logits_do_not_overflow():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs("none", torch.float32)
    expected_T = by_hand(300 * hidden_TD.double(), weight_VD.double(), targets_T)
    _, logprobs_T = linear_cross_entropy(300 * hidden_TD, weight_VD, targets_T, loss_weights_T)
    torch.testing.assert_close(logprobs_T.double(), expected_T, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_below_float64_the_head_works_in_float32(dtype):
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs(dtype=dtype)
    exact = inputs(dtype=dtype)[0].double().requires_grad_(), inputs(dtype=dtype)[1].double().requires_grad_()
    hidden_TD.requires_grad_()
    weight_VD.requires_grad_()
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=4)
    expected, expected_T = linear_cross_entropy_reference(*exact, targets_T, loss_weights_T)
    assert loss.dtype == logprobs_T.dtype == torch.float32
    assert token_logprobs(hidden_TD, weight_VD, targets_T).dtype == torch.float32
    torch.testing.assert_close(logprobs_T.double(), expected_T.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    loss.backward()
    expected.backward()
    rtol = 2**-8 if dtype == torch.bfloat16 else 1e-5
    for tensor, reference in zip((hidden_TD, weight_VD), exact, strict=True):
        assert tensor.grad.dtype == dtype
        torch.testing.assert_close(tensor.grad.double(), reference.grad, atol=1e-5, rtol=rtol)


def test_mixed_dtypes():
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs(dtype=torch.float32)
    hidden_TD = hidden_TD.bfloat16().requires_grad_()
    weight_VD.requires_grad_()
    expected_T = by_hand(hidden_TD.detach().double(), weight_VD.detach().double(), targets_T)
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T)
    torch.testing.assert_close(logprobs_T.double(), expected_T, atol=1e-5, rtol=1e-5)
    loss.backward()
    assert hidden_TD.grad.dtype == torch.bfloat16 and weight_VD.grad.dtype == torch.float32


@pytest.mark.parametrize("factor", [1 / 3, 1.0117, 1e-4])
def test_a_bfloat16_gradient_is_scaled_by_the_unrounded_factor(factor):
    """Rounded to bfloat16, one over the number of tokens would change the length of every gradient, by up to 0.4 %."""
    generator = torch.Generator().manual_seed(0)
    hidden_TD = torch.randn(64, 32, generator=generator).bfloat16().requires_grad_()
    weight_VD = torch.randn(50, 32, generator=generator).bfloat16()
    targets_T = torch.randint(0, 50, (64,), generator=generator)
    (linear_cross_entropy(hidden_TD, weight_VD, targets_T, torch.ones(64))[0] * factor).backward()
    exact_TD = hidden_TD.detach().double().requires_grad_()
    (linear_cross_entropy_reference(exact_TD, weight_VD.double(), targets_T, torch.ones(64))[0] * factor).backward()
    length = float((hidden_TD.grad.double() * exact_TD.grad).sum() / exact_TD.grad.square().sum())
    assert abs(length - 1) < 1e-3


def test_slices_need_little_memory():
    """No tensor of the size of all logits: the largest one that is ever made has two slices."""
    seen = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal seen
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                seen = max(seen, out.numel())
            return out

    tokens, words, chunk = 64, 200, 4
    hidden_TD, weight_VD = torch.randn(tokens, 3, requires_grad=True), torch.randn(words, 3, requires_grad=True)
    targets_T = torch.arange(tokens)
    with Sizes():
        linear_cross_entropy(hidden_TD, weight_VD, targets_T, torch.ones(tokens), chunk=chunk)[0].backward()
        token_logprobs(hidden_TD, weight_VD, targets_T, chunk=chunk).sum().backward()
    assert 0 < seen <= 2 * chunk * words


def test_inputs_are_left_alone():
    tensors = inputs()
    before = [tensor.clone() for tensor in tensors]
    hidden_TD, weight_VD, targets_T, loss_weights_T = tensors
    hidden_TD.requires_grad_()
    weight_VD.requires_grad_()
    linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T)[0].backward()
    token_logprobs(hidden_TD, weight_VD, targets_T).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_meta_tensors_give_shapes():
    hidden_TD = torch.empty(5, 4, device="meta", dtype=torch.bfloat16, requires_grad=True)
    weight_VD = torch.empty(9, 4, device="meta", dtype=torch.bfloat16, requires_grad=True)
    targets_T = torch.empty(5, device="meta", dtype=torch.int64)
    loss, logprobs_T = linear_cross_entropy(hidden_TD, weight_VD, targets_T, torch.empty(5, device="meta"), chunk=2)
    assert loss.shape == () and logprobs_T.shape == (5,) and loss.dtype == torch.float32
    (loss + token_logprobs(hidden_TD, weight_VD, targets_T, chunk=2).sum()).backward()
    assert hidden_TD.grad.shape == (5, 4) and hidden_TD.grad.dtype == torch.bfloat16
    assert weight_VD.grad.shape == (9, 4) and weight_VD.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "hidden, head, targets",
    [
        ((5, 4), (9, 3), (5,)),
        ((5, 4), (9, 4), (4,)),
        ((5, 4), (9, 4), (5, 1)),
        ((5, 2, 4), (9, 4), (5,)),
        ((5, 4), (4,), (5,)),
    ],
)
def test_shapes_that_do_not_fit_are_errors(hidden, head, targets):
    targets_T = torch.zeros(targets, dtype=torch.int64)
    with pytest.raises(ValueError, match="do not fit together"):
        linear_cross_entropy(torch.zeros(hidden), torch.zeros(head), targets_T, torch.zeros(targets))
    with pytest.raises(ValueError, match="do not fit together"):
        token_logprobs(torch.zeros(hidden), torch.zeros(head), targets_T)


@pytest.mark.parametrize("shape", [(4,), (), (5, 1)])
def test_loss_weights_of_another_shape_are_an_error(shape):
    hidden_TD, weight_VD, targets_T = torch.zeros(5, 4), torch.zeros(9, 4), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match="loss weights"):
        linear_cross_entropy(hidden_TD, weight_VD, targets_T, torch.ones(shape))


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_without_rows_is_an_error(chunk):
    hidden_TD, weight_VD, targets_T, loss_weights_T = inputs()
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        linear_cross_entropy(hidden_TD, weight_VD, targets_T, loss_weights_T, chunk=chunk)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        token_logprobs(hidden_TD, weight_VD, targets_T, chunk=chunk)
