"""Figures for composed papers, drawn with the pen: plots, schemes, pictures, and panels of them.

Every drawing gets a frame `(x, y, w, h)` and stays inside it. Text is as small as in print (5 to 8 points).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from tests.corpus.composed import words
from tests.corpus.composed.pen import Pen, text_width

Frame = tuple[float, float, float, float]
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#222222")
SANS = "Helvetica"


def plot_area(pen: Pen, rng: random.Random, frame: Frame, *, boxed: bool = True) -> Frame:
    """Axes with ticks, numbers and names; the inner frame."""
    x, y, w, h = frame
    size = rng.choice((5.5, 6.0, 7.0))
    left, bottom, top = 3.6 * size + 2, 2.9 * size + 3, size * 0.5
    inner = (x + left, y + top, w - left - size, h - bottom - top)
    ix, iy, iw, ih = inner
    if boxed:
        pen.rect(ix, iy, iw, ih, stroke="#000000", width=0.7)
    else:
        pen.polyline([(ix, iy), (ix, iy + ih), (ix + iw, iy + ih)], 0.7)
    number = rng.choice((3, 4, 5))
    scale = rng.choice((1, 10, 100))
    for i in range(number):
        tx = ix + iw * i / (number - 1)
        pen.line(tx, iy + ih, tx, iy + ih - 2.5)
        pen.text(tx, iy + ih + size + 1.5, f"{i * scale}", SANS, size, anchor="middle")
        ty = iy + ih - ih * i / (number - 1)
        pen.line(ix, ty, ix + 2.5, ty)
        pen.text(ix - 2.5, ty + size * 0.35, f"{i * 0.5:.1f}", SANS, size, anchor="right")
    pen.text(ix + iw / 2, y + h - 0.25 * size, quantity(rng), SANS, size, anchor="middle")
    pen.text_up(x + size * 0.8, iy + ih / 2, quantity(rng), SANS, size)
    return inner


def quantity(rng: random.Random) -> str:
    return f"{rng.choice(words.QUANTITIES)} ({rng.choice(words.UNITS)})"


def curves(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = plot_area(pen, rng, frame, boxed=rng.random() < 0.6)
    number = rng.randint(1, 4)
    for i in range(number):
        phase, speed = rng.random() * 6, rng.uniform(1, 9)
        points = [
            (x + w * t / 60, y + h * (0.5 + 0.4 * math.sin(phase + speed * t / 60) * math.exp(-t / 90)))
            for t in range(61)
        ]
        pen.polyline(points, 0.9, COLORS[i])
        if number > 1 and w > 90:
            pen.line(x + w * 0.66, y + 7 + 7 * i, x + w * 0.66 + 10, y + 7 + 7 * i, 1.0, COLORS[i])
            pen.text(x + w * 0.66 + 13, y + 9 + 7 * i, f"{rng.choice(words.NOUNS)[:7]}", SANS, 5.5)


def points(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = plot_area(pen, rng, frame)
    for _ in range(rng.randint(12, 50)):
        t, noise = rng.random(), rng.gauss(0, 0.07)
        pen.circle(
            x + 4 + (w - 8) * t, y + h * min(max(0.9 - 0.8 * t + noise, 0.04), 0.96), 1.4, fill=rng.choice(COLORS[:3])
        )
    if rng.random() < 0.5:
        pen.line(x + 3, y + 0.9 * h, x + w - 3, y + 0.1 * h, 0.8)


def bars(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = plot_area(pen, rng, frame, boxed=False)
    number = rng.randint(3, 8)
    for i in range(number):
        tall = h * rng.uniform(0.2, 0.9)
        bx, bw = x + w * (i + 0.2) / number, 0.6 * w / number
        pen.rect(bx, y + h - tall, bw, tall, fill=COLORS[i % 3], stroke="#000000", width=0.4)
        pen.line(bx + bw / 2, y + h - tall - 4, bx + bw / 2, y + h - tall, 0.5)


def heat_map(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = plot_area(pen, rng, (frame[0], frame[1], frame[2] - 18, frame[3]))
    columns, rows = rng.randint(6, 12), rng.randint(5, 9)
    for i in range(columns):
        for j in range(rows):
            shade = int(255 * (0.5 + 0.45 * math.sin(i * 0.9 + rng.random()) * math.cos(j * 0.7)))
            pen.rect(
                x + w * i / columns, y + h * j / rows, w / columns, h / rows, fill=f"#{shade:02x}50{255 - shade:02x}"
            )
    for j in range(12):
        pen.rect(x + w + 7, y + h * j / 12, 6, h / 12, fill=f"#{j * 20:02x}50{255 - j * 20:02x}")


def flow(pen: Pen, rng: random.Random, frame: Frame) -> None:
    """Boxes with words, joined by arrows."""
    x, y, w, h = frame
    columns = max(2, min(4, int(w // 75)))
    rows = max(1, min(3, int(h // 45)))
    bw, bh = w / columns * 0.72, h / rows * 0.55
    across, down = (w - bw) / (columns - 1), (h - bh) / (rows - 1) if rows > 1 else 0.0
    for j in range(rows):
        for i in range(columns):
            bx, by = x + across * i, y + down * j
            pen.rect(bx, by, bw, bh, fill=rng.choice(("#eef3fb", "#fdf1e3", "#ffffff")), stroke="#333333")
            pen.text(bx + bw / 2, by + bh / 2 + 2, rng.choice(words.NOUNS), SANS, 6.5, anchor="middle")
            if i + 1 < columns:
                arrow(pen, bx + bw, by + bh / 2, bx + across, by + bh / 2)
            elif j + 1 < rows:
                arrow(pen, bx + bw / 2, by + bh, bx + bw / 2, by + down)


def arrow(pen: Pen, x0: float, y0: float, x1: float, y1: float) -> None:
    pen.line(x0, y0, x1, y1, 0.8, "#333333")
    long = math.hypot(x1 - x0, y1 - y0) or 1.0
    ux, uy = (x1 - x0) / long, (y1 - y0) / long
    head = [(x1, y1), (x1 - 4 * ux - 2 * uy, y1 - 4 * uy + 2 * ux), (x1 - 4 * ux + 2 * uy, y1 - 4 * uy - 2 * ux)]
    pen.polyline(head, 0.3, "#333333", fill=True)


def molecules(pen: Pen, rng: random.Random, frame: Frame) -> None:
    """Rings with side groups and a reaction arrow: what papers of chemistry call a scheme."""
    x, y, w, h = frame
    number = 3 if w > 220 else 2
    r = min(h / 3.4, w / number / 5.2)
    for i in range(number):
        cx, cy = x + w * (i + 0.3) / number, y + h / 2
        ring = [(cx + r * math.sin(math.pi / 3 * k), cy - r * math.cos(math.pi / 3 * k)) for k in range(7)]
        pen.polyline(ring, 0.9)
        for k in (0, 2, 4):
            (ax, ay), (bx, by) = ring[k], ring[k + 1]
            inner = [(cx + 0.8 * (px - cx), cy + 0.8 * (py - cy)) for px, py in ((ax, ay), (bx, by))]
            pen.line(*inner[0], *inner[1], 0.9)
        pen.line(*ring[0], ring[0][0], ring[0][1] - r * 0.6, 0.9)
        pen.text(
            ring[0][0], ring[0][1] - r * 0.6 - 2, rng.choice(("OH", "NH", "Br", "COOH", "Cl")), SANS, 7, anchor="middle"
        )
        pen.text(cx, y + h - 2, f"{i + 1}{rng.choice('ab')}", "Helvetica-Bold", 7, anchor="middle")
        if i + 1 < number:
            arrow(pen, cx + 1.6 * r, cy, x + w * (i + 1.3) / number - 1.6 * r, cy)
            pen.text(cx + 2.4 * r, cy - 4, rng.choice(("K", "Pd/C", "hv")), SANS, 6)


def network(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = frame
    nodes = [(x + 8 + rng.random() * (w - 16), y + 8 + rng.random() * (h - 16)) for _ in range(rng.randint(8, 20))]
    for i, (ax, ay) in enumerate(nodes):
        bx, by = nodes[(i + 1) % len(nodes)]
        pen.line(ax, ay, bx, by, 0.4, "#888888")
    for ax, ay in nodes:
        pen.circle(ax, ay, rng.uniform(3, 7), fill=rng.choice(COLORS), stroke="#000000")


def contours(pen: Pen, rng: random.Random, frame: Frame) -> None:
    x, y, w, h = plot_area(pen, rng, frame)
    cx, cy = x + w * rng.uniform(0.4, 0.6), y + h * rng.uniform(0.4, 0.6)
    for k in range(1, 8):
        ring = [
            (cx + w * 0.05 * k * math.cos(a / 20 * math.pi), cy + h * 0.05 * k * math.sin(a / 20 * math.pi + 0.2))
            for a in range(41)
        ]
        pen.polyline(ring, 0.6, COLORS[k % 6])


def smooth_noise(rng: random.Random, height: int, width: int, cells: int = 8) -> np.ndarray:
    """Values from 0 to 1 that vary slowly."""
    generator = np.random.default_rng(rng.randrange(2**31))
    coarse = generator.random((cells + 1, cells + 1))
    rows, columns = np.linspace(0, cells - 1e-6, height), np.linspace(0, cells - 1e-6, width)
    i, j = rows.astype(int), columns.astype(int)
    u, v = (rows - i)[:, None], (columns - j)[None, :]
    top = coarse[np.ix_(i, j)] * (1 - v) + coarse[np.ix_(i, j + 1)] * v
    low = coarse[np.ix_(i + 1, j)] * (1 - v) + coarse[np.ix_(i + 1, j + 1)] * v
    return top * (1 - u) + low * u


def photograph(pen: Pen, rng: random.Random, frame: Frame) -> None:
    """A raster picture, whole or stored in strips as some producers do."""
    x, y, w, h = frame
    grey = smooth_noise(rng, int(h * 1.3), int(w * 1.3), rng.choice((6, 14, 30)))
    tint = np.array([rng.uniform(0.3, 0.9) for _ in range(3)])
    picture = (grey[..., None] * tint * 235).astype(np.uint8)
    strips = rng.choice((1, 1, 3))
    for part, rows in enumerate(np.array_split(picture, strips)):
        pen.image(x, y + h * part / strips, w, h / strips, rows)
    if rng.random() < 0.6:
        pen.rect(x + w - 32, y + h - 9, 24, 2.5, fill="#ffffff")
        pen.text(
            x + w - 20, y + h - 11, f"{rng.choice((1, 5, 10, 50))} µm", SANS, 5.5, anchor="middle", color="#ffffff"
        )


def gel(pen: Pen, rng: random.Random, frame: Frame) -> None:
    """Lanes with bands: a picture with words around it."""
    x, y, w, h = frame
    picture = np.full((int(h), int(w)), 215, np.uint8)
    lanes = rng.randint(4, 8)
    for lane in range(lanes):
        for _ in range(rng.randint(1, 5)):
            top = rng.randint(2, max(3, int(h) - 22))
            left = int((w - 24) * lane / lanes) + 2
            picture[top : top + 3, left : left + int((w - 24) / lanes) - 4] = rng.randint(10, 120)
    pen.image(x + 24, y + 10, w - 24, h - 10, picture[10:, 24:])
    for lane in range(lanes):
        pen.text(x + 24 + (w - 24) * (lane + 0.4) / lanes, y + 7, str(lane + 1), SANS, 6, anchor="middle")
    for i, weight in enumerate(("75", "50", "25")):
        pen.text(x + 20, y + 20 + (h - 30) * i / 3, weight, SANS, 6, anchor="right")


def overlaid(pen: Pen, rng: random.Random, frame: Frame) -> None:
    """A raster map under vector axes."""
    x, y, w, h = plot_area(pen, rng, frame)
    grey = smooth_noise(rng, int(h), int(w), 10)
    picture = np.stack([grey * 250, (1 - grey) * 200, np.full_like(grey, 120)], -1).astype(np.uint8)
    pen.image(x, y, w, h, picture)
    pen.rect(x, y, w, h, stroke="#000000")


VECTOR: tuple[Callable[[Pen, random.Random, Frame], None], ...] = (
    curves, points, bars, heat_map, flow, molecules, network, contours,
)  # fmt: skip
RASTER = (photograph, gel, overlaid)
SMALL = (curves, points, bars, contours, photograph, overlaid)


def panel_names(style: str, number: int) -> tuple[str, ...]:
    """Letters without brackets."""
    letters = "abcdefghij"[:number]
    return tuple(letters.upper() if style == "A" else letters)


def panels(
    pen: Pen, rng: random.Random, frame: Frame, grid: tuple[int, int], style: str
) -> list[tuple[str, tuple[float, float, float, float]]]:
    """A grid of drawings with letters like "(a)", "a" or "A" at their upper left corners; letter and box of each."""
    from tests.corpus.composed.truth import union

    x, y, w, h = frame
    columns, rows = grid
    gap = 12.0
    pw, ph = (w - gap * (columns - 1)) / columns, (h - gap * (rows - 1)) / rows
    same = rng.choice(SMALL) if rng.random() < 0.4 else None
    found = []
    for i, name in enumerate(panel_names(style, columns * rows)):
        px, py = x + (pw + gap) * (i % columns), y + (ph + gap) * (i // columns)
        with pen.recording() as boxes:
            label = f"({name})" if style == "(a)" else name
            bold = "Helvetica-Bold" if style != "(a)" else SANS
            pen.text(px, py + 7, label, bold, 8)
            (same or rng.choice(SMALL))(pen, rng, (px, py + 10, pw, ph - 10))
        found.append((name, union(boxes)))
    return found


def logo(pen: Pen, x: float, y: float) -> None:
    """A publisher's mark: a decoy."""
    pen.rect(x, y, 14, 14, fill="#003a70")
    pen.circle(x + 7, y + 7, 4.5, fill="#f2a900")
    pen.text(x + 18, y + 11, "Open Press", "Helvetica-Bold", 9, color="#003a70")


def fits(text: str, font: str, size: float, width: float) -> bool:
    return text_width(text, font, size) <= width
