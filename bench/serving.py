"""The engine under several concurrent requests, against transformers: sizes of `bench/training.py`, greedy.

    python bench/serving.py [--only 1 8 32 mixed first prefix guess] [--rounds 5] [--dtype bfloat16] [--json FILE]

* 1, 8, 32: as many equal requests at once (prompt 64, 64 new), against `generate` of transformers with a static batch,
  the best of its expert implementations (`batched_mm` and a static cache are slower on a CPU);
* mixed: 32 requests at once, prompts of 16 to 128 tokens, answers of 16 to 96, against the manager of its continuous
  batching, warm ones with caches of fitting size and the attention that it chooses on a CPU (SDPA), the best of two
  settings for pages and steps;
* first: time to the first token of a prompt of 64 tokens that arrives while 0, 7 or 31 other requests decode;
* prefix: time to the first token of a prompt of 512 tokens, of which 480 another request had, with and without cache;
* guess: an answer of 128 tokens that repeats itself, with and without guesses.

Everything runs in this process with one thread, in turn. The clock is the time the processor worked for it
(`time.process_time`), so other programs of the machine disturb less; with one thread it is the wall time of a machine
of its own. Weights are random; prompts differ in every call, so that our prefix cache does not help (but in its part).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paired import Timing, environment, ratios, run_rounds
from peer import build_peer
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from s1pro.base.records import Sampling
from s1pro.model.network import Network
from s1pro.model.presets import bench
from s1pro.serve.engine import Engine

PROMPT, NEW = 64, 64
VOCAB = bench().text.vocab_size
PARTS = ("1", "8", "32", "mixed", "first", "prefix", "guess")

Load = list[tuple[list[int], int]]
"""Prompts, and how many tokens to generate for each."""


def dtype_of(network: Network) -> torch.dtype:
    return network.lm_head.weight.dtype


def equal_load(rng: random.Random, batch: int) -> Load:
    return [([rng.randrange(1, VOCAB) for _ in range(PROMPT)], NEW) for _ in range(batch)]


def mixed_load(rng: random.Random) -> Load:
    lengths = [(rng.randint(16, 128), rng.randint(16, 96)) for _ in range(32)]
    return [([rng.randrange(1, VOCAB) for _ in range(prompt)], new) for prompt, new in lengths]


def own(network: Network, load: Callable[[], Load], **settings: Any) -> Callable[[], object]:
    engine = Engine(network, serves_only=True, **settings)

    def call() -> object:
        asked = load()
        samplings = [Sampling(max_new_tokens=new, ignore_eos=True) for _, new in asked]
        return engine.generate([prompt for prompt, _ in asked], samplings)

    return call


def static(implementation: str, load: Callable[[], Load], dtype: torch.dtype) -> Callable[[], object]:
    model = build_peer(bench(), implementation).eval().to(dtype)

    @torch.inference_mode()
    def call() -> object:
        prompts_BS = torch.tensor([prompt for prompt, _ in load()])
        mask = torch.ones_like(prompts_BS)
        return model.generate(
            prompts_BS, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, use_cache=True
        )

    return call


def continuous(
    load: Callable[[], Load], page: int, blocks: int, step_tokens: int, dtype: torch.dtype
) -> tuple[Callable[[], object], Callable[[], None]]:
    """A call, and how to end the manager's thread."""
    model = build_peer(bench(), "grouped_mm").eval().to(dtype)
    settings = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0)
    sizes = ContinuousBatchingConfig(max_batch_tokens=step_tokens, num_blocks=blocks, page_size=page)
    manager = model.init_continuous_batching(generation_config=settings, continuous_batching_config=sizes)
    manager.start()

    def call() -> object:
        asked = load()
        names = {manager.add_request(prompt, max_new_tokens=new): new for prompt, new in asked}
        while names:
            result = manager.get_result(timeout=60)
            assert result is not None, "the manager gave nothing for a minute"
            if result.is_finished() and names.pop(result.request_id, None) is not None:
                assert result.error is None, result.error
        return None

    return call, lambda: manager.stop(block=True)


def compare(name: str, tokens: int, timings: dict[str, Timing]) -> dict[str, Any]:
    peers = {key: timing for key, timing in timings.items() if key != "s1pro"}
    best = min(peers.values(), key=lambda timing: timing.median)
    low, middle, high = ratios(best, timings["s1pro"])
    return {
        "part": name,
        "output_tokens_per_second": {key: round(tokens / timing.median, 1) for key, timing in timings.items()},
        "best_peer": best.name,
        "ratio": {"min": round(low, 2), "median": round(middle, 2), "max": round(high, 2)},
    }


def equal_part(batch: int, network: Network, rng: random.Random, rounds: int) -> dict[str, Any]:
    contestants = {"s1pro": own(network, lambda: equal_load(rng, batch))}
    for implementation in ("grouped_mm", "eager"):
        contestants[f"generate {implementation}"] = static(
            implementation, lambda: equal_load(rng, batch), dtype_of(network)
        )
    timings = run_rounds(contestants, rounds=rounds, clock=time.process_time)
    return compare(f"{batch} equal", batch * NEW, timings)


def mixed_part(network: Network, rng: random.Random, rounds: int) -> dict[str, Any]:
    loads = [mixed_load(rng) for _ in range(rounds + 1)]

    def same_for_all() -> Callable[[], Load]:
        given = iter(loads)
        return lambda: next(given)

    contestants, stops = {"s1pro": own(network, same_for_all())}, []
    for page, blocks, step_tokens in ((256, 64, 2048), (64, 256, 512)):
        call, stop = continuous(same_for_all(), page, blocks, step_tokens, dtype_of(network))
        contestants[f"continuous batching, steps of {step_tokens}"] = call
        stops.append(stop)
    timings = run_rounds(contestants, rounds=rounds, clock=time.process_time)
    for stop in stops:
        stop()
    return compare("32 mixed", sum(new for load in loads[1:] for _, new in load) // rounds, timings)


def first_part(network: Network, rng: random.Random, rounds: int) -> dict[str, Any]:
    """Processor time until the first token is there, other requests' steps in between included."""
    result: dict[str, Any] = {"part": "first, ms to first token"}
    for others in (0, 7, 31):
        seconds = []
        for _ in range(rounds + 1):
            engine = Engine(network, serves_only=True)
            for prompt, new in equal_load(rng, others):
                engine.submit(engine.prepare(prompt, Sampling(max_new_tokens=new, ignore_eos=True)))
            for _ in range(8):
                engine.step()
            start = time.process_time()
            request = engine.prepare(equal_load(rng, 1)[0][0], Sampling(max_new_tokens=8, ignore_eos=True))
            engine.submit(request)
            while not request.token_ids:
                engine.step()
            seconds.append(time.process_time() - start)
        ordered = sorted(seconds[1:])
        result[f"beside {others}"] = [round(1e3 * ordered[i], 1) for i in (0, len(ordered) // 2, -1)]
    return result


def prefix_part(network: Network, rng: random.Random, rounds: int) -> dict[str, Any]:
    """Processor time until the first token is there."""
    result: dict[str, Any] = {"part": "prefix, ms to first token"}
    for name, cached in (("cache", True), ("no cache", False)):
        engine, seconds = Engine(network, prefix_cache=cached, serves_only=True), []
        for _ in range(rounds):
            opening = [rng.randrange(1, VOCAB) for _ in range(480)]
            engine.generate([opening], Sampling(max_new_tokens=1))
            prompt = opening + [rng.randrange(1, VOCAB) for _ in range(32)]
            start = time.process_time()
            engine.generate([prompt], Sampling(max_new_tokens=1))
            seconds.append(time.process_time() - start)
        ordered = sorted(seconds)
        result[name] = [round(1e3 * ordered[i], 1) for i in (0, len(ordered) // 2, -1)]
    return result


def guess_part(network: Network, rng: random.Random, rounds: int) -> dict[str, Any]:
    """A network without attention soon repeats itself: nearly all guesses are right, the best case."""
    repeating = Network(bench(), seed=1).eval().to(dtype_of(network))
    with torch.no_grad():
        for layer in repeating.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()

    def load() -> Load:
        return [([rng.randrange(1, VOCAB) for _ in range(PROMPT)], 128)]

    contestants = {"plain": own(repeating, load), "guessing": own(repeating, load, draft_tokens=8)}
    timings = run_rounds(contestants, rounds=rounds, clock=time.process_time)
    low, middle, high = ratios(timings["plain"], timings["guessing"])
    rates = {key: round(128 / timing.median, 1) for key, timing in timings.items()}
    return {"part": "guess", "output_tokens_per_second": rates, "ratio": [round(x, 2) for x in (low, middle, high)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of all contestants")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, rng = Network(bench()).eval().to(getattr(torch, args.dtype)), random.Random(0)
    results = []
    for part in args.only:
        if part.isdigit():
            results.append(equal_part(int(part), network, rng, args.rounds))
        else:
            run = {"mixed": mixed_part, "first": first_part, "prefix": prefix_part, "guess": guess_part}[part]
            results.append(run(network, rng, args.rounds))
        print(json.dumps(results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"environment": environment(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
