"""Drawings of media: safe, small, and true to their content."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from s1pro.report.blocks import Answer
from s1pro.report.media import film, picture, signal

SVG = "{http://www.w3.org/2000/svg}"


def shown(svg: str) -> list[np.ndarray]:
    images = ET.fromstring(svg).findall(f"{SVG}image")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(i.attrib["href"].split(",")[1])))) for i in images]


def polyline(svg: str, number: int = 0) -> np.ndarray:
    text = ET.fromstring(svg).findall(f"{SVG}polyline")[number].attrib["points"]
    return np.array([[float(n) for n in pair.split(",")] for pair in text.split()])


def test_pixels_are_embedded_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    svg = picture(pixels)
    np.testing.assert_array_equal(shown(svg)[0], pixels)
    assert not Answer(question="q", answer="a", picture_svg=svg).picture_is_wide  # and nothing in it is active


def test_a_film_shows_the_first_and_the_last_frame() -> None:
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    values = [int(frame[0, 0, 0]) for frame in shown(film(frames))]
    assert values[0] == 0 and values[-1] == 19 and len(values) == 6
    assert Answer(question="q", answer="a", picture_svg=film(frames)).picture_is_wide


def test_long_signals_keep_their_extremes() -> None:
    values = np.zeros(100_000)
    values[31_415], values[77_777] = 5.0, -3.0
    svg = signal(values, 100.0, "mV")
    points = polyline(svg)
    assert len(points) <= 2 * 320 + 2
    assert points[:, 1].min() == pytest.approx(2.0) and points[:, 1].max() == pytest.approx(80.0)
    assert points[points[:, 1].argmin(), 0] == pytest.approx(31_415 / 99_999 * 320, abs=0.1)
    assert "5 mV" in svg and "1000 s" in svg


def test_channels_share_a_scale_and_gaps_are_left_out() -> None:
    values = np.stack([np.linspace(0, 1, 50), np.linspace(0, 2, 50)], axis=1)
    values[10:20, 0] = np.nan
    svg = signal(values, None)
    assert len(polyline(svg, 0)) == 40 and len(polyline(svg, 1)) == 50
    assert polyline(svg, 0)[-1, 1] == pytest.approx(41.0) and "50 points" in svg


@pytest.mark.parametrize("values", [np.full(5, 3.0), np.full(3, np.nan), np.ones(1)])
def test_flat_and_empty_signals_draw_without_error(values: np.ndarray) -> None:
    svg = signal(values, 1.0, "<b>")
    assert "nan" not in svg and not re.search("<b>", svg)
    Answer(question="q", answer="a", picture_svg=svg)
