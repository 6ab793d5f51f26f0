"""Small drawings of what a question showed: a picture, the frames of a video, the curve of a signal.

    picture(pixels)              one image as it is
    film(frames)                 up to six frames side by side
    signal(values, rate, unit)   one curve per channel over seconds, with the range of the values

Each is one SVG for `Answer.picture_svg`. Pixels are embedded as PNG; curves are polylines whose extremes are kept when
a signal has more points than the drawing has columns.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.report.svg import HAIR, SERIES_COLOURS

_WIDTH, _HEIGHT, _MARGIN = 320, 96, 14
_MOST_FRAMES = 6
_SHOWN = 112  # pixels of a picture's longer side on the page


def picture(pixels_HWC: npt.NDArray[np.uint8]) -> str:
    """An RGB image `[height, width, 3]`."""
    return _images([pixels_HWC], "picture")


def film(frames_FHWC: npt.NDArray[np.uint8]) -> str:
    """Frames `[F, height, width, 3]`, evenly chosen where there are many."""
    chosen = np.linspace(0, len(frames_FHWC) - 1, min(len(frames_FHWC), _MOST_FRAMES)).round().astype(int)
    return _images([frames_FHWC[i] for i in chosen], "frames of a video")


def signal(values_WA: npt.NDArray[Any], sampling_rate: float | None, unit: str = "") -> str:
    """A signal `[points, channels]` or `[points]`, NaN left out.

    Args:
        sampling_rate: in Hz; None labels the axis with points.
    """
    values = np.asarray(values_WA, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="1" points="{_points(channel, low, high)}"/>'
        for channel, colour in zip(values.T, _cycle(values.shape[1]), strict=True)
    )
    end = len(values) if sampling_rate is None else len(values) / sampling_rate
    across = f"{end:.4g} {'points' if sampling_rate is None else 's'}"
    frame = f'<path fill="none" stroke="var(--line, {HAIR})" d="M0 {_HEIGHT - _MARGIN}H{_WIDTH}"/>'
    labels = (
        _label(0, 9, f"{high:.3g} {unit}".strip())
        + _label(0, _HEIGHT - _MARGIN - 2, f"{low:.3g}")
        + _label(_WIDTH, _HEIGHT - 3, across, anchor="end")
    )
    return _svg(_WIDTH, _HEIGHT, "signal", frame + lines + labels)


def _points(channel: npt.NDArray[np.float64], low: float, high: float) -> str:
    """Lowest and highest value of every column of the drawing."""
    place = np.flatnonzero(np.isfinite(channel))
    if place.size > 2 * _WIDTH:
        kept = [run[[channel[run].argmin(), channel[run].argmax()]] for run in np.array_split(place, _WIDTH)]
        place = np.unique(np.concatenate(kept))
    x = place / max(len(channel) - 1, 1) * _WIDTH
    top, bottom = 2.0, _HEIGHT - _MARGIN - 2.0
    y = bottom - (channel[place] - low) / ((high - low) or 1.0) * (bottom - top)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _cycle(count: int) -> list[str]:
    return [SERIES_COLOURS[i % len(SERIES_COLOURS)] for i in range(count)]


def _images(pictures: list[npt.NDArray[np.uint8]], name: str) -> str:
    height, width = pictures[0].shape[:2]
    scale = _SHOWN / max(height, width)
    shown_width, shown_height = round(width * scale), round(height * scale)
    gap = 6
    drawn = "".join(
        f'<image x="{i * (shown_width + gap)}" y="0" width="{shown_width}" height="{shown_height}" href="{_png(p)}"/>'
        for i, p in enumerate(pictures)
    )
    return _svg(len(pictures) * (shown_width + gap) - gap, shown_height, name, drawn)


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _label(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="9" fill="currentColor" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, name: str, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img"><title>{escape(name)}</title>{content}</svg>'
    )
