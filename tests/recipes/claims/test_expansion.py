"""Claim 3, expansion: which arm is which, and the fast setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.recipes.claims.claim import Unit
from s1pro.recipes.claims.expansion import CLAIM, base_folder, unit_expansion
from s1pro.recipes.claims.runner import ClaimRun, run_claim
from s1pro.recipes.expansion_comparison import Arm


def test_area_until_a_step() -> None:
    arm = Arm(losses={0: 4.0, 2: 3.0, 10: 2.0, 20: 0.0})
    assert arm.area_until(10) == pytest.approx((2 * 3.5 + 8 * 2.5) / 10)
    assert arm.area == pytest.approx((2 * 3.5 + 8 * 2.5 + 10 * 1.0) / 20)
    with pytest.raises(ValueError, match="no loss was taken at step 11"):
        arm.area_until(11)


def test_arms_and_mechanisms(tmp_path: Path) -> None:
    settings = CLAIM.settings["full"]
    unit = Unit(arm="A", seed=7, settings=settings, shared=tmp_path)
    assert (unit_expansion(unit).strategy, unit_expansion(unit).seed, unit_expansion(unit).noise) == ("A", 7, 0.02)
    assert unit_expansion(replace(unit, without="partition")).strategy == "B"
    assert unit_expansion(replace(unit, arm="random", without="partition")).strategy == "random"
    assert unit_expansion(replace(unit, without="noise")).noise == 0
    assert base_folder(tmp_path, settings, 3) != base_folder(tmp_path, settings, 4)


def test_horizons_of_the_full_setting() -> None:
    settings = CLAIM.settings["full"]
    assert (settings.short, settings.comparison.steps) == (100, 1000)
    assert {settings.short, settings.early} <= {
        *range(0, settings.comparison.steps + 1, settings.comparison.eval_every),
        *settings.comparison.eval_at,
    }


@pytest.mark.slow
def test_fast_setting(claims_folder: Path) -> None:
    run = ClaimRun(claim=CLAIM, folder=claims_folder, setting="fast", seeds=(0, 1))
    found = run_claim(run)
    named = {difference.name: difference for difference in found.verdict.differences}
    assert named["area to 10, scratch − A"].met is True
    # two seeds give no narrow interval: each of them, then
    assert all(measured.values["distance at 10"] > 1e-3 for measured in found.results["A"].values())
    curve = found.results["A"][0].curves["distance of copies"]
    assert list(curve[0]) == [0, 0.0] and [step for step, _ in curve] == [0, 5, 10, 20]
    distances = [distance for _, distance in curve]
    assert distances == sorted(distances)
    for seed in (0, 1):
        base = found.results["fitted"][seed].values["loss of the base"]
        assert abs(found.results["fitted"][seed].values["loss at 0"] - base) < 0.05
    # without the partition A is B; without noise its copies stay equal
    without = run_claim(replace(run, without="partition"))
    assert without.verdict.outcome == "does not replicate"
    assert without.results["A"][0].values["loss at 0"] == without.results["B"][0].values["loss at 0"]
    silent = run_claim(replace(run, without="noise"))
    assert silent.verdict.outcome == "does not replicate"
    assert silent.results["A"][1].values["last distance"] == 0
