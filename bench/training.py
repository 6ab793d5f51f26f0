"""Training tokens/s against transformers: hidden 256, 6 layers, 64 experts (8 groups against its plain top-8), fp32.

    python bench/training.py [--rounds 5] [--threads 2] [--json FILE]

One round is one optimiser step (forward, backward, clipping, fused AdamW) on 8 sequences of 512 tokens. Both sides
run in this process, in turn, with the same threads, allocator settings, optimiser and data. The peer is measured with
each of its expert implementations that finishes; the ratio that counts is against the best of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from paired import Timing, environment, ratios, run_rounds
from peer import build_peer

from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.model.sizes import forward_flops_per_token

SEQUENCES, LENGTH = 8, 512
TOKENS = SEQUENCES * LENGTH


def step_of(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def own_step(ids_BS: torch.Tensor) -> Callable[[], None]:
    network = Network(bench())
    ids_T = ids_BS.flatten()
    targets_BS = torch.full_like(ids_BS, -100)
    targets_BS[:, :-1] = ids_BS[:, 1:]
    targets_T = targets_BS.flatten()
    weights_T = (targets_T >= 0).float()
    positions_T = torch.arange(LENGTH).repeat(SEQUENCES)
    context = PackedContext.from_lengths([LENGTH] * SEQUENCES)

    def loss() -> torch.Tensor:
        hidden_TD = network(ids_T, positions_T, context, compute_logits=False).hidden_TD
        total = linear_cross_entropy(hidden_TD, network.lm_head.weight, targets_T, weights_T)[0]
        return total / weights_T.sum()

    return step_of(network, loss)


def peer_step(ids_BS: torch.Tensor, implementation: str) -> Callable[[], None]:
    model = build_peer(bench(), implementation).train()
    return step_of(model, lambda: model(input_ids=ids_BS, labels=ids_BS).loss)


def gemm_peak() -> float:
    """Measured float32 GEMM speed of this machine in FLOP/s (best of several 1024^3 products)."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    timing = run_rounds({"gemm": lambda: a @ b}, rounds=20, warmup=3)["gemm"]
    return 2 * 1024**3 / timing.best


def report(timings: dict[str, Timing], peak: float) -> dict[str, object]:
    own = timings["s1pro"]
    peers = {name: timing for name, timing in timings.items() if name != "s1pro"}
    best = min(peers.values(), key=lambda timing: timing.median)
    low, middle, high = ratios(best, own)
    flops = 3 * forward_flops_per_token(bench(), LENGTH / 2)
    return {
        "environment": environment(),
        "tokens_per_second": {name: round(TOKENS / timing.median) for name, timing in timings.items()},
        "best_peer": best.name,
        "ratio_to_best_peer": {"min": round(low, 3), "median": round(middle, 3), "max": round(high, 3)},
        "rounds": len(own.seconds),
        "gemm_peak_gflops": round(peak / 1e9),
        "share_of_gemm_peak": round(flops * TOKENS / own.median / peak, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ids_BS = torch.randint(0, bench().text.vocab_size, (SEQUENCES, LENGTH))
    peak = gemm_peak()
    contestants = {"s1pro": own_step(ids_BS)}
    contestants |= {f"transformers {name}": peer_step(ids_BS, name) for name in ("grouped_mm", "eager")}
    result = report(run_rounds(contestants, rounds=args.rounds), peak)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
