"""The time-series module against the goldens of the released algorithm, and against itself signal by signal."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import SignalLayout, assumed_sampling_rate, signal_layout
from s1pro.checkpoint.names import has_effect, stored_parts
from s1pro.kernels.attention import PackedContext
from s1pro.model import signal_frontend, time_series
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.presets import small_time_series
from s1pro.model.time_series import TimeSeriesTower, Window, windows_of

STRICT = {"atol": 2e-5, "rtol": 1e-5}
CASES = (0, 1, 3, 4, 6, 8)


class Golden(NamedTuple):
    tower: TimeSeriesTower
    arrays: dict[str, Tensor]
    cases: dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def golden(goldens_dir: Path) -> Golden:
    stored = np.load(goldens_dir / "time_series" / "time_series.npz", allow_pickle=False)
    meta = json.loads(str(stored["meta"]))
    arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "meta"}
    tower = TimeSeriesTower(TimeSeriesConfig(**meta["config"]))
    state = {}
    for name, weight in arrays.items():
        if name.startswith("w."):
            for own, third in stored_parts("model.time_series." + name[2:]):
                if has_effect(own):
                    state[own.removeprefix("model.time_series.")] = weight if third is None else weight.chunk(3)[third]
    tower.load_state_dict(state)
    return Golden(tower.eval(), arrays, {case["i"]: case for case in meta["cases"]})


def signals_of(*arrays: Tensor, rates: list[float]) -> Signals[Tensor]:
    return Signals(
        values_X=torch.cat([a.reshape(-1) for a in arrays]),
        shapes=tuple((a.shape[0], a.shape[1]) for a in arrays),
        sampling_rates=tuple(rates),
    )


def case_signals(golden: Golden, *cases: int) -> Signals[Tensor]:
    return signals_of(*(golden.arrays[f"t{i}_x"] for i in cases), rates=[golden.cases[i]["sr_used"] for i in cases])


def layouts_of(signals: Signals[Tensor]) -> list[SignalLayout]:
    return [signal_layout(shape[0], rate) for shape, rate in zip(signals.shapes, signals.sampling_rates, strict=True)]


def with_positions(tower: TimeSeriesTower, count: int) -> TimeSeriesTower:
    """The same weights with a longer table of positions, zeros behind its end: how the release reads long signals."""
    longer = TimeSeriesTower(replace(tower.config, max_source_positions=count))
    state = dict(tower.state_dict())
    table = state["encoder.embed_positions.weight"]
    state["encoder.embed_positions.weight"] = torch.cat((table, table.new_zeros(count - len(table), table.shape[1])))
    longer.load_state_dict(state)
    return longer.eval()


@pytest.mark.parametrize("i", CASES)
def test_goldens(golden: Golden, i: int) -> None:
    case, signals = golden.cases[i], case_signals(golden, i)
    (layout,) = layouts_of(signals)
    expected_rate = case["sr"] if case["sr"] is not None else assumed_sampling_rate(case["T"])
    assert expected_rate == case["sr_used"]
    assert (layout.stride, layout.patches, layout.tokens) == (case["stride"], case["patches"], case["tokens_model"])
    tower = golden.tower if layout.tokens <= 64 else with_positions(golden.tower, layout.tokens)
    with torch.no_grad():
        frames = tower.encoder_embed(signals, [layout])
        torch.testing.assert_close(frames, golden.arrays[f"t{i}_embed"][0], **STRICT)
        torch.testing.assert_close(tower.encoder(frames, [layout.frames]), golden.arrays[f"t{i}_encoder"][0], **STRICT)
        torch.testing.assert_close(tower(signals), golden.arrays[f"t{i}_out"][0], **STRICT)


@torch.no_grad()
def test_signals_of_a_batch_do_not_see_each_other(golden: Golden) -> None:
    """Unequal lengths, rates and channels in one call: each signal as if it were alone (fp32 noise is 4e-6)."""
    together = golden.tower(case_signals(golden, *CASES, *CASES))
    alone = torch.cat([golden.tower(case_signals(golden, i)) for i in CASES])
    torch.testing.assert_close(together, torch.cat((alone, alone)), **STRICT)


def small_tower(**changes: Any) -> TimeSeriesTower:
    tower = TimeSeriesTower(replace(small_time_series(32), **changes))
    tower.initialise(torch.Generator().manual_seed(0))
    return tower


def random_signals(cases: list[tuple[int, int, float]]) -> Signals[Tensor]:
    """Signals of (length, channels, rate)."""
    draw = torch.Generator().manual_seed(3)
    return signals_of(*(torch.randn(n, a, generator=draw) for n, a, _ in cases), rates=[rate for *_, rate in cases])


@torch.no_grad()
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 8), st.floats(1e-6, 1e7)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_as_many_embeddings_as_counted(cases: list[tuple[int, int, float]]) -> None:
    out = small_tower(max_source_positions=8)(random_signals(cases))
    assert len(out) == sum(signal_layout(length, rate).tokens for length, _, rate in cases)
    assert bool(out.isfinite().all())


@given(
    length=st.one_of(st.integers(1, 3000), st.integers(3001, 10**6)),
    exponent=st.floats(-6, 7),
    channels=st.integers(1, 8),
)
@example(length=6679, exponent=math.log10(6679 / 4), channels=1)
@example(length=14_400, exponent=math.log10(3600), channels=2)
@example(length=240_000, exponent=math.log10(2000), channels=1)
@example(length=1_000_000, exponent=0.0, channels=3)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_as_many_embeddings_as_counted_at_any_length(length: int, exponent: float, channels: int) -> None:
    """The whole module on signals without numbers: every chunk, convolution and window, but no arithmetic."""
    rate = 10.0**exponent
    with torch.device("meta"):
        tower = TimeSeriesTower(small_time_series(32))
        values = torch.empty(length * channels)
    signals = Signals(values_X=values, shapes=((length, channels),), sampling_rates=(rate,))
    with torch.no_grad():
        assert tower(signals).shape == (signal_layout(length, rate).tokens, 32)


@torch.no_grad()
@pytest.mark.parametrize("rate", [1664.0, 2000.0, 3673.0])
def test_rates_at_which_the_release_disagrees_with_itself(rate: float) -> None:
    tower = small_tower()
    for length in (160 * 7, 160 * 8 + 1, 6679):
        assert len(tower(random_signals([(length, 1, rate)]))) == signal_layout(length, rate).tokens


@torch.no_grad()
def test_the_encoder_is_causal(golden: Golden) -> None:
    """A later point changes no earlier embedding; convolutions reach at most two frames back."""
    x = golden.arrays["t1_x"]
    (layout,) = layouts_of(case_signals(golden, 1))
    changed = x.clone()
    changed[-100:] += 1
    before, after = (golden.tower(signals_of(values, rates=[50.0])) for values in (x, changed))
    first = (900 // layout.stride - 1) // 4 - 1  # the token before the first frame that sees the change
    torch.testing.assert_close(after[:first], before[:first], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(after[-1], before[-1], atol=1e-2)


def test_windows_of_long_signals() -> None:
    assert list(windows_of(7, 5, 9)) == [Window(offset=5, frames=7, start=0, keep=0, stop=4)]
    spans = [(w.start, w.keep, w.stop) for w in windows_of(47, 0, 9)]  # 24 tokens, 3 of context
    assert spans == [(0, 0, 9), (6, 9, 15), (12, 15, 21), (18, 21, 24)]
    assert [(w.start, w.keep, w.stop) for w in windows_of(5, 0, 1)] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


@torch.no_grad()
def test_a_window_is_the_encoder_on_its_tokens(golden: Golden) -> None:
    """Case 4 has 97 tokens for 64 positions: the first 64 are the released ones; the rest are computed here plainly."""
    tower, signals = golden.tower, case_signals(golden, 4)
    (layout,) = layouts_of(signals)
    frames = tower.encoder_embed(signals, [layout])
    found = tower.encoder(frames, [layout.frames])
    torch.testing.assert_close(found[:64], golden.arrays["t4_encoder"][0][:64], **STRICT)

    encoder = tower.encoder
    x = torch.nn.functional.gelu(encoder.conv1(encoder.adapt_in(frames).t()[None]))
    x = torch.nn.functional.gelu(encoder.conv2(x))[0].t()
    start = 64 - 21
    x = x[start:] + encoder.embed_positions.weight[: 97 - start]
    context = PackedContext.from_lengths([97 - start])
    for layer in encoder.layers:
        x = layer(x, context)
    torch.testing.assert_close(found[64:], encoder.adapt_out(encoder.layer_norm(x))[21:], **STRICT)


@torch.no_grad()
def test_windows_in_several_passes(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    together = golden.tower(case_signals(golden, *CASES))
    monkeypatch.setattr(time_series, "BATCH_TOKENS", 1)  # raised to the positions of one window, 64
    torch.testing.assert_close(golden.tower(case_signals(golden, *CASES)), together, **STRICT)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 50, 333, 2000])
def test_gradients_are_finite_and_reach_everything(length: int) -> None:
    tower = small_tower(max_source_positions=16)
    out = tower(random_signals([(length, 2, 5.0)]))
    out.square().sum().backward()
    for name, param in tower.named_parameters():
        assert param.grad is not None and bool(param.grad.isfinite().all()), name
    if length > 9:
        assert all(bool(param.grad.any()) for name, param in tower.named_parameters() if param.grad is not None)


def test_gradients_with_passes_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = small_tower(max_source_positions=16)
    signals = random_signals([(300, 1, 1.0), (90, 2, 20.0)])
    gradients = []
    for tokens, points in ((10**6, 10**9), (16, 0)):
        monkeypatch.setattr(time_series, "BATCH_TOKENS", tokens)
        monkeypatch.setattr(signal_frontend, "KEEP_POINTS", points)
        tower.zero_grad()
        tower(signals).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None})
    for name, kept in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], kept, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_in_bfloat16_close_to_float32() -> None:
    tower = small_tower()
    signals = random_signals([(500, 2, 50.0)])
    wide = tower(signals)
    narrow = tower.bfloat16()(signals)
    assert narrow.dtype == torch.bfloat16
    assert (narrow.float() - wide).norm() / wide.norm() < 0.05


def test_initial_weights() -> None:
    one, same, other = (small_tower() for _ in range(3))
    other.initialise(torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.projector.linear_1.weight, other.projector.linear_1.weight)
    assert one.encoder_embed.conv.weight.std().item() == pytest.approx(5**-0.5, rel=0.2)
    assert one.encoder.layers[0].fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    signals = random_signals([(99, 1, 50.0)])
    other_signals = replace(signals, values_X=signals.values_X.flip(0))
    with torch.no_grad():  # the signal is heard beside the sinusoids
        a, b = (one.encoder_embed(s, layouts_of(s)) for s in (signals, other_signals))
    assert (a - b).norm() / a.norm() > 0.1


MEASURE = """
import resource, sys, torch
from s1pro.base.media import Signals
from s1pro.model.presets import small_time_series
from s1pro.model.time_series import TimeSeriesTower
length, train = int(sys.argv[1]), sys.argv[2] == "train"
tower = TimeSeriesTower(small_time_series(64))
tower.initialise(torch.Generator().manual_seed(0))
signals = Signals(values_X=torch.randn(length * 3), shapes=((length, 3),), sampling_rates=(1000.0,))
torch.set_grad_enabled(train)
out = tower(signals)
if train:
    out.square().sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
"""


def peak_megabytes(length: int, kind: str) -> float:
    """Peak memory of a fresh process."""
    command = [sys.executable, "-c", MEASURE, str(length), kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inference", "train"])
def test_memory_of_a_million_points(kind: str) -> None:
    assert peak_megabytes(10**6, kind) - peak_megabytes(1000, kind) < 2000
