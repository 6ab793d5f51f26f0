"""The front end against a loop over single patches with torch's own layers, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import SignalLayout, signal_layout
from s1pro.model import signal_frontend
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.signal_frontend import SignalFrontend, sinusoids
from s1pro.model.time_series import TimeSeriesTower

CONFIG = {
    "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 8,
    "ts_adapt_in_dim": 32, "ts_adapt_out_dim": 8, "ts_hidden_dim": 8, "out_hidden_size": 8,
    "subsampling_attention_heads": 2, "subsampling_ffn_dim": 24,
}  # fmt: skip


def frontend(separate_channels: bool = False) -> SignalFrontend:
    tower = TimeSeriesTower(TimeSeriesConfig(**CONFIG, separate_channels=separate_channels))
    tower.initialise(torch.Generator().manual_seed(0))
    return tower.encoder_embed


def random_signals(cases: list[tuple[int, int, float]], seed: int = 1) -> tuple[Signals[Tensor], list[SignalLayout]]:
    """Signals of (length, channels, rate)."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(length * channels for length, channels, _ in cases), generator=draw)
    shapes = tuple((length, channels) for length, channels, _ in cases)
    rates = tuple(rate for *_, rate in cases)
    layouts = [signal_layout(length, rate) for length, _, rate in cases]
    return Signals(values_X=values, shapes=shapes, sampling_rates=rates), layouts


def one_patch_at_a_time(front: SignalFrontend, x_SA: Tensor, layout: SignalLayout) -> Tensor:
    """The definition, with `nn.Conv1d` and `nn.TransformerEncoderLayer`, float64."""
    width = front.conv.out_channels
    layer = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.0, batch_first=True).double()
    layer.load_state_dict(front.transformer_encoder.layers[0].state_dict())
    conv = nn.Conv1d(1, width, 5, padding=2).double()
    conv.load_state_dict(front.conv.state_dict())
    position = torch.arange(layout.patch, dtype=torch.float64)
    table = torch.zeros(layout.patch, width, dtype=torch.float64)
    for column in range(0, width, 2):
        table[:, column] = (position / 10000 ** (column / width)).sin()
        table[:, column + 1] = (position / 10000 ** (column / width)).cos()
    padded = torch.zeros(layout.padded_length, x_SA.shape[1], dtype=torch.float64)
    padded[: len(x_SA)] = x_SA
    means = []
    for start in range(0, 2 * layout.frames * layout.stride, layout.stride):
        patch = padded[start : start + layout.patch]
        rows = patch.t() if front.separate_channels else patch.reshape(patch.shape[1], -1)
        means.append(
            torch.stack([layer((conv(row[None]).relu().t() + table)[None])[0].mean(0) for row in rows]).mean(0)
        )
    return torch.stack([torch.cat(means[i : i + 2]) for i in range(0, len(means), 2)])


CASES = [(1, 1, 1.0), (7, 2, 1.0), (40, 3, 20.0), (333, 1, 100.0), (5, 1, 20.0), (61, 2, 20.0), (1000, 2, 16000.0)]


@torch.no_grad()
@pytest.mark.parametrize("separate", [False, True])
def test_frames_are_those_of_single_patches(separate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    front = frontend(separate)
    signals, layouts = random_signals(CASES)
    parts = signals.values_X.split([length * channels for length, channels, _ in CASES])
    expected = torch.cat(
        [one_patch_at_a_time(front, x.view(s), y) for x, s, y in zip(parts, signals.shapes, layouts, strict=True)]
    )
    for chunk in (1, 100, 1024):  # smaller than a patch; several pieces per signal; several signals per chunk
        monkeypatch.setattr(signal_frontend, "CPU_CHUNK", chunk)
        found = front(signals, layouts)
        torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=1e-5)


def test_the_two_ways_to_read_channels_differ_only_for_several() -> None:
    released, separate = frontend(), frontend(separate_channels=True)
    with torch.no_grad():
        for channels, equal in ((1, True), (2, False)):
            signals, layouts = random_signals([(50, channels, 20.0)])
            assert torch.allclose(released(signals, layouts), separate(signals, layouts), atol=1e-6) is equal


def test_sinusoids_in_float64() -> None:
    found = sinusoids(320, 128, torch.device("cpu"))
    for s in (0, 1, 319):
        for column in (0, 1, 64, 127):
            angle = s / 10000 ** ((column - column % 2) / 128)
            assert found[s, column].item() == pytest.approx([math.sin(angle), math.cos(angle)][column % 2], abs=5e-5)


def test_recomputing_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    front = frontend()
    signals, layouts = random_signals([(300, 2, 20.0), (90, 1, 1.0)])
    gradients = []
    for keep in (10**9, 0):
        monkeypatch.setattr(signal_frontend, "KEEP_POINTS", keep)
        front.zero_grad()
        front(signals, layouts).square().sum().backward()
        gradients.append([p.grad.clone() for p in front.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(front.parameters()))
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, kept, atol=1e-5, rtol=1e-5)


def test_with_gradients_the_same_numbers_as_without() -> None:
    front = frontend()
    signals, layouts = random_signals(CASES)
    with torch.no_grad():
        without = front(signals, layouts)
    torch.testing.assert_close(front(signals, layouts).detach(), without, atol=2e-6, rtol=1e-5)
