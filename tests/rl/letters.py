"""A policy, a processor and a task that fit in a test: answers of printable characters, worth the share of vowels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.records import Message
from s1pro.inputs.processor import Encoded
from s1pro.model.config import RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.train.config import DataConfig
from s1pro.train.optim import OptimizerConfig
from tests.rl.vowels import Vowels

VOCABULARY = 96
__all__ = [
    "VOCABULARY", "LetterTokenizer", "Letters", "StoppedError", "Vowels", "policy", "run_in", "stops_once", "tasks",
]  # fmt: skip


class LetterTokenizer:
    """One token per printable character; the last one, `~`, ends an answer."""

    eos_token_id = pad_token_id = VOCABULARY - 2

    def encode(self, text: str) -> list[int]:
        return [max(ord(letter) - 32, 0) for letter in text]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(chr(32 + i) for i in ids if not (skip_special_tokens and i == self.eos_token_id))

    def token_to_id(self, token: str) -> None:
        """No token is special."""

    def sampleable_ids(self, vocab_size: int) -> npt.NDArray[np.bool_]:
        return np.arange(vocab_size) < VOCABULARY - 1


class Letters:
    """A processor of printable characters."""

    tokenizer = LetterTokenizer()

    def encode(self, messages: Sequence[Message], **options: object) -> Encoded:
        text = "".join(f"{m.role}:{m.text};" for m in messages)
        return Encoded(token_ids=self.tokenizer.encode(text), learned=[], media=None, media_parts=())

    def encode_next(self, messages: Sequence[Message], **options: object) -> list[int]:
        return self.tokenizer.encode("".join(f"{m.role}:{m.text};" for m in messages))


def policy(seed: int = 0) -> Network:
    config = tiny(vocab_size=VOCABULARY)
    router = RouterConfig(num_experts=8, top_k=4, num_groups=4)
    return Network(replace(config, text=replace(config.text, router=router)), seed=seed)


def run_in(folder: Path, **changes: Any) -> RLRun:
    run = RLRun(
        folder=folder,
        steps=4,
        tasks=(TaskConfig(name="vowels"), TaskConfig(name="more", weight=2.0)),
        rollout=RolloutConfig(prompts=6, group_size=4, max_new_tokens=10, concurrency=16),
        judges=JudgeConfig(processes=0),
        data=DataConfig(tokens_per_batch=128),
        optimizer=OptimizerConfig(lr=3e-3),
        tensorboard=False,
        progress=False,
        export=False,
        peak_tflops=0.1,
    )
    return replace(run, **changes)


def tasks() -> dict[str, Any]:
    return {"vowels": Vowels(), "more": Vowels("more")}


class StoppedError(Exception):
    """A run that was stopped from outside."""


def stops_once(steps_done: int) -> Callable[[Any], dict[str, Any]]:
    """An `on_evaluate` that ends the first run after so many steps; the next one goes on."""
    stopped: list[int] = []

    def stop(trainer: Any) -> dict[str, Any]:
        if trainer.steps_done == steps_done and not stopped:
            stopped.append(steps_done)
            raise StoppedError
        return {}

    return stop
