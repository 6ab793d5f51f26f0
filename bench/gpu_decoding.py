"""Decoding on a GPU: tokens/s with and without CUDA graphs, against transformers, and against the card's memory.

    python bench/gpu_decoding.py [--preset 30b-a3b] [--batch 1 8 32] [--rounds 5] [--json FILE]
    python bench/gpu_decoding.py --device cpu --preset bench --batch 1 --rounds 1 --new 8     # a dry run

BF16 weights are drawn on the device. transformers gets the *same* tensors (its names and shapes are ours), so both
sides fit one card; where a preset has no router groups and no Fourier positions it is the same model, and the share of
greedy tokens on which both agree is printed (random weights: near ties part ways).

Every call generates `--new` tokens, and once a round one token; the difference is decoding without the prompt.
Contestants take turns (`paired.py`). Bytes of a step: every weight that its tokens use, once, and keys and values of
its context. They are compared with a copy of one large tensor, read and written, in the same run.

On a CPU the recorded step is called again instead of replayed, which says that the script works and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from paired import Timing, environment, ratios, run_rounds
from peer import build_peer
from torch import Tensor

from s1pro.base.records import Completion, Sampling
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import PRESETS
from s1pro.model.rope import RotaryEmbedding
from s1pro.model.sizes import cache_bytes_per_token, count_parameters
from s1pro.serve import recorders
from s1pro.serve.engine import Engine

PROMPT = 32
EACH_SIDE = "graphs", "eager"
DTYPE = torch.bfloat16

Generate = Callable[[int], Any]
"""So many new tokens for every prompt."""


@torch.no_grad()
def random_network(config: ModelConfig, device: torch.device) -> Network:
    """Drawn where it lies: 30 billion numbers of a CPU would take minutes."""
    with torch.device("meta"):
        network = Network(config)
    network = network.to(DTYPE).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.endswith("norm.weight"):
            parameter.fill_(1)
        else:
            parameter.normal_(0, 0.02, generator=generator)
    for module in network.modules():
        if isinstance(module, RotaryEmbedding):
            for coef in module.coefficients():
                coef.copy_(torch.eye(coef.shape[-1], device=device).expand_as(coef))
    return network


def own(network: Network, prompts_BS: Tensor, new: int, *, graphs: bool) -> Generate:
    batch, length = prompts_BS.shape
    engine = Engine(
        network,
        max_batch=batch,
        cache_tokens=batch * (length + new + 32),
        max_context=length + new + 1,
        step_tokens=max(2048, batch),
        prefix_cache=False,
        cuda_graphs=graphs,
    )
    prompts = prompts_BS.tolist()
    return lambda count: engine.generate(prompts, Sampling(max_new_tokens=count, ignore_eos=True))


def peer(network: Network, prompts_BS: Tensor, implementation: str) -> Generate:
    """transformers' model around our tensors."""
    with torch.device("meta"):
        model = build_peer(network.config, implementation).to(DTYPE)
    tensors = network.state_dict()
    names = {name: name.replace("model.", "model.language_model.", 1) for name in model.state_dict()}
    names["lm_head.weight"] = "lm_head.weight"
    model.load_state_dict({name: tensors[ours] for name, ours in names.items()}, strict=True, assign=True)
    fresh = type(model.model.rotary_emb)(model.config)  # its frequencies are no parameters: still on meta
    model.model.rotary_emb = fresh.to(prompts_BS.device)
    model.eval()
    mask_BS = torch.ones_like(prompts_BS)

    @torch.inference_mode()
    def call(count: int) -> Tensor:
        settings = {"do_sample": False, "use_cache": True, "max_new_tokens": count, "min_new_tokens": count}
        ids_BS: Tensor = model.generate(prompts_BS, attention_mask=mask_BS, **settings)
        return ids_BS[:, prompts_BS.shape[1] :]

    return call


def copy_bandwidth(device: torch.device) -> float:
    """Bytes/s, read and written, of the best of several copies of a large tensor."""
    size = 2**30 if device.type == "cuda" else 2**26
    source, target = (
        torch.zeros(size, dtype=torch.uint8, device=device),
        torch.empty(size, dtype=torch.uint8, device=device),
    )

    def copy() -> None:
        target.copy_(source)
        wait(device)

    return 2 * size / run_rounds({"copy": copy}, rounds=10, warmup=3)["copy"].best


def bytes_per_step(config: ModelConfig, batch: int, context: float) -> float:
    """Weights that `batch` tokens use when they choose experts independently, and their keys and values."""
    text, sizes = config.text, count_parameters(config)
    layers, router = len(text.moe_layers), text.router
    expert = 3 * text.hidden_size * text.moe_intermediate_size
    unused = (1 - router.top_k_per_group / router.experts_per_group) ** batch
    others = sizes.active - layers * router.top_k * expert
    weights = others + layers * router.num_experts * (1 - unused) * expert
    return DTYPE.itemsize * weights + batch * context * cache_bytes_per_token(config)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def decoding(long: Timing, short: Timing) -> Timing:
    """Seconds of a round without prompt and first token."""
    return Timing(long.name, tuple(a - b for a, b in zip(long.seconds, short.seconds, strict=True)))


def agreement(mine: list[Completion], theirs_BS: Tensor) -> float:
    """Share of tokens up to the first one on which both sides differ."""
    same = total = 0
    for answer, other in zip(mine, theirs_BS.tolist(), strict=True):
        equal = [a == b for a, b in zip(answer.token_ids, other, strict=True)]
        same, total = same + (equal.index(False) if False in equal else len(equal)), total + len(equal)
    return same / total


def measure(network: Network, batch: int, args: argparse.Namespace, bandwidth: float) -> dict[str, Any]:
    device, config = network.lm_head.weight.device, network.config
    generator = torch.Generator().manual_seed(batch)
    prompts_BS = torch.randint(1, config.text.vocab_size, (batch, PROMPT), generator=generator).to(device)
    sides = {name: own(network, prompts_BS, args.new, graphs=name == "graphs") for name in EACH_SIDE}
    sides |= {f"transformers {name}": peer(network, prompts_BS, name) for name in args.peers}

    def timed(generate: Generate, count: int) -> Callable[[], None]:
        def call() -> None:
            generate(count)
            wait(device)

        return call

    contestants = {f"{name}, {n}": timed(call, n) for name, call in sides.items() for n in (args.new, 1)}
    found = run_rounds(contestants, rounds=args.rounds, warmup=2)
    timings = {name: decoding(found[f"{name}, {args.new}"], found[f"{name}, 1"]) for name in sides}
    steps = args.new - 1
    per_step = bytes_per_step(config, batch, PROMPT + args.new / 2)
    result: dict[str, Any] = {
        "batch": batch,
        "decoded_tokens_per_second": {name: round(batch * steps / t.median, 1) for name, t in timings.items()},
        "ms_per_step": {name: round(1e3 * t.median / steps, 3) for name, t in timings.items()},
        "share_of_copy_bandwidth": {
            name: round(per_step * steps / t.median / bandwidth, 3) for name, t in timings.items()
        },
        "ratio_to_eager": spread(timings["eager"], timings["graphs"]),
    }
    if args.peers:
        best = min((timings[f"transformers {name}"] for name in args.peers), key=lambda t: statistics.median(t.seconds))
        result["ratio_to_best_peer"] = {best.name.rpartition(",")[0]: spread(best, timings["graphs"])}
        theirs = sides[f"transformers {args.peers[0]}"](args.new)
        result["agreement_with_peer"] = round(agreement(sides["graphs"](args.new), theirs), 3)
    return result


def spread(slow: Timing, fast: Timing) -> list[float]:
    """Least, median and largest ratio of the rounds."""
    return [round(value, 3) for value in ratios(slow, fast)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="30b-a3b")
    parser.add_argument("--layers", type=int, help="fewer layers than the preset, for a quick look")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=128, help="tokens of every answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["grouped_mm", "batched_mm"], help="transformers' experts")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: this measures a GPU and there is none; a dry run: --device cpu --preset bench", file=sys.stderr)
        return 2
    if args.new < 2 or args.rounds < 1 or min(args.batch) < 1:
        parser.error("--new must be at least 2, --rounds and --batch at least 1")
    if args.device == "cpu":
        recorders.recorder_for = lambda device: recorders.CallAgain()  # type: ignore[assignment]
    device, config = torch.device(args.device), PRESETS[args.preset]()
    if args.layers:
        config = replace(config, text=replace(config.text, num_hidden_layers=args.layers))
    bandwidth = copy_bandwidth(device)
    network = random_network(config, device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "dry run on a CPU"
    result: dict[str, Any] = {
        "environment": f"{card}; {environment()}",
        "model": {"preset": args.preset, "layers": config.text.num_hidden_layers, "dtype": str(DTYPE)},
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "results": [],
    }
    for batch in args.batch:
        result["results"].append(measure(network, batch, args, bandwidth))
        print(json.dumps(result["results"][-1]), flush=True)
    print(json.dumps({key: value for key, value in result.items() if key != "results"}))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
