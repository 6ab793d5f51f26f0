"""The time-series module against the released algorithm run signal by signal: points per second.

    python bench/time_series.py [--rounds 5] [--threads 1 2] [--clock wall|cpu] [--layers 4] [--signals 64]

Workload: signals of 40 to 20,000 points, lengths spread evenly on a logarithmic scale, rates and channels in turn
from the lists below (of the rates those at which a signal has three patches). Front end of the released size (128
wide, 2,048 inside), encoder of the released width with `--layers` layers. Both sides have the same weights, float32,
no gradients, and must give the same embeddings.

* `ours`        `TimeSeriesTower.forward`, all signals in one call
* `released`    the released algorithm as a plain torch program: unfolded patches, `nn.Conv1d`,
                `nn.TransformerEncoderLayer` with its defaults (points before patches), materialised causal mask
* `released, fused`  the same with patches before points, which lets torch take its fused inference path

The last two are written here from the description of the algorithm, and checked against the goldens when the script
begins.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from paired import environment, ratios, run_rounds
from torch import Tensor, nn
from torch.nn import functional as F

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import signal_layout, signal_stride
from s1pro.checkpoint.names import has_effect, stored_parts
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.time_series import TimeSeriesTower

GOLDENS = Path(__file__).resolve().parents[1] / "tests" / "goldens" / "time_series" / "time_series.npz"
RATES = (0.5, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 16000.0)
CHANNELS = (1, 1, 2, 1, 3, 1)


class Released(nn.Module):
    """The released algorithm for one signal, with the weights of a tower of ours."""

    def __init__(self, tower: TimeSeriesTower, *, fused: bool) -> None:
        super().__init__()
        config = tower.config
        width = config.patch_width
        self.tower, self.fused = tower, fused
        self.conv = nn.Conv1d(1, width, 5, padding=2)
        layer = nn.TransformerEncoderLayer(
            width, config.subsampling_attention_heads, config.subsampling_ffn_dim, batch_first=fused
        )
        self.layer = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        source = tower.encoder_embed
        self.conv.load_state_dict(source.conv.state_dict())
        self.layer.layers[0].load_state_dict(source.transformer_encoder.layers[0].state_dict())
        position = torch.arange(20_000.0)[:, None] * torch.exp(torch.arange(0.0, width, 2) * (-math.log(1e4) / width))
        table = torch.zeros(20_000, 1, width)
        table[:, 0, 0::2], table[:, 0, 1::2] = position.sin(), position.cos()
        self.register_buffer("table", table)

    def frames(self, x_SA: Tensor, rate: float) -> Tensor:
        stride = signal_stride(rate)
        patch, channels = 2 * stride, x_SA.shape[1]
        count = math.ceil((len(x_SA) - patch) / stride) + 1
        x_SA = F.pad(x_SA, (0, 0, 0, (count - 1) * stride + patch - len(x_SA)))
        index = torch.arange(0, count * stride, stride)[:, None] + torch.arange(patch)
        rows = x_SA[index].reshape(count * channels, 1, patch)
        x = self.conv(rows).relu().permute(2, 0, 1)
        x = x + self.table[:patch]
        x = self.layer(x.transpose(0, 1)).mean(1) if self.fused else self.layer(x).mean(0)
        x = x.reshape(count, channels, -1).mean(1)
        x = x[: count // 2 * 2]
        return torch.cat((x[0::2], x[1::2]), dim=1)

    def forward(self, x_SA: Tensor, rate: float) -> Tensor:
        encoder = self.tower.encoder
        x = F.gelu(encoder.conv1(encoder.adapt_in(self.frames(x_SA, rate)).t()[None]))
        x = F.gelu(encoder.conv2(x))[0].t()
        x = x + encoder.embed_positions.weight[: len(x)]
        mask = torch.full((len(x), len(x)), torch.finfo(x.dtype).min).triu(1)
        for layer in encoder.layers:
            attn = layer.self_attn
            normed = layer.self_attn_layer_norm(x)
            q, k, v = (
                proj(normed).view(len(x), attn.num_heads, -1).transpose(0, 1)
                for proj in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
            scores = q * q.shape[-1] ** -0.5 @ k.transpose(1, 2) + mask
            x = x + attn.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
        return self.tower.projector(encoder.adapt_out(encoder.layer_norm(x)))


def check_against_goldens() -> None:
    """Both forms of the reference give the stored embeddings (of signals that fit the golden's 64 positions)."""
    stored = np.load(GOLDENS, allow_pickle=False)
    meta = json.loads(str(stored["meta"]))
    tower = TimeSeriesTower(TimeSeriesConfig(**meta["config"]))
    state = {}
    for name in (name for name in stored.files if name.startswith("w.")):
        weight = torch.from_numpy(stored[name])
        for own, third in stored_parts("model.time_series." + name[2:]):
            if has_effect(own):
                state[own.removeprefix("model.time_series.")] = weight if third is None else weight.chunk(3)[third]
    tower.load_state_dict(state)
    for fused in (False, True):
        released = Released(tower, fused=fused).eval()
        for case in meta["cases"]:
            if case["tokens_model"] <= meta["config"]["max_source_positions"]:
                x, out = (torch.from_numpy(stored[f"t{case['i']}_{part}"]) for part in ("x", "out"))
                torch.testing.assert_close(released(x, case["sr_used"]), out[0], atol=2e-5, rtol=1e-5)


def workload(count: int) -> tuple[list[Tensor], list[float]]:
    """Random signals; the same in every run."""
    generator = torch.Generator().manual_seed(0)
    lengths = np.geomspace(40, 20_000, count).round().astype(int).tolist()
    xs = [torch.randn(n, CHANNELS[i % len(CHANNELS)], generator=generator) for i, n in enumerate(lengths)]
    return xs, [_rate(i, len(x)) for i, x in enumerate(xs)]


def _rate(i: int, length: int) -> float:
    """A rate at which the signal has at least three patches: the release cannot read less than two."""
    possible = [rate for rate in RATES if 4 * signal_stride(rate) <= length]
    return possible[i % len(possible)]


def as_signals(xs: Sequence[Tensor], rates: Sequence[float]) -> Signals[Tensor]:
    shapes = tuple((len(x), x.shape[1]) for x in xs)
    return Signals(values_X=torch.cat([x.flatten() for x in xs]), shapes=shapes, sampling_rates=tuple(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: seconds of this process")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--signals", type=int, default=64)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    check_against_goldens()
    tower = TimeSeriesTower(TimeSeriesConfig(encoder_layers=options.layers, out_hidden_size=1024)).eval()
    tower.initialise(torch.Generator().manual_seed(1))
    plain, fused = Released(tower, fused=False).eval(), Released(tower, fused=True).eval()
    xs, rates = workload(options.signals)
    signals = as_signals(xs, rates)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    contestants = {
        "ours": lambda: tower(signals),
        "released": lambda: torch.cat([plain(x, r) for x, r in zip(xs, rates, strict=True)]),
        "released, fused": lambda: torch.cat([fused(x, r) for x, r in zip(xs, rates, strict=True)]),
    }
    points, tokens = len(signals.values_X), sum(signal_layout(len(x), r).tokens for x, r in zip(xs, rates, strict=True))
    longest = max(signal_layout(len(x), r).tokens for x, r in zip(xs, rates, strict=True))
    print(f"{len(xs)} signals, {points} values, {tokens} embeddings, the longest signal {longest}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        outs = {name: call() for name, call in contestants.items()}
        for name, out in outs.items():
            difference = (out - outs["released"]).abs().max().item()
            assert difference < 1e-4, (name, difference)
        timings = run_rounds(contestants, rounds=options.rounds, warmup=0, clock=clock)  # the check was the warm-up
        print(environment())
        for name, timing in timings.items():
            low, middle, high = ratios(timing, timings["ours"])
            speed = points / timing.median
            print(
                f"{name:16} {timing.median:7.2f} s  {speed:9,.0f} values/s  ours is {low:.2f} {middle:.2f} {high:.2f}x"
            )


if __name__ == "__main__":
    main()
