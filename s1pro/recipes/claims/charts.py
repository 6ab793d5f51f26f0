"""Charts composed as PDF pages, with two captions each: one that names what is visible, and one as authors write.

    chart --compose--> page of a PDF --PDFium--> picture of 64 x 48 pixels
                                     --corpus.describe--> facts --> "The blue line with square markers rises."
    chart ------------------------------------------------------> "Yield against dose for sample B, mean of three ..."

Picture and description come from the same page, by the code that reads papers: the describer sees shapes, not the
numbers that the chart was made of. Of what it can say only the sentence about the line is taken, without readings,
since nobody can read tick labels at this size.

The other caption knows what was measured, on what, and how. As in papers it may say how the curve goes: one in five
does (`SAYS_COURSE`), in words of its own. It is longer than it has to be, so that it can be cut to any length.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

COURSES = ("rising", "falling", "peak", "valley")
COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.84, 0.15, 0.16),
    "orange": (1.0, 0.5, 0.05),
    "green": (0.17, 0.63, 0.17),
    "blue": (0.12, 0.47, 0.71),
    "purple": (0.58, 0.4, 0.74),
}
SAYS_COURSE = 0.2
SCALE = 1 / 3
_WIDTH, _HEIGHT = 192, 144
_FRAME = (34.0, 30.0, 184.0, 136.0)
_POINTS = 9
_QUANTITIES = ("yield", "signal", "growth", "pressure", "activity", "voltage", "mass", "rate")
_CONDITIONS = ("time", "dose", "temperature", "depth", "energy", "distance", "load", "frequency")
_SAMPLES = ("sample A", "sample B", "the control", "the treated group", "the second site", "the new alloy")
_METHODS = ("mean of three runs", "after calibration", "corrected for drift", "one run per point", "from raw counts")
_SOURCES = ("data of the first campaign", "values from the supplement", "model parameters as in the text")
_SAID = {
    "rising": "increases with",
    "falling": "decreases with",
    "peak": "is largest at medium",
    "valley": "is smallest at medium",
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One line.

    Attributes:
        heights: of its points, from 0 to 1.
        squares: whether every point has a marker.
        tick: step between the tick labels.
    """

    course: str
    colour: str
    squares: bool
    heights: tuple[float, ...]
    quantity: str
    condition: str
    tick: int


def draw_chart(key: str) -> Chart:
    """The chart of a key; what can be asked about it is drawn evenly and independently."""
    draw = random.Random(key)
    course, colour, squares = draw.choice(COURSES), draw.choice(list(COLOURS)), draw.random() < 0.5
    return Chart(
        course=course,
        colour=colour,
        squares=squares,
        heights=tuple(_heights(course, draw)),
        quantity=draw.choice(_QUANTITIES),
        condition=draw.choice(_CONDITIONS),
        tick=draw.choice((1, 2, 5, 10, 20, 50)),
    )


def _heights(course: str, draw: random.Random) -> list[float]:
    """A curve over a part of the height, with steps of unequal size."""
    low, span, last = draw.uniform(0.05, 0.3), draw.uniform(0.45, 0.65), _POINTS - 1
    turn = last if course in ("rising", "falling") else draw.randint(3, last - 3)
    shape = [*_climb(turn, draw), *_climb(last - turn, draw)[-2::-1]]
    return [low + span * (1 - value if course in ("falling", "valley") else value) for value in shape]


def _climb(steps: int, draw: random.Random) -> list[float]:
    """From 0 to 1."""
    heights = [0.0, *itertools.accumulate(draw.uniform(0.5, 1.5) for _ in range(steps))]
    return [height / heights[-1] if steps else 0.0 for height in heights]


def compose(chart: Chart) -> bytes:
    """The chart as a PDF of one page: frame, ticks with labels, titles of the axes, the line."""
    x0, y0, x1, y1 = _FRAME
    xs = [x0 + (0.04 + 0.92 * i / (_POINTS - 1)) * (x1 - x0) for i in range(_POINTS)]
    ys = [y0 + height * (y1 - y0) for height in chart.heights]
    drawn = [f"0 G 1 w {x0} {y0} {x1 - x0} {y1 - y0} re S"]
    for k in range(4):
        x, y = x0 + (0.1 + 0.8 * k / 3) * (x1 - x0), y0 + (0.05 + 0.9 * k / 3) * (y1 - y0)
        drawn.append(f"{x:.1f} {y0} m {x:.1f} {y0 - 4} l S {x0} {y:.1f} m {x0 - 4} {y:.1f} l S")
        drawn += [_text(x - 3, y0 - 13, str(k + 1)), _text(x0 - 17, y - 3, f"{(k + 1) * chart.tick:3d}")]
    drawn += [_text(x0 + 55, 5, chart.condition), _text(9, y0 + 35, chart.quantity, upright=True)]
    pen = " ".join(f"{value:.2f}" for value in COLOURS[chart.colour])
    path = " l ".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)).replace(" l ", " m ", 1)
    drawn.append(f"{pen} RG {pen} rg 4.5 w {path} l S")
    if chart.squares:
        drawn += [f"{x - 6:.1f} {y - 6:.1f} 12 12 re f" for x, y in zip(xs, ys, strict=True)]
    return _pdf("\n".join(drawn))


def _text(x: float, y: float, text: str, *, upright: bool = False) -> str:
    turn = "0 1 -1 0" if upright else "1 0 0 1"
    return f"0 g BT /F 9 Tf {turn} {x:.1f} {y:.1f} Tm ({text}) Tj ET"


def _pdf(content: str) -> bytes:
    """A document of one page with one of the fonts that every reader has."""
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_WIDTH} {_HEIGHT}] /Contents 4 0 R "
        "/Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    )
    document, places = "%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(document))
        document += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(document)}\n%%EOF\n"
    return f"{document}xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode("ascii")


def picture_of(pdf: bytes) -> npt.NDArray[np.uint8]:
    """Its page, uint8 `[48, 64, 3]`."""
    from s1pro.corpus.pdf.reader import load_page, open_document

    with open_document(pdf) as document:
        bitmap = load_page(document, 0).render(scale=SCALE, rev_byteorder=True)
        return np.array(bitmap.to_numpy()[:, :, :3])


def described(pdf: bytes, seed: str) -> str:
    """What the describer says of the lines on the page, without readings; empty if it sees none.

    Raises:
        MissingExtraError: the extra `papers` is not installed.
    """
    from s1pro.corpus.describe.chart_prose import series_sentences
    from s1pro.corpus.describe.page import find_facts
    from s1pro.corpus.describe.wording import Choice
    from s1pro.corpus.pdf.reader import close_page, open_document, read_page

    with open_document(pdf) as document:
        content = read_page(document, 0)
        chart = find_facts(content, (0.0, 0.0, content.width, content.height), "figure").chart
        close_page(content)
    panels = () if chart is None else chart.panels
    return " ".join(sentence for panel in panels for sentence in series_sentences(panel, Choice(seed), brief=True))


def authors_caption(chart: Chart, seed: str) -> str:
    """What was measured, on what, and how; and sometimes how it goes."""
    draw = random.Random(f"authors {seed}")
    sample, method, source = (draw.choice(words) for words in (_SAMPLES, _METHODS, _SOURCES))
    how = draw.choice(("against", "as a function of", "over")) if draw.random() >= SAYS_COURSE else _SAID[chart.course]
    what = f"{chart.quantity} {how} {chart.condition} for {sample}, {method}"
    return f"{what}; {source}. See the main text for the fit and its errors."
