"""Claim 2, straight-through gradients: its measures by hand, and the fast setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s1pro.data.batch import PackedBatch
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.recipes.claims.runner import ClaimRun, run_claim
from s1pro.recipes.claims.straight_through import (
    BASELINE,
    CLAIM,
    METHOD,
    RowUpdates,
    network_config,
    share_in_use,
)


def test_row_updates_are_relative_changes() -> None:
    network = Network(tiny(), seed=1)
    layers = network.model.language_model.layers
    updates = RowUpdates(network)
    with torch.no_grad():
        for layer, factor in zip(layers, (1.5, 2.0), strict=True):
            layer.mlp.gate.weight[0] *= factor  # moves row 0 by half its length, and by its length
    updates.take()
    updates.take()
    assert updates.mean == pytest.approx([(0.5 + 1.0) / 2 / 8, 0.0])
    assert updates.smallest[0] == 0.0


def test_experts_in_use_are_counted_over_all_batches() -> None:
    network = Network(tiny(), seed=1)
    batch = PackedBatch(
        input_ids_T=torch.arange(40),
        targets_T=torch.arange(40),
        loss_weights_T=torch.ones(40),
        position_ids_T=torch.arange(40),
        cu_seqlens=(0, 40),
        source_names=("a",),
        segment_sources=(0,),
        segment_groups=("science",),
    )
    with torch.no_grad():
        for layer in network.model.language_model.layers:
            layer.mlp.gate.weight.zero_()
            layer.mlp.gate.weight[3:5] += 1.0  # both groups: always expert 3 or 0, and 4 or 5
    used = share_in_use(network, [batch, batch])
    assert 2 / 8 <= used <= 4 / 8


def test_arms_differ_in_the_gradient_only() -> None:
    settings = CLAIM.settings["full"]
    method, baseline = (network_config(settings, straight_through=flag) for flag in (True, False))
    assert method != baseline
    router = replace(baseline.text.router, straight_through=True)
    assert replace(baseline, text=replace(baseline.text, router=router)) == method


@pytest.mark.slow
def test_fast_setting(claims_folder: Path) -> None:
    run = ClaimRun(claim=CLAIM, folder=claims_folder, setting="fast", seeds=(0, 1))
    found = run_claim(run)
    for by_seed in found.results.values():
        for measured in by_seed.values():
            assert measured.values["held-out loss"] < 5.0 < 7.0  # a network that knows nothing is at ln 1152 = 7.05
            assert 0 < measured.values["experts in use"] <= 1
    first = {arm: found.results[arm][0].values["held-out loss"] for arm in (METHOD, BASELINE)}
    assert first[METHOD] != first[BASELINE]
    assert "identical" not in found.verdict.text
    # the mechanism removed: one arm twice, to the last bit where both have the same settings
    without = run_claim(replace(run, without="straight-through"))
    assert without.verdict.outcome == "does not replicate"
    assert "identical" in without.verdict.text
    assert without.results[METHOD] == without.results[BASELINE]
