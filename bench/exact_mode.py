"""What exact mode costs (`s1pro.kernels.exact`): decoding at batch 1 and 16 and a training step of the `bench` preset.

    python bench/exact_mode.py [--batch 1 16] [--rounds 5] [--threads 2] [--training-sequences 8] [--json FILE]

The same network in the same process, usual and exact in turn. Decoding: prompt 64, 128 new tokens, greedy. Training:
forward, backward and AdamW on sequences of 512 tokens. The ratio is exact over usual time, pair by pair; beside it the
same ratio of processor time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from generation import NEW, PROMPT
from paired import environment, ratios, run_rounds
from training import LENGTH, step_of

from s1pro.base.records import Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.serve.engine import Engine


def decoding(batch: int, exact: bool) -> Callable[[], object]:
    network = Network(bench()).eval()
    use_exact_operators(network, exact)
    engine = Engine(network)
    prompts = torch.randint(1, bench().text.vocab_size, (batch, PROMPT)).tolist()
    sampling = [Sampling(max_new_tokens=NEW, ignore_eos=True)] * batch
    return lambda: engine.generate(prompts, sampling)


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


def compare(build: Callable[[bool], Callable[[], object]], rounds: int) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, clock in (("wall", time.perf_counter), ("processor", time.process_time)):
        timings = run_rounds({"usual": build(False), "exact": build(True)}, rounds=rounds, clock=clock)
        low, middle, high = ratios(timings["exact"], timings["usual"])
        result[f"{name}_seconds"] = {key: round(timing.median, 3) for key, timing in timings.items()}
        result[f"{name}_ratio"] = {"min": round(low, 2), "median": round(middle, 2), "max": round(high, 2)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--training-sequences", type=int, default=8, help="0 leaves training out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = {f"decoding, batch {b}": compare(lambda e, b=b: decoding(b, e), args.rounds) for b in args.batch}
    if args.training_sequences:
        rows["training"] = compare(lambda e: training(args.training_sequences, e), args.rounds)
    text = json.dumps({"environment": environment(), "results": rows}, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
