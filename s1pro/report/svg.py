"""From a matplotlib figure to a small inline SVG whose bytes depend on its content alone.

1. Text stays text (searchable, selectable, no glyph outlines), in the font of the page.
2. Ink and grid are drawn in sentinel colours that become `currentColor` and a style variable, so that a drawing follows
   the page from light to dark; the main series colours become variables with the plain colour as fallback.
3. Ids are hashed from the content with the figure's name as salt: equal runs give equal bytes, and two figures in one
   page never share a clip path. Ids that nothing refers to are dropped, as are metadata and dates.
4. Coordinates are cut to two decimals (a hundredth of a point); numbers that are written out are not.

matplotlib is used through its object interface and a local style: no global state, no display, no pyplot.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import re
from collections.abc import Sequence
from typing import Any

from s1pro.base.errors import MissingExtraError

INK = "#010203"
BORDER = "#1b1f24"  # on cells that are light whatever the page is
HAIR = "#010204"

# Okabe and Ito (2008): apart from each other for every common kind of colour blindness.
BLUE, VERMILLION, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8b949e"
SKY, YELLOW, PURPLE, AMBER = "#56b4e9", "#f0e442", "#cc79a7", "#e69f00"
SERIES_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY, YELLOW)

_PAGE_COLOURS = {
    INK: "currentColor",
    HAIR: "var(--line, #d4d8dd)",
    BLUE: f"var(--blue, {BLUE})",
    VERMILLION: f"var(--orange, {VERMILLION})",
}

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": HAIR,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.labelsize": 8,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": HAIR,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": HAIR,
    "xtick.labelcolor": INK,
    "ytick.color": HAIR,
    "ytick.labelcolor": INK,
}


def series_colour(number: int) -> str:
    """The colour of the `number`-th curve of every plot, for a page that draws a legend of its own."""
    colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
    return _PAGE_COLOURS.get(colour, colour)


def course(values: Sequence[float], *, points: int = 60) -> str:
    """A line without axes: the course of a number at a glance. Values that are not finite are passed over."""
    known = [value for value in values if math.isfinite(value)]
    places = sorted({round(i * (len(known) - 1) / (points - 1)) for i in range(points)}) if len(known) > points else ()
    shown = [known[place] for place in places] if places else known
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    step = 100 / max(len(shown) - 1, 1)
    drawn = " ".join(f"{i * step:.1f},{18 - 16 * (v - low) / ((high - low) or 1.0):.1f}" for i, v in enumerate(shown))
    return (
        '<svg viewBox="0 0 100 20" preserveAspectRatio="none"><polyline fill="none" stroke="currentColor" '
        f'stroke-width="1.6" vector-effect="non-scaling-stroke" points="{drawn}"/></svg>'
    )


def style(name: str) -> Any:
    """The context in which a figure called `name` is built and saved."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "report")
    # Its font search reports every variant it looks at.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    from matplotlib import rc_context

    return rc_context({**_STYLE, "svg.hashsalt": name})


def to_svg(figure: Any) -> str:
    """The `<svg>` element of a matplotlib figure; call it inside `style(name)`."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    return shrink(buffer.getvalue())


def shrink(document: str) -> str:
    """Keeps what a page needs of an SVG document; see the module docstring, points 2 to 4."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # A style element inside an inline drawing would apply to the whole page; its two rules become inherited attributes.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = text.replace("<svg", '<svg stroke-linejoin="round" stroke-linecap="butt"', 1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px)[^;\"]*", r"font: \1\2 system-ui, sans-serif", text)
    text = re.sub(r"<[^>]*>", _short_coordinates, text)  # inside of tags: what is written beside an axis stays as it is
    for sentinel, replacement in _PAGE_COLOURS.items():
        text = text.replace(sentinel, replacement)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match.group() if match.group(1) in used else "", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _short_coordinates(tag: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), tag.group())
