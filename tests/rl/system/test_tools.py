"""Tools on Ray: episodes of several turns are those of one process, and their use is learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.records import Message, Sampling
from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.model.network import Network
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.rl.loop import train_rl
from s1pro.rl.system.config import SystemConfig
from s1pro.rl.validation import item_scores
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.toolbox import Tool, parameters
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.tasks.task import Item, Prompt, Score
from s1pro.train.guards import Guard, GuardConfig
from s1pro.train.losses import LanguageModelLoss, LossConfig
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.step import Stepper
from tests.rl.letters import Letters, policy, run_in

pytestmark = pytest.mark.slow

LESSONS = 120
CALL = '<tool_call>{"name":"t"}</tool_call>'
END = Letters.tokenizer.eos_token_id
OWN = ("published_bytes", "trace_bytes_per_token", "worker_seconds", "rollout_seconds", "prepare_seconds", "seconds",
       "tokens_per_second", "mfu")  # fmt: skip


def secret(number: int) -> str:
    return str(hashlib.sha256(str(number).encode()).digest()[0] % 10)


class Secrets:
    """Digits that only the tool knows; a guess is right once in ten times."""

    name = "secrets"

    def __init__(self, *, held_out: bool) -> None:
        self._held_out = held_out

    def items(self) -> list[Item]:
        """Every fifth number is held out."""
        return [Item(id=str(n), asked={"n": n}) for n in range(100, 400) if (n % 5 == 0) == self._held_out]

    def prompt(self, item: Item) -> Prompt:
        return Prompt(messages=(Message(role="user", content=str(item.asked["n"])),))

    def tools(self, item: Item) -> Sequence[Tool]:
        async def run(arguments: Mapping[str, Any]) -> str:
            return secret(item.asked["n"])

        return (Tool(name="t", description="", parameters=parameters([]), run=run),)

    async def score(self, item: Item, response: str) -> Score:
        return Score(value=float(response == secret(item.asked["n"])), valid=bool(response))

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


def lesson(random: np.random.Generator) -> TokenSequence:
    """A guess, or a call and what it gave, one as often as the other; only what the model says is learned."""
    digit, encode = str(random.integers(10)), Letters.tokenizer.encode
    parts = [(encode(f"user:{random.integers(100, 400)};"), False)]
    if random.random() < 0.5:
        parts += [([*encode(CALL), END], True), (encode(f"tool:{digit};"), False)]
    parts += [([*encode(digit), END], True)]
    ids = [token for tokens, _ in parts for token in tokens]
    learned = [own for tokens, own in parts for _ in tokens]
    options: dict[str, Any] = {"prompt_group": "science", "conversation": True}
    return TokenSequence(token_ids=np.array(ids, np.int32), loss_weights=np.array(learned, np.float32), **options)


def batch_of(random: np.random.Generator, rows: int = 1024) -> PackedBatch:
    segments: list[Segment] = []
    while True:
        segment = Segment(sequence=lesson(random), source=0)
        if sum(s.num_rows for s in segments) + segment.num_rows > rows:
            return collate(segments, num_rows=rows, source_names=("lessons",), max_tail_segment=rows)
        segments.append(segment)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A policy that calls in half of its answers, by imitation."""
    network, random = policy(), np.random.default_rng(0)
    optimizer = Optimizer(network, OptimizerConfig(kind="muon", lr=4e-3))
    stepper = Stepper(network.train(), optimizer, Guard(GuardConfig()), LanguageModelLoss(LossConfig(balance=1e-2)))
    for step in range(LESSONS):
        stepper.step([batch_of(random)], min(1.0, (LESSONS - step) / (LESSONS / 2)))
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def learn(folder: Path, state: dict[str, torch.Tensor], steps: int, prompts: int, **options: Any) -> list[Any]:
    run: RLRun = run_in(
        folder,
        steps=steps,
        tasks=(TaskConfig(name="secrets"),),
        rollout=RolloutConfig(prompts=prompts, group_size=8, max_new_tokens=40, concurrency=64),
        agent=AgentConfig(tools=(), max_turns=2),
        **options,
    )
    network: Network = policy()
    network.load_state_dict(state)
    held_out, scores = {"secrets": Secrets(held_out=True)}, []

    def evaluate(trainer: Any) -> dict[str, Any]:
        rollouts, how = trainer.rollouts, Sampling(max_new_tokens=40, temperature=1.0, seed=1)
        found: Any = item_scores(held_out, rollouts.client, limit=60, sampling=how, draws=2, agent=rollouts.agent)  # type: ignore[arg-type]
        scores.append(found["secrets"])
        return {"accuracy": float(np.mean(found["secrets"]))}

    train_rl(
        run, tasks={"secrets": Secrets(held_out=False)}, network=network, processor=Letters(), on_evaluate=evaluate
    )  # type: ignore[arg-type,dict-item]
    return scores


def test_tools_are_used_on_ray_as_in_one_process(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        system = SystemConfig(mode="ray", workers=2, shards=2)
        judged = {"judges": JudgeConfig(processes=1), "optimizer": OptimizerConfig(lr=1e-4)}
        away = learn(tmp_path / "ray", state, 2, 4, system=system, **judged)
    finally:
        ray.shutdown()
    here = learn(tmp_path / "local", state, 2, 4, system=SystemConfig(shards=2), **judged)
    found, wanted = (
        [{k: v for k, v in record.items() if k not in OWN} for record in read_metrics(tmp_path / name, "rollout")]
        for name in ("ray", "local")
    )
    assert found == wanted and here == away
    assert all(record["calls"] > 0.2 and record["turns"] > 1.2 for record in found), "the tool was used"


def test_the_use_of_a_tool_is_learned(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Guesses are right one time in ten, and answers after a call nearly always; so calls become the rule."""
    first, *_, last = learn(tmp_path, state, 12, 16, optimizer=OptimizerConfig(kind="muon", lr=1e-3), eval_every=12)
    calls = [record["calls"] for record in read_metrics(tmp_path, "rollout")]
    assert 0.3 < calls[0] < 0.7 < 0.85 < np.mean(calls[-3:]), calls
    gained = np.subtract(last, first)
    assert gained.mean() - 1.96 * gained.std(ddof=1) / np.sqrt(len(gained)) > 0.1, (np.mean(first), np.mean(last))
