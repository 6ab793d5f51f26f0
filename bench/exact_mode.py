"""What exact mode costs (`s1pro.kernels.exact`): decoding at batch 1 and 16 and a training step of the `bench` preset.

    python bench/exact_mode.py [--batch 1 16] [--decoding-rounds 20] [--rounds 3] [--threads 1]
        [--training-sequences 4] [--fp8] [--media] [--json FILE]

The same network in the same process, usual and exact in turn. Decoding: greedy, prompts of 64 tokens, five steps of
each in a round. Training: forward, backward and AdamW on sequences of 512 tokens; `--fp8` computes the experts of both
sides in FP8. Media: pictures and signals through small towers, one by one instead of together, without gradients. The
ratio is exact over usual time, pair by pair. With one thread the clock is the time the processor worked for it, which
other programs of the machine disturb less; with more it is the wall clock, which tells something on a machine at rest
only: threads that wait for each other while others have the cores make a step take a hundred times as long.

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

from s1pro.base.media import Media, Patches, Signals
from s1pro.base.records import Sampling
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.model.exact import use_exact_operators
from s1pro.model.media import scatter_media
from s1pro.model.network import Network
from s1pro.model.placeholders import patch_tokens, signal_tokens
from s1pro.model.precision import use_fp8_experts
from s1pro.model.presets import bench, with_media
from s1pro.serve.engine import Engine

STEPS = 5
"""Of a round."""

Clock = Callable[[], float]


class Decoding:
    """An engine whose requests never end: they are asked anew, outside of the time."""

    def __init__(self, batch: int, exact: bool, fp8: bool) -> None:
        network = Network(bench()).eval()
        if fp8:
            use_fp8_experts(network)
        self._engine = Engine(network, exact=exact)
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


def decoding(batch: int, fp8: bool, rounds: int, clock: Clock) -> dict[str, object]:
    engines = {name: Decoding(batch, name == "exact", fp8) for name in ("usual", "exact")}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds + 1):
        for name, engine in engines.items():
            engine.get_ready()
            start = clock()
            engine.run()
            if turn > 0:
                seconds[name].append((clock() - start) / STEPS)
    return report({name: Timing(name, tuple(values)) for name, values in seconds.items()})


def training(sequences: int, exact: bool, fp8: bool) -> Callable[[], object]:
    network = Network(bench())
    if fp8:
        use_fp8_experts(network)
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


def pictures(count: int, side: int) -> Media[torch.Tensor]:
    """Of so many patches of 16 pixels along each side."""
    pixels = torch.randn(count * side * side, 3 * 2 * 16 * 16)
    return Media(images=Patches(pixel_values_PX=pixels, grids=((1, side, side),) * count))


def signals(count: int, length: int, rate: float) -> Media[torch.Tensor]:
    shapes, rates = ((length, 1),) * count, (rate,) * count
    return Media(signals=Signals(values_X=torch.randn(count * length), shapes=shapes, sampling_rates=rates))


def towers(media: Media[torch.Tensor], exact: bool) -> Callable[[], object]:
    network = Network(with_media(bench(), image_token_id=1, video_token_id=2, ts_token_id=3)).eval()
    tokens = (sum(patch_tokens(media.images, network.config)), sum(signal_tokens(media.signals)))
    ids_T = torch.tensor([1] * tokens[0] + [3] * tokens[1])
    h_TD = torch.zeros(len(ids_T), network.config.text.hidden_size)

    @torch.no_grad()
    def run() -> object:
        return scatter_media(h_TD, ids_T, media, network.model, network.config, exact=exact)

    return run


def report(timings: dict[str, Timing]) -> dict[str, object]:
    low, middle, high = ratios(timings["exact"], timings["usual"])
    return {
        "milliseconds": {name: round(1e3 * timing.median, 2) for name, timing in timings.items()},
        "ratio": {"min": round(low, 2), "median": round(middle, 2), "max": round(high, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--decoding-rounds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="of training and media")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training-sequences", type=int, default=4, help="0 leaves training out")
    parser.add_argument("--fp8", action="store_true", help="experts in FP8, on both sides")
    parser.add_argument("--media", action="store_true", help="also the towers")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.process_time if args.threads == 1 else time.perf_counter

    def compare(build: Callable[[bool], Callable[[], object]]) -> dict[str, object]:
        sides = {name: build(name == "exact") for name in ("usual", "exact")}
        return report(run_rounds(sides, rounds=args.rounds, clock=clock))

    rows = {f"decoding, batch {b}": decoding(b, args.fp8, args.decoding_rounds, clock) for b in args.batch}
    if args.training_sequences:
        rows["training"] = compare(lambda exact: training(args.training_sequences, exact, args.fp8))
    if args.media:
        for name, media in (
            ("1 picture of 448 x 448", pictures(1, 28)),
            ("8 pictures of 224 x 224", pictures(8, 14)),
            ("16 pictures of 64 x 64", pictures(16, 4)),
            ("4 signals of 1,000 points", signals(4, 1000, 100.0)),
        ):
            rows[name] = compare(lambda exact, media=media: towers(media, exact))
    text = json.dumps({"environment": environment(), "results": rows}, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
