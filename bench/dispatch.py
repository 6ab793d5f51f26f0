"""The three ways of expert parallelism side by side: bytes that leave a rank per step, and time, on gloo ranks.

    python bench/dispatch.py [--ranks 4] [--tokens 1024] [--rounds 15] [--json FILE]

One step is forward and backward of one mixture of experts (hidden 256, width 128, float32) on T tokens per rank, the
ranks in step, the contestants in turn in the same processes. Bytes are counted at the collectives by a dispatch mode
and compared with the formulas of `expected_bytes`. Gloo over loopback shares the cores with the computation, so times
say what the exchanges cost *here*; the bytes are the same on any machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from paired import environment, ratios, run_rounds
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from s1pro.model.config import RouterConfig
from s1pro.model.moe import MoE
from s1pro.model.presets import bench
from s1pro.parallel.dispatch import build_dispatch

ROUTERS = {
    "64 experts, K = 8 of 8 groups": RouterConfig(num_experts=64, top_k=8, num_groups=8),
    "64 experts, K = 4 of 4 groups": RouterConfig(num_experts=64, top_k=4, num_groups=4),
    "64 experts, plain top-8": RouterConfig(num_experts=64, top_k=8),
}
FLOAT = 4


@dataclass(frozen=True)
class Contestant:
    """One mixture of experts with one dispatch, and its input."""

    moe: MoE
    x_TD: torch.Tensor

    def step(self) -> None:
        y_TD, _ = self.moe(self.x_TD)
        y_TD.sum().backward()
        for parameter in self.moe.parameters():
            parameter.grad = None
        self.x_TD.grad = None


class LeavingBytes(TorchDispatchMode):
    """Adds up what collectives send to other ranks."""

    def __init__(self, ranks: int, rank: int) -> None:
        super().__init__()
        self.total = 0.0
        self._ranks, self._rank = ranks, rank

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith("c10d."):
            self.total += self._bytes(name, args)
        return func(*args, **(kwargs or {}))

    def _bytes(self, name: str, args: Sequence[Any]) -> float:
        share = (self._ranks - 1) / self._ranks
        if "alltoall_base" in name:
            source, send_sizes = args[1], args[4]
            rows = source.shape[0] - send_sizes[self._rank] if send_sizes else source.shape[0] * share
            return float(rows) * source[0].numel() * source.element_size() if source.shape[0] else 0.0
        if "allgather_base" in name:
            return float(args[1].nbytes) * (self._ranks - 1)
        if "reduce_scatter_base" in name:
            return float(args[1].nbytes) * share
        if "barrier" in name:
            return 0.0
        raise ValueError(f"an unexpected collective: {name}")


def expected_bytes(name: str, router: RouterConfig, tokens: int, hidden: int, ranks: int) -> float:
    """Bytes of one step, forward and backward. Rows go and come twice; ids and weights are two numbers per row."""
    rows = tokens * router.top_k * (ranks - 1) / ranks
    slots = 2 * (2 * FLOAT) * rows
    if name == "all_gather":
        return 4 * tokens * (ranks - 1) * hidden * FLOAT + slots
    return 4 * rows * hidden * FLOAT + slots


def build(name: str, router: RouterConfig, tokens: int) -> Contestant:
    text = replace(bench().text, router=router)
    moe, generator = MoE(text), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(0.0, 0.05, generator=generator)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    for key, parameter in list(moe.experts.named_parameters()):
        setattr(moe.experts, key, nn.Parameter(parameter.detach().chunk(ranks)[rank].clone()))
    moe.dispatch = build_dispatch(name, router, dist.group.WORLD)  # type: ignore[arg-type]
    x_TD = torch.randn(tokens, text.hidden_size, generator=torch.Generator().manual_seed(rank), requires_grad=True)
    return Contestant(moe, x_TD)


def measure(rank: int, ranks: int, tokens: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of the result table; all ranks run it, rank 0 keeps it."""
    rows = []
    for title, router in ROUTERS.items():
        names = ("all_gather", "all_to_all", "counted") if router.num_groups > 1 else ("counted",)
        contestants = {name: build(name, router, tokens) for name in names}
        traffic = {name: leaving(contestants[name], ranks, rank) for name in names}
        timings = run_rounds({name: in_step(one) for name, one in contestants.items()}, rounds=rounds, warmup=3)
        for name in names:
            low, middle, high = ratios(timings["counted"], timings[name])
            expected = expected_bytes(name, router, tokens, bench().text.hidden_size, ranks)
            if name != "counted":
                assert traffic[name] == expected, (name, traffic[name], expected)
            rows.append(
                {
                    "router": title,
                    "dispatch": name,
                    "MB leaving a rank": round(traffic[name] / 1e6, 3),
                    "MB by formula": round(expected / 1e6, 3),
                    "ms, median": round(timings[name].median * 1e3, 1),
                    "ms, least": round(timings[name].best * 1e3, 1),
                    "counted / this: min, median, max": [round(x, 2) for x in (low, middle, high)],
                }
            )
    return rows


def leaving(contestant: Contestant, ranks: int, rank: int) -> float:
    counter = LeavingBytes(ranks, rank)
    with counter:
        contestant.step()
    return counter.total


def in_step(contestant: Contestant) -> Callable[[], None]:
    """A step that begins on all ranks at once and ends when the last is done."""

    def run() -> None:
        dist.barrier()
        contestant.step()
        dist.barrier()

    return run


def child(rank: int, ranks: int, folder: Path, tokens: int, rounds: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=120))
    rows = measure(rank, ranks, tokens, rounds)
    if rank == 0:
        (folder / "rows.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [(rank, args.ranks, folder, args.tokens, args.rounds) for rank in range(args.ranks)]
        processes = [context.Process(target=child, args=one, daemon=True) for one in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=600)
        if any(process.exitcode for process in processes):
            raise SystemExit("a rank failed, see above")
        rows = json.loads((folder / "rows.json").read_text())
    result = {"environment": environment(), "ranks": args.ranks, "tokens per rank": args.tokens, "rows": rows}
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
