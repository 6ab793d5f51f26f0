"""Does training with FP8 experts follow training without? Loss curves on a tiny model, paired over seeds.

    python bench/fp8_training.py [--seeds 5] [--steps 120] [--json FILE]

The task is a Markov chain over 64 symbols, whose entropy is known, so a loss has a floor. One seed gives all arms the
same initial weights and the same batches:

    float32        everything
    bfloat16       network in bfloat16, float32 master weights
    fp8            as bfloat16, and all products of the experts in FP8 (1 x 128 and 128 x 128, fp32 scales)
    fp8 ue8m0      the same with scales that are powers of two

Hidden size 160 and expert width 192 give blocks that are whole and blocks that are partial. Reported are validation
losses and, for pairs of arms, the mean difference with its 95 % interval over seeds (Student's t).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from paired import environment

from s1pro.data.sequence import TokenSequence
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig
from s1pro.train.config import DataConfig, Fp8Config, TrainRun
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from s1pro.train.stage import train

SYMBOLS, LENGTH = 64, 64
ARMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "fp8": {"dtype": "bfloat16", "expert_precision": "fp8"},
    "fp8 ue8m0": {"dtype": "bfloat16", "expert_precision": "fp8", "fp8": Fp8Config(scale_format="ue8m0")},
}
PAIRS = (("bfloat16", "float32"), ("fp8", "bfloat16"), ("fp8 ue8m0", "bfloat16"), ("fp8", "float32"))
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 1 to 9 degrees of freedom


class Chain:
    """Sequence i of a Markov chain; every sequence has its own random numbers."""

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.name, self._size, self._seed = name, size, seed
        self.probabilities = np.random.default_rng(0).dirichlet(np.full(SYMBOLS, 0.1), SYMBOLS)
        self._sums = self.probabilities.cumsum(axis=-1)

    def __len__(self) -> int:
        return self._size

    def num_rows(self, index: int) -> int:
        return LENGTH

    def is_conversation(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        draw = np.random.default_rng([self._seed, index])
        ids = [int(draw.integers(0, SYMBOLS))]
        for number in draw.random(LENGTH):
            ids.append(min(int(np.searchsorted(self._sums[ids[-1]], number)), SYMBOLS - 1))
        weights = np.ones(LENGTH + 1, dtype=np.float32)
        weights[0] = 0
        return TokenSequence(token_ids=np.asarray(ids, np.int32), loss_weights=weights, prompt_group="general")


def entropy(probabilities: npt.NDArray[np.float64]) -> float:
    """Mean over the symbols as they occur in the long run: no model can have a lower loss."""
    stationary = np.linalg.matrix_power(probabilities, 1000)[0]
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return float(-(stationary[:, None] * probabilities * logs).sum())


def model() -> ModelConfig:
    text = TextConfig(
        vocab_size=SYMBOLS,
        hidden_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=192,
        router=RouterConfig(num_experts=8, top_k=2, num_groups=2),
        rope=RopeConfig(max_position_embeddings=256),
    )
    return ModelConfig(text=text)


def run_arm(arm: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    run = TrainRun(
        folder=folder,
        model=model(),
        steps=steps,
        seed=seed,
        data=DataConfig(tokens_per_batch=8 * LENGTH, max_length=LENGTH),
        optimizer=OptimizerConfig(lr=3e-3),
        device="cpu",
        router_every=steps // 4,
        tensorboard=False,
        progress=False,
        export=False,
        peak_tflops=0.1,
        **ARMS[arm],
    )
    result = train(run, sources={"chain": Chain("chain", 100_000, seed)}, validation={"chain": Chain("chain", 64, 99)})
    curve = [record["loss"] for record in read_metrics(folder, "train")]
    rounding = read_metrics(folder, "fp8")
    return {
        "validation": result.validation["loss"],
        "curve": [round(statistics.fmean(curve[at : at + steps // 10]), 4) for at in range(0, steps, steps // 10)],
        "rounding": rounding[-1]["layers"] if rounding else {},
    }


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval."""
    mean = statistics.fmean(values)
    half = T_975[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 11))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    arms: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            for arm, results in arms.items():
                results.append(run_arm(arm, seed, args.steps, Path(folder) / f"{arm}-{seed}"))
    losses = {arm: [result["validation"] for result in results] for arm, results in arms.items()}
    result = {
        "environment": environment(),
        "steps": args.steps,
        "entropy": round(entropy(Chain("chain", 1, 0).probabilities), 4),
        "validation_loss": {arm: [round(loss, 4) for loss in values] for arm, values in losses.items()},
        "difference": {
            f"{a} - {b}": [round(x, 5) for x in interval([p - q for p, q in zip(losses[a], losses[b], strict=True)])]
            for a, b in PAIRS
        },
        "curve_of_seed_0": {arm: results[0]["curve"] for arm, results in arms.items()},
        "rounding_of_seed_0": arms["fp8"][0]["rounding"],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
