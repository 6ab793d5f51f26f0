"""The loss against float64 references of each method as its authors write it, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from s1pro.data.batch import IGNORED, PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.rl.advantages import token_weight
from s1pro.rl.objective import PRESETS, MismatchConfig, ObjectiveConfig, preset
from s1pro.rl.policy_loss import PolicyLoss, Rows, coefficients
from s1pro.train.losses import StepTotals

LENGTHS = (4, 6, 3)
"""Rows of three responses; a fourth segment is the tail."""
PROMPT = 1
"""The first row of every response predicts a prompt token and does not learn."""


def batch_of(config: ObjectiveConfig, seed: int = 0) -> PackedBatch:
    draw = torch.Generator().manual_seed(seed)
    total = sum(LENGTHS) + 2
    learns = torch.cat([*(torch.arange(n) >= PROMPT for n in LENGTHS), torch.zeros(2, dtype=torch.bool)])
    weights = torch.cat(
        [*(torch.full((n,), token_weight(n - PROMPT, len(LENGTHS), config)) for n in LENGTHS), torch.zeros(2)]
    )
    targets = torch.randint(0, 64, (total,), generator=draw)
    rewards = torch.tensor([0.7, -0.4, 1.3])
    return PackedBatch(
        input_ids_T=torch.randint(0, 64, (total,), generator=draw),
        targets_T=targets.where(learns, torch.tensor(IGNORED)),
        loss_weights_T=weights.where(learns, torch.zeros(())),
        position_ids_T=torch.cat([torch.arange(n) for n in (*LENGTHS, 2)]),
        cu_seqlens=(0, 4, 10, 13, 15),
        source_names=("task",),
        segment_sources=(0, 0, 0, -1),
        segment_groups=("science",) * 3 + ("",),
        advantages_T=torch.cat([rewards.repeat_interleave(torch.tensor(LENGTHS)), torch.zeros(2)]),
        rollout_logprobs_T=torch.zeros(total),
    )


def drawn(seed: int, size: int, spread: float) -> Tensor:
    return spread * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def responses(batch: PackedBatch) -> list[slice]:
    bounds = batch.cu_seqlens
    return [slice(bounds[i] + PROMPT, bounds[i + 1]) for i in range(len(LENGTHS))]


Reference = Callable[[Tensor, Tensor, Tensor, Tensor, list[slice]], Tensor]


def papers_loss(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    loss = logprobs.new_zeros(())
    for part in parts:
        rho = (old - rollout)[part].exp()
        mask = ((rho > 0.5) & (rho < 5)).double()
        if bool(((rho > 20) | (rho < 1 / 20)).any()):
            mask = torch.zeros_like(mask)
        r = (logprobs[part] - old[part]).exp().detach()
        loss = loss - (mask * rho * r * advantage[part] * logprobs[part]).mean() / len(parts)
    return loss


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def grpo(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    return -sum((clipped((logprobs - old)[p].exp(), advantage[p], 0.2, 0.2).mean() for p in parts), 0.0) / len(parts)


def dr_grpo(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    total = sum((clipped((logprobs - old)[p].exp(), advantage[p], 0.2, 0.2).sum() for p in parts), 0.0)
    return -total / 50 / len(parts)


def gspo(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    terms = [clipped((logprobs - old)[p].mean().exp(), advantage[p][0], 3e-4, 4e-4) for p in parts]
    return -sum(terms, 0.0) / len(parts)


def cispo(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    total = sum(len(logprobs[p]) for p in parts)
    ratio = (logprobs - old).exp().clamp(0.0, 1.28).detach()
    return -sum(((ratio * advantage * logprobs)[p].sum() for p in parts), 0.0) / total


def rloo(logprobs: Tensor, old: Tensor, rollout: Tensor, advantage: Tensor, parts: list[slice]) -> Tensor:
    total = sum(len(logprobs[p]) for p in parts)
    return -sum(((advantage * logprobs)[p].sum() for p in parts), 0.0) / total


REFERENCES: dict[str, Reference] = {
    "intern-s1-pro": papers_loss, "grpo": grpo, "dr-grpo": dr_grpo, "gspo": gspo, "cispo": cispo, "rloo": rloo,
}  # fmt: skip


def ours(logprobs: Tensor, old: Tensor, rollout: Tensor, batch: PackedBatch, config: ObjectiveConfig) -> Tensor:
    assert batch.advantages_T is not None
    found = coefficients(logprobs, old, rollout, batch.advantages_T.double(), Rows.of(batch), config)
    totals = PolicyLoss(config).totals([batch])
    return -(batch.loss_weights_T.double() / totals.weight * found.value_T * logprobs).sum()


@pytest.mark.parametrize("name", [*PRESETS, "dr-grpo"])
@pytest.mark.parametrize("seed", range(20))
def test_gradients_are_those_of_the_published_losses(name: str, seed: int) -> None:
    config = preset(name, max_length=50)
    batch = batch_of(config)
    size = batch.num_rows
    rollout = drawn(seed, size, 1.0) - 2
    old = rollout + drawn(seed + 100, size, 0.8)
    start = old + drawn(seed + 200, size, 0.3 if name != "gspo" else 1e-3)
    assert batch.advantages_T is not None
    advantage, parts = batch.advantages_T.double(), responses(batch)
    gradients = []
    for is_ours in (True, False):
        logprobs = start.clone().requires_grad_()
        if is_ours:
            ours(logprobs, old, rollout, batch, config).backward()
        else:
            REFERENCES[name](logprobs, old, rollout, advantage, parts).backward()
        assert logprobs.grad is not None
        gradients.append(logprobs.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-9)  # the weights are float32
    assert gradients[0].abs().sum() > 0
    assert gradients[0][~Rows.of(batch).learns_T].abs().sum() == 0


def test_the_papers_loss_by_hand() -> None:
    """One response of two tokens: rho = 2 and 8 (masked), r = 1.5 and 1, advantage 0.7."""
    log = torch.tensor([2.0, 8.0, 1.5]).double().log()
    batch = replace(
        batch_of(ObjectiveConfig()),
        input_ids_T=torch.zeros(2, dtype=torch.int64), targets_T=torch.zeros(2, dtype=torch.int64),
        loss_weights_T=torch.full((2,), 0.5), position_ids_T=torch.arange(2), cu_seqlens=(0, 2), segment_sources=(0,),
        segment_groups=("science",), advantages_T=torch.full((2,), 0.7), rollout_logprobs_T=torch.zeros(2),
    )  # fmt: skip
    old = log[:2] - 3
    rollout = torch.full((2,), -3.0).double()
    policy = (old + torch.tensor([float(log[2]), 0.0]).double()).requires_grad_()
    ours(policy, old, rollout, batch, ObjectiveConfig()).backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-0.5 * 2 * 1.5 * 0.7, 0.0])


@pytest.mark.parametrize(
    ("mismatch", "expected"),
    [
        (MismatchConfig(veto=None), [2.0, 0.0, 0.6, 1.0]),
        (MismatchConfig(form="truncate", low=0.0, high=5.0, veto=None), [2.0, 5.0, 0.6, 1.0]),
        (MismatchConfig(), [0.0, 0.0, 0.6, 1.0]),  # a ratio of 25 vetoes its response
        (MismatchConfig(level="sequence", low=0.5, high=60, veto=None), [50.0, 50.0, 0.6, 0.6]),
        (MismatchConfig(level="geometric", veto=None, high=10), [50**0.5, 50**0.5, 0.6**0.5, 0.6**0.5]),
        (MismatchConfig(form="off"), [1.0] * 4),
    ],
)
def test_what_is_done_about_the_gap(mismatch: MismatchConfig, expected: list[float]) -> None:
    rows = Rows(learns_T=torch.ones(4, dtype=torch.bool), segments_T=torch.tensor([0, 0, 1, 1]), num_segments=2)
    gap = torch.tensor([2.0, 25.0, 0.6, 1.0]).double().log()
    zeros = torch.zeros(4).double()
    found = coefficients(gap, gap, zeros, torch.ones(4).double(), rows, ObjectiveConfig(mismatch=mismatch))
    assert found.value_T.tolist() == pytest.approx(expected)


def test_extreme_ratios_stay_finite() -> None:
    rows = Rows(learns_T=torch.ones(2, dtype=torch.bool), segments_T=torch.zeros(2, dtype=torch.int64), num_segments=1)
    far = torch.tensor([1e4, -1e4])
    for level in ("token", "sequence", "geometric"):
        config = ObjectiveConfig(mismatch=MismatchConfig(form="truncate", level=level, veto=None))
        found = coefficients(far, -far, far, torch.ones(2), rows, config)
        assert torch.isfinite(found.value_T).all() and torch.isfinite(found.ratio_T).all()


def test_through_the_network() -> None:
    """Gradients of all parameters equal those of the formula written over all logits; micro-batches add up."""
    network = Network(tiny(vocab_size=64), seed=1).double()
    config = ObjectiveConfig(kl=0.3)
    batch = batch_of(config)
    context = PackedContext(cu_seqlens=batch.cu_seqlens)

    def by_formula() -> Tensor:
        logits = network(batch.input_ids_T, batch.position_ids_T, context).logits.double()
        return logits.log_softmax(-1).gather(1, batch.targets_T.clamp(min=0)[:, None])[:, 0]

    with torch.no_grad():
        start = by_formula().float()
    old, reference = start + drawn(5, len(start), 0.1).float(), start + drawn(6, len(start), 0.2).float()
    batch = replace(
        batch, rollout_logprobs_T=old + drawn(7, len(start), 0.3).float(), old_logprobs_T=old,
        reference_logprobs_T=reference,
    )  # fmt: skip
    loss = PolicyLoss(config, chunk=4)
    output = loss(network, batch, StepTotals(weight=1.0, rows=13))
    output.loss.backward()
    got = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    logprobs = by_formula()
    assert batch.advantages_T is not None and batch.rollout_logprobs_T is not None
    parts = responses(batch)
    expected = papers_loss(
        logprobs, old.double(), batch.rollout_logprobs_T.double(), batch.advantages_T.double(), parts
    )
    difference = reference.double() - logprobs
    kl = difference.exp() - difference - 1
    expected = expected + 0.3 * sum(kl[part].mean() / len(parts) for part in parts)
    expected.backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-7)
    assert float(output.values["reference_kl"]) == pytest.approx(
        float(sum(kl[p].mean() / 3 for p in parts).detach()), rel=1e-4
    )
    assert output.values["masked"] >= 0 and set(output.values) >= {"mismatch_k1", "mismatch_k3", "vetoed", "clipped"}


def test_missing_parts_are_errors() -> None:
    batch = batch_of(ObjectiveConfig())
    network = Network(tiny(vocab_size=64), seed=1)
    totals = StepTotals(weight=1.0, rows=13)
    with pytest.raises(ValueError, match="log-probs of its rollouts"):
        PolicyLoss(ObjectiveConfig())(network, replace(batch, rollout_logprobs_T=None), totals)
    with pytest.raises(ValueError, match="reference"):
        PolicyLoss(ObjectiveConfig(kl=0.1))(network, batch, totals)


def test_settings_without_effect_are_errors() -> None:
    with pytest.raises(ValueError, match="no effect"):
        ObjectiveConfig(clip_low=0.1)
    with pytest.raises(ValueError, match="no effect"):
        MismatchConfig(form="off", low=0.1)
    with pytest.raises(ValueError, match="goes with"):
        ObjectiveConfig(normalization="constant")
    with pytest.raises(ValueError, match="unknown objective 'ppo'; there are intern-s1-pro, grpo"):
        preset("ppo")
