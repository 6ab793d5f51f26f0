"""The loop on a tiny policy: it learns, trainer and engine agree, and it can be killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sampling
from s1pro.rl.config import RLRun, RolloutConfig
from s1pro.rl.loop import train_rl
from s1pro.rl.objective import preset
from s1pro.rl.rounds import ParityError
from s1pro.serve.client import LocalClient
from s1pro.tasks.task import Item, Prompt
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from tests.rl.letters import Letters, StoppedError, Vowels, policy, run_in, stops_once, tasks


def learn(run: RLRun, **options: Any) -> Any:
    return train_rl(run, tasks=tasks(), network=policy(), processor=Letters(), **options)  # type: ignore[arg-type]


def rewards(folder: Path) -> list[float]:
    return [record["reward"] for record in read_metrics(folder, "rollout")]


def test_rewards_rise_and_both_sides_agree(tmp_path: Path) -> None:
    run = run_in(tmp_path, steps=25, optimizer=replace(run_in(tmp_path).optimizer, lr=1e-2))
    learn(run)
    seen = rewards(tmp_path)
    assert len(seen) == 25
    assert sum(seen[-5:]) / 5 > sum(seen[:5]) / 5 + 0.2, seen
    for record in read_metrics(tmp_path, "rollout"):
        assert record["mismatch"]["k3"] < 1e-6 and record["replayed"] == 1.0
        assert (record["mismatch"]["tokens"] > 0) == (record["teaching_groups"] > 0)
        assert min(record["mismatch"]["routing_agreement"]) > 0.99
    for record in read_metrics(tmp_path, "train"):
        assert record["masked"] == 0
        assert not record["source_tokens"] or record["ratio"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("precision", ["network", "fp8"])
def test_exact_mode_has_no_gap_at_all(precision: str, tmp_path: Path) -> None:
    """KL = 0 and rho = 1, bit for bit, over a whole run with several updates per round."""
    learn(run_in(tmp_path, steps=8, updates=2, exact=True, parity_limit=1e-300, expert_precision=precision))
    records = read_metrics(tmp_path, "rollout")
    assert len(records) == 4 and any(record["mismatch"]["tokens"] for record in records)
    for record in records:
        found = record["mismatch"]
        assert found["exact"] and found["k1"] == found["k3"] == found["largest"] == 0.0
        assert set(found["routing_agreement"]) <= {1.0}


def test_nothing_is_read_from_the_cache_of_earlier_weights(tmp_path: Path) -> None:
    """Questions with a long common beginning, whose keys and values the engine keeps from one round to the next."""

    class Long(Vowels):
        def prompt(self, item: Item) -> Prompt:
            words = "a beginning that all questions have and that fills some blocks of the cache"
            return Prompt(messages=(Message(role="user", content=f"{words}: {item.asked['n']}"),))

    run = run_in(tmp_path, steps=4, eval_every=1, optimizer=OptimizerConfig(lr=1e-2))
    run = replace(run, tasks=run.tasks[:1], data=replace(run.data, tokens_per_batch=256))
    answers: list[tuple[str, str]] = []

    def evaluate(trainer: Any) -> dict[str, Any]:
        kept, fresh = trainer.rollouts.client, LocalClient.from_network(trainer.network, Letters())  # type: ignore[arg-type]
        prompt = Long().prompt(Long().items()[0]).messages
        both = [asyncio.run(c.chat(prompt, Sampling(max_new_tokens=8))).text for c in (kept, fresh)]
        answers.append((both[0], both[1]))
        return {}

    train_rl(run, tasks={"vowels": Long()}, network=policy(), processor=Letters(), on_evaluate=evaluate)  # type: ignore[arg-type]
    gaps = [record["mismatch"]["largest"] for record in read_metrics(tmp_path, "rollout")]
    assert len(gaps) == 4 and max(gaps) < 1e-4, gaps
    assert len(answers) == 5 and all(kept == fresh for kept, fresh in answers)


def test_shares_of_tasks(tmp_path: Path) -> None:
    learn(run_in(tmp_path, steps=1))
    (record,) = read_metrics(tmp_path, "train")
    tokens = record["source_tokens"]
    assert set(tokens) <= {"vowels", "more"}
    (rollout,) = read_metrics(tmp_path, "rollout")
    assert set(rollout["rewards"]) == {"vowels", "more"} and rollout["groups"] == 6


@pytest.mark.parametrize("updates", [1, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path, updates: int) -> None:
    """Also in the middle of a round, whose answers wait in the checkpoint."""
    options = {"steps": 7, "updates": updates, "checkpoint_every": 1}
    learn(run_in(tmp_path / "whole", **options))
    stopping = run_in(tmp_path / "parts", **options)

    stop = stops_once(5)
    stopping = replace(stopping, eval_every=1)
    with pytest.raises(StoppedError):
        learn(stopping, on_evaluate=stop)
    learn(stopping, on_evaluate=stop)
    whole, parts = (
        [
            {k: v for k, v in r.items() if k not in ("seconds", "tokens_per_second", "mfu")}
            for r in read_metrics(f, "train")
        ]
        for f in (tmp_path / "whole", tmp_path / "parts")
    )
    assert whole == parts
    assert rewards(tmp_path / "whole") == rewards(tmp_path / "parts")


def test_updates_move_the_ratio(tmp_path: Path) -> None:
    learn(run_in(tmp_path, steps=6, updates=3, objective=preset("grpo")))
    ratios = [record["ratio"] for record in read_metrics(tmp_path, "train")]
    assert [ratios[i] for i in (0, 3)] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert all(abs(ratios[i] - 1) > 1e-5 for i in (1, 2, 4, 5))


def test_a_round_without_information_changes_nothing(tmp_path: Path) -> None:
    """Every answer is one token that is no vowel: nothing to learn, and the step says so."""
    network = policy()
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.weight[5] = 1e3
        network.model.language_model.norm.weight.abs_()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    run = run_in(tmp_path, steps=1, rollout=RolloutConfig(prompts=2, group_size=2, max_new_tokens=1))

    class Same:
        name = "vowels"

        def __getattr__(self, name: str) -> Any:
            return getattr(tasks()["vowels"], name)

        async def score(self, item: Any, response: str) -> Any:
            from s1pro.tasks.task import Score

            return Score(value=0.5)

    train_rl(run, tasks={"vowels": Same(), "more": Same()}, network=network, processor=Letters())  # type: ignore[arg-type,dict-item]
    assert [r["reason"] for r in read_metrics(tmp_path, "skip")] == ["nothing in this step has a loss weight"]
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_the_gap_can_stop_a_run(tmp_path: Path) -> None:
    """Rollouts at another precision than training: the limit notices."""
    run = run_in(tmp_path, parity_limit=1e-30)
    with pytest.raises(ParityError, match="above parity_limit"):
        learn(run)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tasks is empty"):
        learn(run_in(tmp_path, tasks=()))
    with pytest.raises(InputError, match=r"raise data\.tokens_per_batch"):
        run = run_in(tmp_path)
        learn(replace(run, data=replace(run.data, tokens_per_batch=20)))
    with pytest.raises(ValueError, match="accumulation has no effect"):
        run_in(tmp_path, accumulation=2)
    with pytest.raises(ValueError, match="no effect with old_logprobs=rollout"):
        run_in(tmp_path, old_logprobs="rollout", parity_limit=0.1)


class _Stop(Exception):
    pass


def test_a_reference_holds_the_policy_back_and_is_the_first_policy_after_a_resume_too(tmp_path: Path) -> None:
    def run_with(kl: float, folder: Path) -> RLRun:
        run = run_in(folder, steps=8, eval_every=4, checkpoint_every=1, optimizer=OptimizerConfig(lr=1e-2))
        return replace(run, objective=replace(run.objective, kl=kl))

    def distances(folder: Path) -> list[float]:
        return [record["reference_kl"] for record in read_metrics(folder, "train") if record["source_tokens"]]

    def stop(trainer: Any) -> dict[str, Any]:
        if trainer.steps_done == 4:
            raise _Stop
        return {}

    for kl in (1e-9, 3.0):
        learn(run_with(kl, tmp_path / f"{kl}"))
    free, held = distances(tmp_path / "1e-09"), distances(tmp_path / "3.0")
    assert free[0] == held[0] == 0.0, "a policy that has not moved is at distance 0"
    assert max(held) < 0.5 * max(free), (free, held)
    resumed = run_with(3.0, tmp_path / "resumed")
    with pytest.raises(_Stop):
        learn(resumed, on_evaluate=stop)
    learn(resumed)
    assert distances(resumed.folder) == held
