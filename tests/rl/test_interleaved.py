"""Steps of fine-tuning between those of reinforcement learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.rl.interleaved import InterleavedLoss
from s1pro.rl.loop import train_rl
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.policy_loss import PolicyLoss
from s1pro.train.config import DataConfig
from s1pro.train.losses import LanguageModelLoss, LossConfig
from s1pro.train.metrics import read_metrics
from tests.rl.letters import Letters, StoppedError, policy, run_in, stops_once, tasks

TIMES = ("seconds", "rollout_seconds", "prepare_seconds", "tokens_per_second", "mfu")


class Alphabet:
    """Sequences of neighbouring letters, tokenised already."""

    name = "alphabet"

    def __len__(self) -> int:
        return 40

    def num_rows(self, index: int) -> int:
        return 12

    def sequence(self, index: int) -> TokenSequence:
        ids = (index + np.arange(13, dtype=np.int32)) % 26 + 65
        return TokenSequence(
            token_ids=ids, loss_weights=np.ones(13, np.float32), prompt_group="general", conversation=False
        )


def learn(folder: Path, **options: Any) -> list[dict[str, Any]]:
    on_evaluate = options.pop("on_evaluate", None)
    options["data"] = DataConfig(tokens_per_batch=128, max_length=128)
    train_rl(
        run_in(folder, sft_every=2, **options), tasks=tasks(), network=policy(), processor=Letters(),  # type: ignore[arg-type]
        texts={"alphabet": Alphabet()}, on_evaluate=on_evaluate,
    )  # fmt: skip
    found = [*read_metrics(folder, "rollout"), *read_metrics(folder, "train")]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in found]


def test_every_other_step_learns_from_texts_and_a_run_goes_on(tmp_path: Path) -> None:
    stop = stops_once(3)
    options: dict[str, Any] = {"steps": 6, "checkpoint_every": 1, "eval_every": 1}
    whole = learn(tmp_path / "whole", **options)
    steps = [record for record in whole if record["kind"] == "train"]
    assert [set(r["source_tokens"]) <= {"vowels", "more"} for r in steps] == [True, False] * 3
    assert [set(r["source_tokens"]) == {"alphabet"} for r in steps] == [False, True] * 3
    assert steps[5]["loss"] < steps[3]["loss"] < steps[1]["loss"]
    assert [r["step"] for r in whole if r["kind"] == "rollout"] == [1, 3, 5]
    with pytest.raises(StoppedError):
        learn(tmp_path / "parts", on_evaluate=stop, **options)
    assert learn(tmp_path / "parts", on_evaluate=stop, **options) == whole


def batch(kind: str) -> PackedBatch:
    sequence = Alphabet().sequence(3)
    if kind == "answers":
        ones = np.ones(13, np.float32)
        sequence = TokenSequence(
            token_ids=sequence.token_ids, loss_weights=ones, prompt_group="general", conversation=True,
            advantages=ones, rollout_logprobs=-ones,
        )  # fmt: skip
    return collate([Segment(sequence=sequence, source=0)], num_rows=16, source_names=("a",))


def test_each_batch_has_its_own_loss() -> None:
    network = policy()
    losses = {"answers": PolicyLoss(ObjectiveConfig()), "texts": LanguageModelLoss(LossConfig(balance=0.1))}
    both = InterleavedLoss(losses["answers"], losses["texts"])
    for kind, loss in losses.items():
        some = [batch(kind)]
        assert both.totals(some) == loss.totals(some)
        found, expected = (x(network, some[0], loss.totals(some)) for x in (both, loss))
        assert torch.equal(found.loss, expected.loss) and found.values.keys() == expected.values.keys()
        assert both.flops(network, some[0]) == loss.flops(network, some[0])


def test_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sft_every must be 0 or at least 2, got 1"):
        run_in(tmp_path, sft_every=1)
    with pytest.raises(InputError, match="have no effect without sft_every"):
        train_rl(run_in(tmp_path), tasks=tasks(), network=policy(), processor=Letters(), texts={"a": Alphabet()})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data\.sources is empty"):
        train_rl(run_in(tmp_path, sft_every=2), tasks=tasks(), network=policy(), processor=Letters())  # type: ignore[arg-type]
