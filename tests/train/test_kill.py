"""A training process killed with SIGKILL at a random moment and started again equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1pro.train.metrics import read_metrics

PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from s1pro.base.records import Sample
from s1pro.data.sequence import TokenSequence
from s1pro.model.presets import tiny
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.stage import train
from s1pro.train.optim import OptimizerConfig
import hashlib
import numpy as np

class Letters:
    fingerprint = "letters"
    def encode(self, samples):
        return [self.one(np.frombuffer(s.text.encode(), dtype=np.uint8).astype(np.int32) % 32) for s in samples]
    def one(self, ids):
        return TokenSequence(token_ids=ids, loss_weights=np.ones(len(ids), np.float32), prompt_group="general")

lengths = np.random.default_rng(0).integers(5, 90, 300)
texts = [Sample(source="t", prompt_group="general", text="abcdefgh" * 12 if n % 3 else str(n) * 20) for n in lengths]
run = TrainRun(
    folder=Path(sys.argv[1]), model=tiny(vocab_size=32), steps=60, accumulation=2, checkpoint_every=7, eval_every=10,
    data=DataConfig(tokens_per_batch=256, max_length=48, prefetch=1), optimizer=OptimizerConfig(lr=3e-3),
    tensorboard=False, progress=False, export=False, peak_tflops=0.1,
)
result = train(run, encoder=Letters(), sources={"t": texts}, validation={"v": texts[:5]})
digest = hashlib.sha256()
for name, tensor in sorted(result.network.state_dict().items()):
    digest.update(name.encode() + tensor.numpy().tobytes())
(run.folder / "weights.sha256").write_text(digest.hexdigest())
"""

TIMES = ("seconds", "tokens_per_second", "mfu")


def start(program: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(program), str(folder)], cwd=Path(__file__).parents[2])


def numbers(folder: Path) -> str:
    records = [{k: v for k, v in record.items() if k not in TIMES} for record in read_metrics(folder)]
    return hashlib.sha256(json.dumps(records).encode()).hexdigest() + (folder / "weights.sha256").read_text()


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    assert start(program, tmp_path / "whole").wait(timeout=300) == 0
    moments = random.Random(time.time_ns())
    broken = tmp_path / "broken"
    for part in range(4):
        process = start(program, broken)
        goal = moments.randint(part * 12 + 2, part * 12 + 14)
        while process.poll() is None and len(read_metrics(broken, "train")) < goal:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)
        process.kill()
        process.wait()
    assert start(program, broken).wait(timeout=300) == 0
    assert len(read_metrics(broken, "train")) == 60
    assert numbers(broken) == numbers(tmp_path / "whole")
