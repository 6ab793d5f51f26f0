"""What exact mode costs (`s1pro.kernels.exact`): decoding at batch 1 and 16 and a training step of the `bench` preset.

    python bench/exact_mode.py [--batch 1 16] [--rounds 5] [--threads 2] [--training-sequences 8] [--fp8] [--media]
        [--json FILE]

The same network in the same process, usual and exact in turn. Decoding: prompt 64, 128 new tokens, greedy. Training:
forward, backward and AdamW on sequences of 512 tokens; `--fp8` computes the experts of both sides in FP8. Media:
pictures and signals through small towers, one by one instead of together, without gradients. The ratio is exact over
usual time, pair by pair; beside it the same ratio of processor time, which other programs on the machine disturb less.
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


def decoding(batch: int, exact: bool, fp8: bool) -> Callable[[], object]:
    network = Network(bench()).eval()
    if fp8:
        use_fp8_experts(network)
    use_exact_operators(network, exact)
    engine = Engine(network)
    prompts = torch.randint(1, bench().text.vocab_size, (batch, PROMPT)).tolist()
    sampling = [Sampling(max_new_tokens=NEW, ignore_eos=True)] * batch
    return lambda: engine.generate(prompts, sampling)


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
    parser.add_argument("--fp8", action="store_true", help="experts in FP8, on both sides")
    parser.add_argument("--media", action="store_true", help="also the towers")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = {f"decoding, batch {b}": compare(lambda e, b=b: decoding(b, e, args.fp8), args.rounds) for b in args.batch}
    if args.training_sequences:
        rows["training"] = compare(lambda e: training(args.training_sequences, e, args.fp8), args.rounds)
    if args.media:
        for name, media in (
            ("1 picture of 448 x 448", pictures(1, 28)),
            ("8 pictures of 224 x 224", pictures(8, 14)),
            ("16 pictures of 64 x 64", pictures(16, 4)),
            ("4 signals of 1,000 points", signals(4, 1000, 100.0)),
        ):
            rows[name] = compare(lambda e, media=media: towers(media, e), args.rounds)
    text = json.dumps({"environment": environment(), "results": rows}, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
