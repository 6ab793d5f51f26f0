"""Muon on stacks of experts equals torch.optim.Muon on every matrix by itself."""

from __future__ import annotations

import pytest
import torch

from s1pro.train.muon import ExpertMuon, orthogonalise


@pytest.mark.parametrize(("rows", "columns", "matrices"), [(24, 16, 2), (16, 24, 2), (16, 24, 1), (32, 32, 1)])
def test_every_expert_matrix_gets_the_update_of_torch_muon(rows: int, columns: int, matrices: int) -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(5, matrices * rows, columns) * 0.02)
    singles = [torch.nn.Parameter(m.clone()) for m in stack.detach().reshape(-1, rows, columns)]
    ours = ExpertMuon([stack], lr=0.02, weight_decay=0.1, matrices=matrices)
    theirs = torch.optim.Muon(singles, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        stack.grad = torch.randn_like(stack)
        for single, grad in zip(singles, stack.grad.reshape(-1, rows, columns), strict=True):
            single.grad = grad.clone()
        before = stack.detach().clone()
        ours.step()
        theirs.step()
        expected = torch.stack([s.detach() for s in singles]).view_as(stack)
        update = (expected - before).norm()
        assert (stack.detach() - expected).norm() < 2e-3 * update
        momentum = torch.stack([theirs.state[s]["momentum_buffer"] for s in singles]).view_as(stack)
        assert torch.equal(ours.state[stack]["momentum_buffer"], momentum)
        with torch.no_grad():
            stack.copy_(expected)


def test_gate_and_up_are_separate_matrices() -> None:
    torch.manual_seed(0)
    grad = torch.randn(3, 2 * 8, 16)

    def update(part: torch.Tensor, matrices: int) -> torch.Tensor:
        stack = torch.nn.Parameter(torch.zeros_like(part))
        stack.grad = part.clone()
        ExpertMuon([stack], lr=1.0, weight_decay=0.0, matrices=matrices).step()
        return stack.detach()

    apart = torch.cat([update(grad[:, :8], 1), update(grad[:, 8:], 1)], dim=1)
    torch.testing.assert_close(update(grad, 2), apart, atol=1e-3, rtol=1e-2)
    assert (update(grad, 1) - apart).norm() > 0.1 * apart.norm()


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(4, 24, 40), 5).float())
    assert values.min() > 0.5 and values.max() < 1.4
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 6), 5), torch.zeros(2, 4, 6, dtype=torch.bfloat16))


def test_fused_queries_keys_and_values_are_three_matrices() -> None:
    torch.manual_seed(0)
    fused = torch.nn.Parameter(torch.randn(3 * 16, 16))
    singles = [torch.nn.Parameter(part.clone()[None]) for part in fused.detach().split(16)]
    fused.grad = torch.randn_like(fused)
    for single, grad in zip(singles, fused.grad.split(16), strict=True):
        single.grad = grad.clone()[None]
    ExpertMuon([fused], lr=0.1, matrices=3).step()
    ExpertMuon(singles, lr=0.1).step()
    torch.testing.assert_close(
        fused.detach(), torch.cat([single.detach()[0] for single in singles]), atol=1e-3, rtol=1e-3
    )


def test_only_stacks_are_accepted() -> None:
    with pytest.raises(ValueError, match=r"expected \[E, 2 \* out, in\], got \(3, 5, 4\)"):
        ExpertMuon([torch.nn.Parameter(torch.zeros(3, 5, 4))], matrices=2)
