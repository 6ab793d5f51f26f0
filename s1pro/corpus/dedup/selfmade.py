"""Figures of our own making and copies of them, by which the thresholds are fitted and the bench measures.

* `plot`: curves, scatter, bars or spectra with frame, ticks and labels; every one has its own size and style. With a
  `template`, everything but the data and the numbers at the ticks belongs to the template.
* `table`: a ruled grid of numbers; `photo`: smooth noise over several octaves with a few shapes.
* `copies`: scaled, compressed, padded, cut, made darker, grey, and combinations; each with the text that is left in it.

All of it is a function of the seed, drawn by Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from s1pro.corpus.records import ElementRow, ElementType

_WORDS = [
    "energy", "time", "intensity", "wavelength", "field", "density", "yield", "rate", "temperature", "pressure",
    "mass", "count", "angle", "depth", "error", "loss", "accuracy", "signal", "frequency", "absorption", "position",
    "velocity", "flux", "dose", "strain", "voltage", "current", "phase",
]  # fmt: skip
_UNITS = ("eV", "s", "a.u.", "nm", "T", "g/cm3", "%", "1/s", "K", "GPa", "Da", "deg", "m", "mV", "MHz", "mm")
_INKS = ("#1f77b4", "#d62728", "#2ca02c", "#000000", "#9467bd", "#ff7f0e", "#444444")
Word = tuple[str, tuple[float, float, float, float]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture and the words in it with their boxes in pixels."""

    image: Image.Image
    words: tuple[Word, ...] = ()
    type: ElementType = "chart"

    def element(self, name: str, *, quality: int | None = None, caption: str = "") -> ElementRow:
        """As a row of the pipeline; PNG, or JPEG of a quality."""
        stream = io.BytesIO()
        if quality is None:
            self.image.save(stream, "PNG", compress_level=1)
        else:
            self.image.convert("RGB").save(stream, "JPEG", quality=quality)
        return ElementRow(
            element_id=name,
            doc_id="0" * 64,
            page=0,
            type=self.type,
            box=(0.0, 0.0, 100.0, 100.0),
            page_width=595.0,
            page_height=842.0,
            caption=caption,
            text_layer=" ".join(word for word, _ in self.words),
            width=self.image.width,
            height=self.image.height,
            image=stream.getvalue(),
        )


class _Pen:
    """Draws text and remembers it."""

    def __init__(self, size: tuple[int, int], font: int) -> None:
        self.image = Image.new("RGB", size, "white")
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(font)
        self.words: list[Word] = []

    def text(self, x: float, y: float, text: str, anchor: str = "mm") -> None:
        self.draw.text((x, y), text, fill="black", font=self.font, anchor=anchor)
        for word in text.split():
            self.words.append((word, self.draw.textbbox((x, y), text, font=self.font, anchor=anchor)))


def plot(seed: int, template: int | None = None, changed: bool = False) -> Picture:
    """A plot; plots of one template share size, kind, labels and style. `changed`: one of its series has other data."""
    style = np.random.default_rng([11, seed if template is None else 1_000_000 + template])
    data = np.random.default_rng([12, seed])
    size = (640, 480) if style.random() < 0.4 else (int(style.integers(360, 900)), int(style.integers(300, 640)))
    pen = _Pen(size, int(style.integers(11, 18)))
    left, top = int(style.integers(50, 80)), int(style.integers(16, 50))
    frame = (left, top, size[0] - int(style.integers(10, 30)), size[1] - int(style.integers(42, 64)))
    _axes(pen, frame, style, data)
    kind = int(style.integers(0, 5))
    for number in range(int(style.integers(1, 5))):
        values = (
            np.random.default_rng([16, seed]) if changed and not number else np.random.default_rng(data.integers(2**60))
        )
        _series(pen, frame, kind, _INKS[(number + int(style.integers(0, 7))) % 7], int(style.integers(1, 4)), values)
    if style.random() < 0.5:
        for number in range(int(style.integers(2, 4))):
            pen.text(frame[2] - 8, frame[1] + 12 + 18 * number, str(style.choice(_WORDS)), "rm")
    return Picture(image=pen.image, words=tuple(pen.words))


def table(seed: int, changed: bool = False) -> Picture:
    """Words in the first row and column, numbers elsewhere. `changed`: one row has other numbers."""
    rng = np.random.default_rng([13, seed])
    rows, columns = int(rng.integers(4, 12)), int(rng.integers(3, 8))
    pen = _Pen((columns * 96 + 20, rows * 26 + 20), 14)
    for line in {0, 1, rows}:
        pen.draw.line((10, 10 + 26 * line, 10 + 96 * columns, 10 + 26 * line), fill="black", width=1 + (line != 1))
    for row in range(rows):
        for column in range(columns):
            number = 50 + 30 * rng.normal() + (31.37 if changed and row == rows // 2 else 0)
            text = str(rng.choice(_WORDS)) if 0 in (row, column) else f"{number:.{rng.integers(0, 4)}f}"
            pen.text(16 + 96 * column, 23 + 26 * row, text, "lm")
    return Picture(image=pen.image, words=tuple(pen.words), type="table")


def photo(seed: int, changed: bool = False) -> Picture:
    """Coloured clouds with a few discs, like a micrograph. `changed`: with one disc more, black or white."""
    rng = np.random.default_rng([14, seed])
    size = (int(rng.integers(320, 720)), int(rng.integers(280, 560)))
    total = np.zeros((size[1], size[0], 3))
    for octave in range(2, 7):
        small = rng.normal(size=(2**octave, 2**octave, 3)).mean(axis=2, keepdims=True) + 0.3 * rng.normal(
            size=(2**octave, 2**octave, 3)
        )
        for channel in range(3):
            layer = Image.fromarray(small[:, :, channel].astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
            total[:, :, channel] += np.asarray(layer) / 1.6**octave
    total = (total - total.min()) / (total.max() - total.min())
    image = Image.fromarray((total * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 12))):
        x, y, r = int(rng.integers(0, size[0])), int(rng.integers(0, size[1])), int(rng.integers(5, 50))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    if changed:
        x, y, r = (int(rng.integers(size[i] // 4, 3 * size[i] // 4)) for i in (0, 1, 1))
        bright = image.convert("L").getpixel((x, y))
        r = 12 + r % 30
        draw.ellipse((x - r, y - r, x + r, y + r), fill="black" if bright > 127 else "white")
    return Picture(image=image, type="figure")


def resized(picture: Picture, factor: float) -> Picture:
    size = (max(24, round(picture.image.width * factor)), max(24, round(picture.image.height * factor)))
    return Picture(
        image=picture.image.resize(size, Image.Resampling.LANCZOS),
        words=tuple((word, tuple(factor * v for v in box)) for word, box in picture.words),  # type: ignore[misc]
        type=picture.type,
    )


def compressed(picture: Picture, quality: int) -> Picture:
    stream = io.BytesIO()
    picture.image.convert("RGB").save(stream, "JPEG", quality=quality)
    return Picture(image=Image.open(stream).convert("RGB"), words=picture.words, type=picture.type)


def padded(picture: Picture, shares: tuple[float, float, float, float]) -> Picture:
    """White margins; shares of width and height: left, top, right, bottom."""
    width, height = picture.image.size
    left, top, right, bottom = (round(s * v) for s, v in zip(shares, (width, height, width, height), strict=True))
    image = Image.new("RGB", (width + left + right, height + top + bottom), "white")
    image.paste(picture.image, (left, top))
    return Picture(image=image, words=picture.words, type=picture.type)


def cropped(picture: Picture, shares: tuple[float, float, float, float]) -> Picture:
    """Cut off at left, top, right, bottom; words that are cut in the middle are lost."""
    width, height = picture.image.size
    x0, y0 = round(shares[0] * width), round(shares[1] * height)
    x1, y1 = width - round(shares[2] * width), height - round(shares[3] * height)
    words = tuple(
        (word, box)
        for word, box in picture.words
        if x0 <= (box[0] + box[2]) / 2 <= x1 and y0 <= (box[1] + box[3]) / 2 <= y1
    )
    return Picture(image=picture.image.crop((x0, y0, x1, y1)), words=words, type=picture.type)


def darker(picture: Picture, gamma: float) -> Picture:
    image = picture.image.convert("RGB").point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
    return Picture(image=image, words=picture.words, type=picture.type)


def greyed(picture: Picture) -> Picture:
    return Picture(image=picture.image.convert("L").convert("RGB"), words=picture.words, type=picture.type)


def _random_shares(rng: np.random.Generator, most: float) -> tuple[float, float, float, float]:
    values = rng.uniform(0.1 * most, most, 4)
    return float(values[0]), float(values[1]), float(values[2]), float(values[3])


Maker = Callable[[Picture, np.random.Generator], Picture]
MAKERS: Mapping[str, Maker] = {
    "resize": lambda p, rng: resized(p, float(np.exp(rng.uniform(np.log(0.35), np.log(2.0))))),
    "jpeg": lambda p, rng: compressed(p, int(rng.integers(20, 96))),
    "padding": lambda p, rng: padded(p, _random_shares(rng, 0.12)),
    "crop": lambda p, rng: cropped(p, _random_shares(rng, 0.03)),
    "gamma": lambda p, rng: darker(p, float(rng.uniform(0.7, 1.5))),
    "grey": lambda p, rng: greyed(p),
    "combined": lambda p, rng: compressed(resized(padded(p, _random_shares(rng, 0.05)), 0.6), 50),
}
"""Kinds of copies. A crop takes up to 3 % away at each side, independently."""


def copies(picture: Picture, seed: int) -> Iterator[tuple[str, Picture]]:
    """One copy of every kind."""
    rng = np.random.default_rng([15, seed])
    for name, maker in MAKERS.items():
        yield name, maker(picture, rng)


def _axes(pen: _Pen, frame: tuple[int, int, int, int], style: np.random.Generator, data: np.random.Generator) -> None:
    x0, y0, x1, y1 = frame
    pen.draw.rectangle(frame, outline="black", width=int(style.integers(1, 3)))
    grid = style.random() < 0.4
    for horizontal in (True, False):
        count = int(style.integers(4, 8))
        start, step = int(data.integers(0, 40)) / 4, float(data.choice([0.25, 0.5, 1, 2, 5, 10]))
        for i in range(count):
            label = f"{start + i * step:g}"
            if horizontal:
                x = x0 + (x1 - x0) * i / (count - 1)
                pen.draw.line((x, y1, x, y1 + 5), fill="black")
                if grid:
                    pen.draw.line((x, y0, x, y1), fill="#cccccc")
                pen.text(x, y1 + 14, label)
            else:
                y = y1 - (y1 - y0) * i / (count - 1)
                pen.draw.line((x0 - 5, y, x0, y), fill="black")
                if grid:
                    pen.draw.line((x0, y, x1, y), fill="#cccccc")
                pen.text(x0 - 8, y, label, "rm")
    pen.text((x0 + x1) / 2, y1 + 32, f"{style.choice(_WORDS)} ({style.choice(_UNITS)})")
    if style.random() < 0.5:
        pen.text((x0 + x1) / 2, max(8, y0 - 10), f"{style.choice(_WORDS)} {style.choice(_WORDS)}")


def _series(
    pen: _Pen, frame: tuple[int, int, int, int], kind: int, ink: str, width: int, data: np.random.Generator
) -> None:
    x0, y0, x1, y1 = frame
    t = np.linspace(0, 1, 200)
    y: np.ndarray
    if kind == 0:
        y = np.cumsum(data.normal(size=200))
    elif kind == 1:
        y = np.zeros(200)
        for _ in range(8):
            y += data.uniform(0.2, 1) * np.exp(-(((t - data.random()) / data.uniform(0.005, 0.04)) ** 2))
    elif kind == 2:
        y = np.exp(-t * data.uniform(0.5, 8)) * np.cos(data.uniform(0, 30) * t)
    else:
        y = data.random(200)
    y = 0.05 + 0.9 * (y - y.min()) / (np.ptp(y) + 1e-9)
    xs, ys = x0 + 3 + (x1 - x0 - 6) * t, y1 - (y1 - y0) * y
    if kind <= 2:
        pen.draw.line([(float(a), float(b)) for a, b in zip(xs, ys, strict=True)], fill=ink, width=width)
    elif kind == 3:
        for a, b in zip(xs[:: 2 + width], data.permutation(ys)[:: 2 + width], strict=True):
            pen.draw.ellipse((a - 3, b - 3, a + 3, b + 3), fill=ink)
    else:
        for a, b in zip(xs[5::20], ys[5::20], strict=True):
            pen.draw.rectangle((a - 6, b, a + 6, y1), fill=ink)
