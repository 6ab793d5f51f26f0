"""Claim 1, grouped routing is even: its measure by hand, and the fast setting through the command, resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s1pro.cli import main
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.recipes.claims.balance import CLAIM, GROUPED, BalanceSettings, by_chance, imbalance, rows_per_expert
from s1pro.recipes.claims.runner import read_results, read_runs


def test_imbalance_is_its_definition() -> None:
    counts_E = torch.tensor([1, 2, 3, 4, 0, 0, 5, 1])
    assert imbalance(counts_E, 2) == pytest.approx(10 / 8)
    assert imbalance(counts_E, 4) == pytest.approx(7 / 4)
    assert imbalance(counts_E, 8) == pytest.approx(5 / 2)


def test_chance_vanishes_with_many_tokens() -> None:
    """One expert per rank and token, 8 ranks: rows are multinomial, their largest is known to lie about 1.4 deviations
    above the mean (the expected maximum of 8 normal values), correlated by -1/7."""
    few, many = BalanceSettings(tokens=64, num_experts=8, top_k=1), BalanceSettings(tokens=4096, num_experts=8, top_k=1)
    for settings in (few, many):
        deviation = (settings.tokens / 8 * 7 / 8) ** 0.5 * (8 / 7) ** 0.5
        assert by_chance(settings, 8) - 1 == pytest.approx(1.4236 * deviation / (settings.tokens / 8), rel=0.12)


@pytest.mark.parametrize("groups", [1, 2])
def test_rows_are_counted_as_the_network_routes_them(groups: int) -> None:
    config = tiny()
    text = replace(config.text, router=replace(config.text.router, num_groups=groups))
    network = Network(replace(config, text=text), seed=3)
    ids_T = torch.arange(50) % 37
    with rows_per_expert(network) as counts, torch.no_grad():
        output = network(ids_T, torch.arange(50), PackedContext(cu_seqlens=(0, 50)))
    for layer, router in enumerate(output.routers):
        expected = [sum(int(e) == expert for e in router.topk_ids_TK.flatten()) for expert in range(8)]
        assert counts[layer][0].tolist() == expected
        assert (imbalance(counts[layer][0], 2) == 1) or groups == 1
    with torch.no_grad():
        network(ids_T, torch.arange(50), PackedContext(cu_seqlens=(0, 50)))
    assert [len(layer) for layer in counts] == [1, 1]  # hooks are gone


@pytest.mark.slow
def test_fast_setting_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["claims", "run", "balance", "--setting", "fast", "--folder", str(tmp_path), "--workers", "2", "--json"]
    assert main([*arguments, "--seeds", "0,1,2"]) == 0
    (first,) = json.loads(capsys.readouterr().out)
    assert first["measured"] == 12
    named = {row["name"]: row for row in first["differences"]}
    for ranks in (2, 4, 8):
        assert named[f"1 − imbalance of the worst layer and step, grouped, P = {ranks}"]["met"] is True
    (run,) = read_runs(tmp_path)
    for arm, by_seed in read_results(run, CLAIM).items():
        for measured in by_seed.values():
            found, chance = measured.values["imbalance, P = 8"], measured.values["by chance, P = 8"]
            assert found == 1 if arm in GROUPED else found > chance
    assert main([*arguments, "--seeds", "0,1,2"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert again["measured"] == 0 and again["differences"] == first["differences"]
    assert (tmp_path / "balance.svg").stat().st_size > 1000
    assert main([*arguments, "--seeds", "0,1", "--without", "groups"]) == 0
    (without,) = json.loads(capsys.readouterr().out)
    assert without["outcome"] == "does not replicate"
    assert not [row for row in without["differences"] if row["name"].startswith("1 − imbalance") and row["met"]]
    assert without["measured"] == 4  # the plain arms are those of the first run
