"""Cost of one generated token at batch 1 while the number of experts grows from 8 to 512 (top-8, expert width fixed).

    python bench/expert_scaling.py [--rounds 7] [--threads 2] [--json FILE]

The arithmetic per token is constant, so an engine whose cost grows with the number of experts wastes time on experts
that nobody chose. Aim: flat within 20 %. All sizes are timed in turn in one process.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from paired import environment, ratios, run_rounds

from s1pro.base.records import Sampling
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.serve.engine import Engine

EXPERTS = (8, 32, 128, 512)
PROMPT, NEW = 1, 96  # a prompt of one token: only decoding steps are timed


def with_experts(num_experts: int) -> ModelConfig:
    """The `bench` preset with E experts in 8 groups."""
    base = bench()
    router = replace(base.text.router, num_experts=num_experts)
    return replace(base, text=replace(base.text, router=router))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prompt = [list(range(1, PROMPT + 1))]
    sampling = [Sampling(max_new_tokens=NEW, ignore_eos=True)]
    engines = {str(count): Engine(Network(with_experts(count)).eval()) for count in EXPERTS}
    calls = {name: (lambda engine=engine: engine.generate(prompt, sampling)) for name, engine in engines.items()}
    timings = run_rounds(calls, rounds=args.rounds, warmup=2)
    smallest = timings[str(EXPERTS[0])]
    result = {
        "environment": environment(),
        "ms_per_token": {name: round(1e3 * timing.median / NEW, 3) for name, timing in timings.items()},
        "ratio_to_8_experts": {
            name: [round(value, 3) for value in ratios(timing, smallest)] for name, timing in timings.items()
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
