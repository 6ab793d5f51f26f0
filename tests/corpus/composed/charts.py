"""Charts for the typst generator, drawn by matplotlib (PDF) and Altair (SVG), and pictures as PNG.

A small pool is drawn once per process and placed at other sizes in many papers; the panels of matplotlib's figures are
the tight boxes of its axes, as shares of the picture.
"""

from __future__ import annotations

import functools
import io
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.composed import words
from tests.corpus.composed.drawings import smooth_noise
from tests.corpus.composed.truth import Box

POOL = 8


@dataclass(frozen=True)
class Picture:
    """File name, bytes, height over width, and panels as (letter, box in shares of width and height)."""

    name: str
    data: bytes
    aspect: float
    panels: tuple[tuple[str, Box], ...] = ()


@functools.cache
def single(number: int) -> Picture:
    """A chart with one pair of axes: matplotlib for even numbers, Altair for odd ones."""
    number %= POOL
    return _matplotlib(number, 1, 1, "") if number % 2 == 0 else _altair(number)


@functools.cache
def grid(number: int, columns: int, rows: int, letters: str) -> Picture:
    """Several axes with the given letters, such as "(a)" or "a"."""
    return _matplotlib(number % POOL, columns, rows, letters)


@functools.cache
def photograph(number: int) -> Picture:
    """A picture of pixels; PNG, JPEG or grey."""
    rng = random.Random(f"photograph {number % POOL}")
    grey = smooth_noise(rng, 180, 260, rng.choice((7, 18)))
    tint = np.array([rng.uniform(0.4, 0.95) for _ in range(3)])
    rows = (grey * 240).astype(np.uint8) if number % 3 == 0 else (grey[..., None] * tint * 240).astype(np.uint8)
    file = io.BytesIO()
    kind = "jpg" if number % 2 else "png"
    Image.fromarray(rows).save(file, "JPEG" if kind == "jpg" else "PNG")
    return Picture(f"photograph-{number % POOL}.{kind}", file.getvalue(), 180 / 260)


def _matplotlib(number: int, columns: int, rows: int, letters: str) -> Picture:
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    rng = random.Random(f"matplotlib {number} {columns} {rows} {letters}")
    width, height = (5.0, 3.4) if columns * rows == 1 else (2.3 * columns + 0.4, 1.9 * rows)
    with matplotlib.rc_context({"font.size": 7, "pdf.fonttype": 42 if number % 4 == 0 else 3}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasPdf(figure)
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for i, axis in enumerate(axes):
            _fill(axis, rng, int(rng.random() * 6))
            if letters:
                name = "abcdefghi"[i]
                axis.set_title(letters.replace("a", name).replace("A", name.upper()), loc="left", fontweight="bold")
        figure.draw_without_rendering()
        boxes = [axis.get_tightbbox() for axis in axes]
        file = io.BytesIO()
        figure.savefig(file, format="pdf", metadata={"CreationDate": None})
    panels = []
    for i, box in enumerate(boxes):
        w, h = figure.bbox.width, figure.bbox.height
        name = "abcdefghi"[i]
        panels.append(
            (name.upper() if "A" in letters else name, (box.x0 / w, 1 - box.y1 / h, box.x1 / w, 1 - box.y0 / h))
        )
    text = f"matplotlib-{number}-{columns}x{rows}-{letters.strip('().')}.pdf"
    return Picture(text, file.getvalue(), height / width, tuple(panels) if letters else ())


def _fill(axis: Any, rng: random.Random, kind: int) -> None:
    x = np.linspace(0, rng.choice((1, 10, 200)), 50)
    noise = np.random.default_rng(rng.randrange(2**31))
    if kind == 0:
        for i in range(rng.randint(1, 3)):
            axis.plot(x, np.sin(x / x[-1] * (3 + i)) + i, label=f"{rng.choice(words.NOUNS)} {i}", marker="o", ms=2)
        axis.legend(fontsize=6)
    elif kind == 1:
        axis.scatter(x, x * 0.3 + noise.normal(0, x[-1] / 20, 50), s=6, c=x)
    elif kind == 2:
        axis.bar(["A", "B", "C", "D"], noise.uniform(1, 9, 4), yerr=noise.uniform(0.1, 1, 4), color="C3")
    elif kind == 3:
        axis.imshow(noise.random((12, 16)), aspect="auto", cmap="viridis")
    elif kind == 4:
        axis.hist(noise.normal(50, 9, 300), bins=18, color="0.6", edgecolor="k")
    else:
        axis.boxplot([noise.normal(i, 1, 40) for i in range(4)])
        axis.grid(True)
    axis.set_xlabel(f"{rng.choice(words.QUANTITIES)} ({rng.choice(words.UNITS)})")
    axis.set_ylabel(f"{rng.choice(words.QUANTITIES)} ({rng.choice(words.UNITS)})")


def _altair(number: int) -> Picture:
    import altair
    import vl_convert

    rng = random.Random(f"altair {number}")
    rows = [
        {"x": i, "y": round(rng.uniform(0, 3) + i * (1 + s), 2), "series": f"{rng.choice('abc')}{s}"[1:] + " °C"}
        for s in range(3)
        for i in range(9)
    ]
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X("x:Q", title=f"{rng.choice(words.QUANTITIES)} ({rng.choice(words.UNITS)})"),
        y=altair.Y("y:Q", title=f"{rng.choice(words.QUANTITIES)} ({rng.choice(words.UNITS)})"),
        color=altair.Color("series:N", title=rng.choice(words.NOUNS)),
    )
    chart = (base.mark_line(point=True), base.mark_bar(), base.mark_circle(size=50), base.mark_area(opacity=0.6))[
        number // 2 % 4
    ]
    svg = vl_convert.vegalite_to_svg(chart.properties(width=320, height=190).to_dict())
    size = [float(svg.split(f'{name}="')[1].split('"')[0]) for name in ("width", "height")]
    return Picture(f"altair-{number}.svg", svg.encode(), size[1] / size[0])
