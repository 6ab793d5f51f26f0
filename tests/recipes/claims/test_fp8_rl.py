"""Claim 6, reinforcement learning in FP8: its problem, its engine apart, and the fast setting."""

from __future__ import annotations

import asyncio
import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s1pro.model.network import Network
from s1pro.model.precision import expert_layers
from s1pro.recipes.claims.claim import Measurement, Unit
from s1pro.recipes.claims.fp8_rl import ARMS, CLAIM, Weights, base_folder, measure, prepare, verdict
from s1pro.recipes.claims.reversing import ASK, END, LETTERS, LetterProcessor, Reversing, drawn_words, lessons
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.setup import to_bfloat16
from tests.rl.letters import policy


def test_a_word_backwards_is_right_and_nothing_else() -> None:
    task = Reversing(size=50, seed=3, held_out=True)
    for item in task.items():
        word = item.asked["word"]
        scores = [asyncio.run(task.score(item, said)).value for said in (word[::-1], word[::-1][:-1], "", word + "a")]
        assert scores == [1.0, 0.0, 0.0, 0.0]
        ids = LetterProcessor().encode(task.prompt(item).messages).token_ids
        assert ids == [*(LETTERS.index(letter) for letter in word), ASK]


def test_no_word_is_learned_and_held_out() -> None:
    learned = set(itertools.islice(drawn_words(0, held_out=False), 3000))
    assert not learned & set(itertools.islice(drawn_words(1, held_out=True), 3000))
    assert len({item.id for item in Reversing(size=100, seed=2, held_out=False).items()} - learned) > 50


def test_lessons_teach_the_answer_alone() -> None:
    batch = next(lessons(5, rows=128))
    for start, stop in itertools.pairwise(batch.cu_seqlens[: batch.num_real_segments + 1]):
        ids = [*batch.input_ids_T[start:stop].tolist(), int(batch.targets_T[stop - 1])]
        ask = ids.index(ASK)
        assert ids[ask + 1 :] == [*ids[:ask][::-1], END]
        assert batch.loss_weights_T[start:stop].tolist() == [0.0] * ask + [1.0] * (stop - start - ask)


@pytest.mark.parametrize("two_masters", [False, True])
def test_an_engine_gets_the_published_numbers_or_the_masters(two_masters: bool) -> None:
    network = policy(seed=1)
    to_bfloat16(network)
    weights = Weights(network, two_masters=two_masters)
    weights.optimizer = Optimizer(network, OptimizerConfig(lr=1e-4))
    loss = sum((parameter.float() ** 2).sum() for parameter in network.parameters())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    given = weights.now()
    for name, tensor in network.state_dict().items():
        assert given[name].dtype == torch.float32
        if not (two_masters and ".experts." in name):
            assert torch.equal(given[name], tensor.float())
    engine: Network = copy.deepcopy(network).float()
    engine.load_state_dict(given)
    assert len(expert_layers(engine)) == 2


def made_up(kl: dict[str, float], accuracy: dict[str, float]) -> dict[str, dict[int, Measurement]]:
    draw = np.random.default_rng(0)
    results: dict[str, dict[int, Measurement]] = {arm: {} for arm in ARMS}
    for seed in range(5):
        common = 0.05 * draw.normal()
        for arm in ARMS:
            log = float(np.log10(kl.get(arm, 1e-4)) + 0.02 * draw.normal())
            right = accuracy.get(arm, 0.6) + common + 0.002 * float(draw.normal())
            values = {"accuracy": right, "accuracy before": 0.5, "log10 KL": log, "KL": 10**log}
            results[arm][seed] = Measurement(values=values)
    return results


def test_the_verdict_follows_from_accuracy_and_both_ratios() -> None:
    far = {"fp8-no-replay": 4e-4, "fp8-two-scales": 5e-4}
    assert verdict(made_up(far, {})).outcome == "replicates"
    assert verdict(made_up({**far, "fp8-no-replay": 1.3e-4}, {})).outcome == "does not replicate"
    assert verdict(made_up({**far, "fp8-two-scales": 1.0e-4}, {})).outcome == "does not replicate"
    assert verdict(made_up(far, {"fp8": 0.2})).outcome == "does not replicate"


@pytest.mark.slow
def test_what_is_left_out_shows(tmp_path: Path) -> None:
    """One seed, two rounds: all arms start at one policy, and removing a mechanism gives the arm without it."""
    settings = replace(CLAIM.settings["fast"], rounds=2, evaluate_every=2, words=20)
    prepare(settings, [3], tmp_path)
    assert (base_folder(tmp_path, settings, 3) / "config.json").exists()
    arms = ("bf16", "fp8", "fp8-two-scales")
    found = {arm: measure(Unit(arm=arm, seed=3, settings=settings, shared=tmp_path)) for arm in arms}
    before = [measured.values["accuracy before"] for measured in found.values()]
    assert max(before) - min(before) < 0.15
    for measured in found.values():
        assert 1e-7 < measured.values["KL"] < 1e-2 and measured.steps == 2
        assert measured.curves["accuracy"][0][0] == 0 and len(measured.curves["KL"]) == 2
        assert 0.9 < measured.values["equal experts"] < 1
    assert found["fp8-two-scales"].values["KL"] > found["fp8"].values["KL"]
    without = measure(Unit(arm="fp8", seed=3, settings=settings, shared=tmp_path, without="quantiser"))
    assert without.values == pytest.approx(found["fp8-two-scales"].values)
