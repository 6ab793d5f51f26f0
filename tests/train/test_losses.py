"""Exact token normalisation over packing and accumulation; router terms; per-source losses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.model.router import balance_loss
from s1pro.train.losses import LanguageModelLoss, LossConfig, StepTotals, source_weights, validation_loss

NAMES = ("a", "b")


def segments() -> list[Segment]:
    rng = np.random.default_rng(0)
    made = []
    for i, n in enumerate((3, 17, 9, 2, 12, 5, 16, 8)):
        weights = rng.choice([0.0, 0.25, 1.0], size=n).astype(np.float32)
        ids = rng.integers(0, 32, n).astype(np.int32)
        made.append(
            Segment(sequence=TokenSequence(token_ids=ids, loss_weights=weights, prompt_group="science"), source=i % 2)
        )
    return made


def packings() -> dict[str, list[PackedBatch]]:
    """The same sequences in one batch, in several, one by one with long tails."""
    every = segments()
    halves = [every[:3], every[3:]]
    return {
        "one": [collate(every, num_rows=64, source_names=NAMES)],
        "two": [collate(part, num_rows=48, source_names=NAMES) for part in halves],
        "reordered": [
            collate(part[::-1], num_rows=40, source_names=NAMES, max_tail_segment=4) for part in halves[::-1]
        ],
        "single": [collate([segment], num_rows=20, source_names=NAMES) for segment in every],
    }


def reference(network: Network) -> tuple[float, dict[str, float], list[Tensor]]:
    """Sequence by sequence, loss in float64: total, per source, gradients."""
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    nll, weights = [0.0, 0.0], [0.0, 0.0]
    for segment in segments():
        ids = torch.from_numpy(segment.sequence.token_ids).long()
        w = torch.from_numpy(segment.sequence.loss_weights)[1:].double()
        n = len(ids) - 1
        logits = network(ids[:-1], torch.arange(n), PackedContext.from_lengths([n])).logits
        loss = -(logits.double().log_softmax(-1)[torch.arange(n), ids[1:]] * w).sum()
        total, weight = total + loss, weight + float(w.sum())
        nll[segment.source] += loss.item()
        weights[segment.source] += float(w.sum())
    mean = total / weight
    gradients = torch.autograd.grad(mean, list(network.parameters()))
    return mean.item(), {n: a / b for n, a, b in zip(NAMES, nll, weights, strict=True)}, list(gradients)


@pytest.mark.parametrize("packing", list(packings()))
def test_loss_and_gradient_do_not_depend_on_packing_or_accumulation(packing: str) -> None:
    network = Network(tiny(vocab_size=32), seed=3)
    expected, by_source, gradients = reference(network)
    batches = packings()[packing]
    totals = StepTotals.of(batches)
    loss_of = LanguageModelLoss(LossConfig(balance=0.0))
    outputs = [loss_of(network, batch, totals) for batch in batches]
    for output in outputs:
        output.loss.backward()
    assert sum(o.values["loss"].item() for o in outputs) == pytest.approx(expected, rel=2e-6)
    nll = torch.stack([o.source_nll for o in outputs if o.source_nll is not None]).sum(dim=0)
    assert (nll / source_weights(batches)).tolist() == pytest.approx([by_source[n] for n in NAMES], rel=2e-6)
    for param, gradient in zip(network.parameters(), gradients, strict=True):
        assert param.grad is not None
        torch.testing.assert_close(param.grad, gradient, atol=2e-7, rtol=2e-5)


def test_validation_loss_is_the_same_mean() -> None:
    network = Network(tiny(vocab_size=32), seed=3)
    expected, by_source, _ = reference(network)
    for batches in packings().values():
        report = validation_loss(network, batches)
        assert report["loss"] == pytest.approx(expected, rel=2e-6)
        assert report["source_loss"] == pytest.approx(by_source, rel=2e-6)
    with pytest.raises(ValueError, match="at least one token"):
        validation_loss(network, [])


def test_router_terms_are_row_weighted_means_and_ignore_the_tail() -> None:
    network = Network(tiny(vocab_size=32), seed=3)
    batches = packings()["two"]
    totals = StepTotals.of(batches)
    outputs = [LanguageModelLoss(LossConfig(balance=0.5, z=0.25))(network, batch, totals) for batch in batches]
    expected = 0.0
    for batch in batches:
        real = batch.num_real_rows
        bounds = batch.cu_seqlens[: batch.num_real_segments + 1]
        lengths = [b - a for a, b in itertools.pairwise(bounds)]
        context = PackedContext.from_lengths(lengths)
        alone = network(batch.input_ids_T[:real], batch.position_ids_T[:real], context, compute_logits=False)
        expected += balance_loss(alone.routers).item() * real / totals.rows
    assert sum(o.values["balance_loss"].item() for o in outputs) == pytest.approx(expected, rel=1e-5)
    for output in outputs:
        terms = {name: value.item() for name, value in output.values.items()}
        assert output.loss.item() == pytest.approx(
            terms["loss"] + 0.5 * terms["balance_loss"] + 0.25 * terms["z_loss"], rel=1e-6
        )


def test_released_balance_form_is_top_k_at_uniform_routing_and_no_term_costs_nothing() -> None:
    network = Network(tiny(vocab_size=32), seed=3)
    batch = packings()["one"][0]
    totals = StepTotals.of([batch])
    released = LanguageModelLoss(LossConfig(balance=1.0, balance_form="released"))(network, batch, totals)
    assert 1.9 < released.values["balance_loss"].item() < 4
    assert set(LanguageModelLoss(LossConfig(balance=0.0))(network, batch, totals).values) == {"loss"}


def test_a_batch_that_is_all_tail_contributes_nothing() -> None:
    network = Network(tiny(vocab_size=32), seed=3)
    batch = collate([], num_rows=8, source_names=NAMES)
    output = LanguageModelLoss(LossConfig())(network, batch, StepTotals(weight=5.0, rows=10))
    assert output.loss.item() == 0.0


def test_bad_coefficients_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        LossConfig(balance=-1.0)
