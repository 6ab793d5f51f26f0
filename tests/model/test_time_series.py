"""The time-series module against the goldens of the released algorithm, and against itself signal by signal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import SignalLayout, assumed_sampling_rate, signal_layout
from s1pro.checkpoint.names import has_effect, stored_parts
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.time_series import TimeSeriesTower

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
