"""The count function against measured strides, a loop over patches, and the bands in which the release fails."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.signal_tokens import assumed_sampling_rate, signal_layout, signal_stride


def test_strides_of_the_goldens(goldens_dir: Path) -> None:
    stored = np.load(goldens_dir / "time_series" / "time_series.npz", allow_pickle=False)
    assert [signal_stride(rate) for rate in stored["sr_grid"]] == stored["stride_grid"].tolist()


@given(st.integers(1, 10**6), st.floats(1e-6, 1e7))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_patches_cover_the_signal_and_no_patch_is_empty(length: int, rate: float) -> None:
    layout = signal_layout(length, rate)
    assert 2 <= layout.stride <= 160 and layout.patch == 2 * layout.stride
    assert layout.padded_length >= length
    assert layout.patches == 2 or (layout.patches - 1) * layout.stride < length
    assert layout.frames == layout.patches // 2 and layout.tokens == math.ceil(layout.frames / 2) >= 1


@pytest.mark.parametrize("stride_rate", [1.0, 50.0, 100.0, 16000.0])
def test_patches_as_a_loop_counts_them(stride_rate: float) -> None:
    stride = signal_stride(stride_rate)
    for length in range(2 * stride, 9 * stride):
        start, patches = 0, 1
        while start + 2 * stride < length:
            start, patches = start + stride, patches + 1
        assert signal_layout(length, stride_rate).patches == max(patches, 2)


def test_the_bands_in_which_the_release_counts_twice_differently() -> None:
    """Its float32 stride is 160 there, its float64 stride 159; one function cannot disagree with itself."""
    in_float32 = [sr for sr in range(1500, 3800) if _float32_stride(sr) != signal_stride(sr)]
    assert (in_float32[0], in_float32[-1], len(in_float32)) == (1664, 3673, 2010)
    assert signal_layout(240_000, 2000).tokens == 377
    assert signal_layout(6679, assumed_sampling_rate(6679)).tokens >= 1


def _float32_stride(rate: int) -> int:
    one, power = np.float32(1), np.float32(6)
    return int(np.floor(np.float32(160) / (one + np.exp(np.float32(-rate) / np.float32(100))) ** power))


def test_the_shortest_signals_have_a_token() -> None:
    assert [signal_layout(length, 1.0).tokens for length in range(1, 12)] == [1] * 10 + [1]
    assert signal_layout(1, 1e7).tokens == 1


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="sampling rate must be positive and finite"):
        signal_stride(rate)


def test_no_points() -> None:
    with pytest.raises(ValueError, match="at least one point, got 0"):
        signal_layout(0, 1.0)


def test_assumed_rate() -> None:
    assert [assumed_sampling_rate(length) for length in (1, 4, 1500)] == [1.0, 1.0, 375.0]
