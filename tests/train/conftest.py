"""A tiny task for training tests: copy five digits behind a separator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.data.sequence import TokenSequence
from s1pro.model.presets import tiny
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.optim import OptimizerConfig

SEPARATOR, FIRST_DIGIT, DIGITS = 1, 2, 6


class CopySource:
    """Sample i is `digits separator digits`; only the copy is learned."""

    def __init__(self, name: str = "copy", size: int = 2000, seed: int = 0) -> None:
        self.name, self._size, self._seed = name, size, seed

    def __len__(self) -> int:
        return self._size

    def num_rows(self, index: int) -> int:
        return 2 * DIGITS

    def is_conversation(self, index: int) -> bool:
        return False

    def has_media(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        digits = np.random.default_rng([self._seed, index]).integers(FIRST_DIGIT, FIRST_DIGIT + 10, DIGITS)
        ids = np.concatenate([digits, [SEPARATOR], digits]).astype(np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[DIGITS + 1 :] = 1
        return TokenSequence(token_ids=ids, loss_weights=weights, prompt_group="general")


@pytest.fixture
def copy_source() -> Callable[..., CopySource]:
    return CopySource


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., TrainRun]:
    """A run in a fresh folder; keyword arguments replace fields."""

    def make(**changes: Any) -> TrainRun:
        run = TrainRun(
            folder=tmp_path / "run",
            model=tiny(vocab_size=16),
            steps=8,
            data=DataConfig(tokens_per_batch=240, max_length=32, lookahead=4),
            optimizer=OptimizerConfig(lr=3e-3),
            tensorboard=False,
            progress=False,
            export=False,
            peak_tflops=0.1,
        )
        return replace(run, **changes)

    return make
