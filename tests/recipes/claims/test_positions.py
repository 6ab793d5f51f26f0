"""Claim 4, FoPE against RoPE: its data and measure against other ways, and the fast setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s1pro.model.network import Network
from s1pro.recipes.claims.positions import (
    CLAIM,
    FOPE,
    LEVELS,
    ROPE,
    Windows,
    loss_by_position,
    network_config,
    signal_windows,
)
from s1pro.recipes.claims.runner import ClaimRun, run_claim
from s1pro.train.config import DataConfig
from s1pro.train.losses import validation_loss
from s1pro.train.setup import validation_batches


def test_signals_are_two_waves() -> None:
    ids_NS = signal_windows(20, 512, seed=3)
    assert ids_NS.min() >= 0 and ids_NS.max() < LEVELS and len(np.unique(ids_NS)) > LEVELS / 2
    assert (signal_windows(20, 512, seed=3) == ids_NS).all()
    assert (signal_windows(20, 512, seed=4) != ids_NS).any()
    power_NF = np.abs(np.fft.rfft(ids_NS - ids_NS.mean(axis=1, keepdims=True))) ** 2
    frequency_F = np.arange(power_NF.shape[1]) / 512
    inside = (frequency_F > 1 / 25) & (frequency_F < 1 / 5.5)  # periods of 6 to 24
    assert (power_NF[:, inside].sum(axis=1) / power_NF.sum(axis=1)).min() > 0.9


def test_losses_by_position_average_to_the_validation_loss() -> None:
    settings = replace(CLAIM.settings["fast"], length=8)
    network = Network(network_config("signals", FOPE, settings), seed=2)
    source = Windows("signals", signal_windows(5, 33, seed=0))
    batches = validation_batches([source], DataConfig(tokens_per_batch=80, max_length=32))
    losses = loss_by_position(network.eval(), batches, 32)
    assert len(losses) == 32
    assert np.mean(losses) == pytest.approx(validation_loss(network, batches)["loss"], rel=1e-5)
    one = validation_batches([Windows("signals", source._ids_NS[:1])], DataConfig(tokens_per_batch=32, max_length=32))
    first = validation_loss(network, one)["loss"]
    assert np.mean(loss_by_position(network, one, 32)) == pytest.approx(first, rel=1e-5)


def test_what_removing_a_mechanism_does() -> None:
    settings = CLAIM.settings["full"]

    def rope(arm: str, without: str | None = None) -> object:
        return network_config("text", arm, settings, without=without).text.rope

    assert rope(FOPE, "fope") == rope(ROPE)
    plain, mixed = network_config("text", ROPE, settings).text.rope, network_config("text", FOPE, settings).text.rope
    assert (plain.kept_frequencies(32), mixed.kept_frequencies(32)) == (16, 5)  # 10000 ** (-2 i / 32) > 2 pi / 64
    floorless = network_config("text", FOPE, settings, without="floor").text.rope
    assert floorless.kept_frequencies(32) == 16 and floorless.fope
    identity = network_config("text", FOPE, settings, without="mixing").text.rope
    assert (identity.init_factor, identity.learnable, identity.kept_frequencies(32)) == (0.0, False, 5)


@pytest.mark.slow
def test_fast_setting(claims_folder: Path) -> None:
    run = ClaimRun(claim=CLAIM, folder=claims_folder, setting="fast", seeds=(0, 1))
    found = run_claim(run)
    for arm in (FOPE, ROPE):
        for measured in found.results[arm].values():
            assert measured.values["text at 1×"] < 5.5 and measured.values["signals at 1×"] < np.log(LEVELS)
            assert measured.values["text, 4× − 1×"] == pytest.approx(
                measured.values["text at 4×"] - measured.values["text at 1×"]
            )
    assert found.results[FOPE][0].values["text at 4×"] != found.results[ROPE][0].values["text at 4×"]
    without = run_claim(replace(run, without="fope"))
    assert without.verdict.outcome == "does not replicate" and "identical" in without.verdict.text
    assert without.results[FOPE] == without.results[ROPE]
