"""Where the time of a step of reinforcement learning goes, in one process and on Ray.

    python bench/rl.py [--rounds 3] [--steps 10] [--workers 2] [--json FILE]

A small random model answers questions about molecules; every arm asks the same ones in the same pieces:

    local               engine and trainer take turns in one process
    ray                 the same on Ray: rollout workers, judges and trainer apart, synchronous
    ray, one step off   workers answer the next round while the trainer trains on this one
    ray, asynchronous   up to two rounds ahead; answers under way go on under new weights

Arms alternate, round by round. Of every run the first two steps are left out (actors start, caches fill). Reported are
seconds of the phases: waiting for answers (`rollout`: publishing included), old log-probabilities and packing
(`prepare`), forward, backward and optimizer (`update`); the share of a step that the trainer waits; bytes of routing
per token and of a publication.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from paired import environment

from s1pro.checkpoint.released import save_network
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.rl.loop import train_rl
from s1pro.rl.system.config import SystemConfig
from s1pro.tasks import registry
from s1pro.train.config import DataConfig
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig

WARM_UP = 2
PHASES = ("rollout", "prepare", "update", "step")
TASK = "group_in_smiles"


def arms(workers: int) -> dict[str, SystemConfig]:
    ray: dict[str, Any] = {"mode": "ray", "workers": workers, "shards": workers}
    return {
        "local": SystemConfig(shards=workers),
        "ray": SystemConfig(**ray),
        "ray, one step off": SystemConfig(**ray, schedule="one_step_off"),
        "ray, asynchronous": SystemConfig(**ray, schedule="asynchronous", max_staleness=2, under_way="keep"),
    }


def make_model(folder: Path) -> Path:
    task = registry.for_learning(TASK, num_items=400)
    texts = [message.text for item in task.items() for message in task.prompt(item).messages]
    smiles = [str(item.asked["smiles"]) for item in task.items()]
    tokenizer = train_tokenizer(texts, smiles=smiles, vocab_size=400, science_sizes={"SMILES": 64})
    save_network(Network(presets.tiny(tokenizer.vocab_size), seed=1), folder)
    Processor(tokenizer).save_pretrained(folder)
    return folder


def run_once(model: Path, folder: Path, system: SystemConfig, steps: int, prompts: int) -> list[dict[str, float]]:
    """Phases of the steps behind the warm-up."""
    run = RLRun(
        folder=folder,
        init_from=model,
        tasks=(TaskConfig(name=TASK, num_items=400),),
        rollout=RolloutConfig(prompts=prompts, group_size=4, max_new_tokens=32, drop_uniform=False, concurrency=64),
        data=DataConfig(tokens_per_batch=1024, max_length=1024),
        optimizer=OptimizerConfig(lr=1e-4),
        system=system,
        steps=steps + WARM_UP,
        tensorboard=False,
        progress=False,
        export=False,
        peak_tflops=0.1,
    )
    train_rl(run)
    found = []
    for step, rollout in zip(read_metrics(folder, "train"), read_metrics(folder, "rollout"), strict=True):
        waiting, preparing = rollout["rollout_seconds"], rollout["prepare_seconds"]
        phases = {"rollout": waiting, "prepare": preparing, "step": step["seconds"]}
        phases["update"] = step["seconds"] - waiting - preparing
        wire = {name: rollout[name] for name in ("published_bytes", "trace_bytes_per_token") if name in rollout}
        found.append({**phases, **wire, "lag": rollout.get("lag", 0.0), "tokens": step["tokens"]})
    return found[WARM_UP:]


def measure(rounds: int, steps: int, workers: int, prompts: int) -> dict[str, list[list[dict[str, float]]]]:
    import ray

    ray.init(num_cpus=4 * workers + 4, include_dashboard=False, log_to_driver=False)
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in arms(workers)}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model")
        for number in range(rounds):
            for name, system in arms(workers).items():
                place = Path(folder) / f"{name} {number}"
                found[name].append(run_once(model, place, system, steps, prompts))
    ray.shutdown()
    return found


def typical(run: list[dict[str, float]], name: str) -> float:
    """Median over the steps of a run: other programs on the machine come in bursts."""
    return statistics.median(step[name] for step in run)


def table(found: dict[str, list[list[dict[str, float]]]]) -> str:
    lines = ["| arm | " + " | ".join(PHASES) + " | waits | step / local | lag |", "|---|" + "---|" * (len(PHASES) + 3)]
    for name, runs in found.items():
        cells = [f"{statistics.median(typical(run, phase) for run in runs):.3f}" for phase in PHASES]
        waits = statistics.median(statistics.median(s["rollout"] / s["step"] for s in run) for run in runs)
        pairs = [typical(run, "step") / typical(local, "step") for run, local in zip(runs, found["local"], strict=True)]
        ratio = f"{statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})"
        lag = statistics.fmean(typical(run, "lag") for run in runs)
        lines.append(f"| {name} | {' | '.join(cells)} | {waits:.0%} | {ratio} | {lag:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(environment())
    found = measure(args.rounds, args.steps, args.workers, args.prompts)
    print(table(found))
    wire = found["ray"][0][-1]
    print(
        f"routing: {wire['trace_bytes_per_token']:g} bytes per token; a publication: {wire['published_bytes']:,} bytes"
    )
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
