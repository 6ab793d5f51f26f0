"""What exact mode costs (`s1pro.kernels.exact`): decoding at batch 1 and 16 and a training step of the `bench` preset.

    python bench/exact_mode.py [--batch 1 16] [--rounds 20] [--threads 1]
                               [--training-sequences 4] [--training-rounds 3] [--json FILE]

The same network in the same process, usual and exact in turn. Decoding: greedy, prompts of 64 tokens, five steps of
each in a round. Training: forward, backward and AdamW on sequences of 512 tokens. The ratio is exact over usual time,
pair by pair. With one thread the clock is the time the processor worked for it, which other programs of the machine
disturb less; with more it is the wall clock, which tells something on a machine at rest only: threads that wait for
each other while others have the cores make a step take a hundred times as long.

The engine that is compared shares its network with a trainer, as in reinforcement learning. One that only serves is
faster (`bench/serving.py`) and cannot be exact.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from generation import NEW, PROMPT
from paired import Timing, environment, ratios, run_rounds
from training import LENGTH, step_of

from s1pro.base.records import Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.serve.engine import Engine

STEPS = 5
"""Of a round."""

Clock = Callable[[], float]


class Decoding:
    """An engine whose requests never end: they are asked anew, outside of the time."""

    def __init__(self, batch: int, exact: bool) -> None:
        self._engine = Engine(Network(bench()).eval(), exact=exact)
        self._prompts = torch.randint(1, bench().text.vocab_size, (batch, PROMPT)).tolist()
        self._left = 0

    def get_ready(self) -> None:
        if self._left >= STEPS:
            return
        while self._engine.has_work:
            self._engine.step()
        for prompt in self._prompts:
            self._engine.submit(self._engine.prepare(prompt, Sampling(max_new_tokens=NEW, ignore_eos=True)))
        self._engine.step()
        self._left = NEW - 1

    def run(self) -> None:
        for _ in range(STEPS):
            self._engine.step()
        self._left -= STEPS


def decoding(batch: int, rounds: int, clock: Clock) -> dict[str, object]:
    engines = {"usual": Decoding(batch, exact=False), "exact": Decoding(batch, exact=True)}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds + 1):
        for name, engine in engines.items():
            engine.get_ready()
            start = clock()
            engine.run()
            if turn > 0:
                seconds[name].append((clock() - start) / STEPS)
    return report({name: Timing(name, tuple(values)) for name, values in seconds.items()})


def training(sequences: int, exact: bool) -> Callable[[], object]:
    network = Network(bench())
    use_exact_operators(network, exact)
    ids_T = torch.randint(0, bench().text.vocab_size, (sequences * LENGTH,))
    weights_T = torch.ones(len(ids_T))
    positions_T = torch.arange(LENGTH).repeat(sequences)
    context = PackedContext.from_lengths([LENGTH] * sequences)

    def loss() -> torch.Tensor:
        hidden_TD = network(ids_T, positions_T, context, compute_logits=False).hidden_TD
        head = network.lm_head.weight
        total, _ = linear_cross_entropy(hidden_TD, head, ids_T.roll(-1), weights_T, exact=network.exact)
        return total / len(ids_T)

    return step_of(network, loss)


def report(timings: dict[str, Timing]) -> dict[str, object]:
    low, middle, high = ratios(timings["exact"], timings["usual"])
    return {
        "milliseconds": {name: round(1e3 * timing.median, 2) for name, timing in timings.items()},
        "ratio": {"min": round(low, 2), "median": round(middle, 2), "max": round(high, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=20, help="of decoding")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training-sequences", type=int, default=4, help="0 leaves training out")
    parser.add_argument("--training-rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    rows = {f"decoding, batch {batch}": decoding(batch, args.rounds, clock) for batch in args.batch}
    if args.training_sequences:
        steps = {name: training(args.training_sequences, name == "exact") for name in ("usual", "exact")}
        rows["training"] = report(run_rounds(steps, rounds=args.training_rounds, clock=clock))
    text = json.dumps({"environment": environment(), "results": rows}, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
