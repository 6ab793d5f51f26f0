"""Claim 5, three routes of a signal: what each arm is given, and the fast setting with and without the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s1pro.recipes.claims.claim import Measurement, Unit
from s1pro.recipes.claims.signals import ARMS, CLAIM, RouteSettings, as_image, as_text, measure, questions, verdict
from s1pro.science.media_families import media_families


def test_text_and_picture_of_a_signal_by_hand() -> None:
    values = np.array([0.0, 1.0, 0.5, 0.249], dtype=np.float32)
    assert as_text(values, 1) == "0952"
    assert as_text(values, 2) == "00995024"
    assert as_text(np.ones(3, dtype=np.float32), 1) == "000"
    image = as_image(np.array([0.0, 1.0], dtype=np.float32), 16, 8)
    assert image.shape == (8, 16, 3)
    assert not image[7, 0].any() and not image[0, 15].any()  # from the lower left to the upper right
    assert image[0, 0].all() and image[7, 15].all()


def test_all_arms_ask_the_same_about_the_same_signals() -> None:
    family = media_families()["chirp_in_signal"]
    settings = RouteSettings()
    units = [Unit(arm=arm, seed=3, settings=settings, shared=Path()) for arm in ARMS]
    arms = [list(questions(family, "test", 9, unit=unit)) for unit in units]
    for module, text, image in zip(*arms, strict=True):
        assert module.answer == text.answer == image.answer and module.labels == family.answer.labels  # type: ignore[union-attr]
        assert module.content[1] == text.content[1] == image.content[1]
        values = module.content[0]["time_series"]
        assert text.content[0]["text"] == as_text(values, settings.digits) + " "
        assert np.array_equal(image.content[0]["image"], as_image(values, settings.width, settings.height))


def measured(score: float) -> Measurement:
    right = [float(i < 10 * score) for i in range(10)]
    return Measurement(values={"F1": score, "rows per question": 9.0}, items={"right": right})


def test_both_routes_have_to_be_beaten_by_the_margin() -> None:
    seeds = range(5)
    arms = {"module": 0.9, "text": 0.5, "image": 0.6}
    results = {arm: {seed: measured(score + 0.01 * seed) for seed in seeds} for arm, score in arms.items()}
    assert verdict(results).outcome == "replicates"
    results["image"] = {seed: measured(0.88 + 0.01 * seed) for seed in seeds}
    assert verdict(results).outcome == "does not replicate"
    results["image"] = {seed: measured(0.6 + 0.15 * seed) for seed in seeds}
    assert verdict(results).outcome == "undecided"


@pytest.mark.slow
def test_the_module_is_ahead_and_without_it_behind(tmp_path: Path) -> None:
    units = {
        name: Unit(arm=name.split("-")[0], seed=0, settings=CLAIM.settings["fast"], shared=tmp_path, without=without)
        for name, without in (("module", None), ("text", None), ("module-removed", "module"))
    }
    found = {name: measure(unit) for name, unit in units.items()}
    assert found["module"].values["F1"] > found["text"].values["F1"] + 0.1
    assert found["module-removed"].values["F1"] < found["text"].values["F1"]
    assert {measured.steps for measured in found.values()} == {CLAIM.settings["fast"].steps}
    arms = {"module": "module-removed", "text": "text", "image": "text"}
    results = {arm: dict.fromkeys(range(3), found[name]) for arm, name in arms.items()}
    assert verdict(results).outcome == "does not replicate"
