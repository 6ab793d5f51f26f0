"""Generated tokens/s against transformers `generate()`: sizes of `bench/training.py`, greedy, prompt 64, 128 new.

    python bench/generation.py [--batch 1 16] [--rounds 5] [--threads 2] [--processor-time] [--json FILE]

Both sides run in this process, in turn. The peer is measured with each of its expert implementations; the ratio that
counts is against the best of them. Also printed: the share of the machine's measured memory bandwidth that decoding
reaches, counting every weight that a step must read once. With one thread on a machine that others use,
`--processor-time` times what the processor did for this process instead of the wall clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from paired import Timing, environment, ratios, run_rounds
from peer import build_peer

from s1pro.base.records import Sampling
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.model.sizes import count_parameters
from s1pro.serve.engine import Engine

PROMPT, NEW = 64, 128


def own_call(prompts_BS: torch.Tensor) -> Callable[[], object]:
    engine = Engine(Network(bench()).eval(), serves_only=True)
    prompts = prompts_BS.tolist()
    sampling = [Sampling(max_new_tokens=NEW, ignore_eos=True)] * len(prompts)
    return lambda: engine.generate(prompts, sampling)


def peer_call(prompts_BS: torch.Tensor, implementation: str) -> Callable[[], object]:
    model = build_peer(bench(), implementation).eval()
    mask = torch.ones_like(prompts_BS)

    @torch.inference_mode()
    def call() -> object:
        return model.generate(
            prompts_BS, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, use_cache=True
        )

    return call


def memory_bandwidth(clock: Callable[[], float]) -> float:
    """Measured bytes/s of reading a 512 MB tensor (best of several sums)."""
    x = torch.ones(128 * 1024 * 1024)
    timing = run_rounds({"read": lambda: x.sum()}, rounds=10, warmup=2, clock=clock)["read"]
    return x.numel() * 4 / timing.best


def weights_read_per_step(batch: int) -> float:
    """Bytes of the weights one decoding step must touch when `batch` tokens choose experts independently."""
    text, sizes = bench().text, count_parameters(bench())
    expert = 3 * text.hidden_size * text.moe_intermediate_size
    chosen = text.num_hidden_layers * text.router.top_k * expert
    per_group = text.router.experts_per_group
    distinct = text.router.num_groups * per_group * (1 - (1 - 1 / per_group) ** batch)
    return 4 * (sizes.active - chosen + text.num_hidden_layers * distinct * expert)


def report(batch: int, timings: dict[str, Timing], bandwidth: float) -> dict[str, object]:
    own = timings["s1pro"]
    best = min((timing for name, timing in timings.items() if name != "s1pro"), key=lambda timing: timing.median)
    low, middle, high = ratios(best, own)
    return {
        "batch": batch,
        "tokens_per_second": {name: round(batch * NEW / timing.median, 1) for name, timing in timings.items()},
        "best_peer": best.name,
        "ratio_to_best_peer": {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)},
        "share_of_memory_bandwidth": round(weights_read_per_step(batch) * NEW / own.median / bandwidth, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.processor_time and args.threads > 1:
        parser.error("--processor-time adds up the threads: use it with --threads 1")
    clock = time.process_time if args.processor_time else time.perf_counter
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    bandwidth = memory_bandwidth(clock)
    rows = []
    for batch in args.batch:
        prompts_BS = torch.randint(1, bench().text.vocab_size, (batch, PROMPT))
        contestants = {"s1pro": own_call(prompts_BS)}
        contestants |= {f"transformers {name}": peer_call(prompts_BS, name) for name in ("grouped_mm", "eager")}
        rows.append(report(batch, run_rounds(contestants, rounds=args.rounds, clock=clock), bandwidth))
    result = {"environment": environment(), "bandwidth_gb_per_s": round(bandwidth / 1e9, 1), "results": rows}
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
