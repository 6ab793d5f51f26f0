"""Sentences about one panel: what it is, its axes, its legend, its series.

Each function gives one or more finished sentences, or an empty string where there is nothing to say.
"""

from __future__ import annotations

from s1pro.corpus.describe.facts import AxisFacts, PanelFacts, SeriesFacts
from s1pro.corpus.describe.wording import Choice, at, count, counted, listed, near, quote, sentence

ALL_TICKS = 12
_NOUNS = {
    "line": "line chart",
    "points": "scatter plot",
    "bars": "bar chart",
    "histogram": "histogram",
    "area": "area chart",
}


def chart_title(title: str, choice: Choice) -> str:
    return choice(f" under the title {quote(title)}", f", titled {quote(title)}") if title else ""


def panel_kind(panel: PanelFacts) -> str:
    """ "line chart" and the like, by what is drawn."""
    kinds = {series.kind for series in panel.series}
    if panel.cells:
        return "map of coloured cells"
    if panel.pictures:
        return "picture with axes"
    if kinds == {"line", "points"}:
        return "chart of lines and points"
    if len(kinds) == 1:
        kind = next(iter(kinds))
        lying = kind == "bars" and any(series.horizontal for series in panel.series)
        stacked = "stacked " if panel.stacked else ""
        return f"{stacked}{'horizontal ' if lying else ''}{_NOUNS[kind]}"
    return "chart"


def panel_name(panel: PanelFacts) -> str:
    """How a panel is called within a sentence."""
    if panel.label:
        return f"panel {panel.label}"
    if panel.place.startswith("row"):
        return f"the panel in {panel.place}"
    return f"the {panel.place} panel" if panel.place else "the panel"


def panel_opening(panel: PanelFacts, choice: Choice, *, alone: bool) -> str:
    kind = panel_kind(panel)
    article = "an" if kind[0] in "aeiou" else "a"
    title = f" titled {quote(panel.title)}" if panel.title else ""
    relation = _relation(panel)
    if alone:
        mark = f" It is marked {panel.label}." if panel.label else ""
        what = f"{article} {kind}{relation}"
        options = [
            f"The figure is {what}{title}.",
            f"This is {what}{title}.",
            f"{what[0].upper()}{what[1:]} is shown{title}.",
        ]
        return choice(*options) + mark
    name = panel_name(panel)
    place = f", {panel.place}," if panel.label and panel.place and not panel.place.startswith("row") else ""
    what = f"{article} {kind}{relation}{title}"
    return sentence(choice(f"{name}{place} is {what}", f"{name}{place} shows {what}"))


def _relation(panel: PanelFacts) -> str:
    """ " of y against x", where both have a name."""
    x, y = panel.x, panel.y or panel.right
    if x is None or y is None or not x.quantity or not y.quantity:
        return ""
    return (
        f" of {y.quantity} against {x.quantity}" if panel.series and panel.series[0].kind in ("line", "points") else ""
    )


def panel_sentences(panel: PanelFacts, choice: Choice) -> list[str]:
    """Everything about a panel after its opening."""
    found = [*axis_sentences(panel, choice), legend_sentence(panel, choice), series_count(panel, choice)]
    found += [*series_sentences(panel, choice), *extras_sentences(panel, choice)]
    return [text for text in found if text]


def axis_sentences(panel: PanelFacts, choice: Choice) -> list[str]:
    second = panel.right is not None and panel.y is not None
    axes = [("horizontal", panel.x), ("left vertical" if second else "vertical", panel.y)]
    axes.append(("right vertical" if second else "vertical", panel.right))
    return [_axis(name, axis, choice) for name, axis in axes if axis is not None]


def _axis(name: str, axis: AxisFacts, choice: Choice) -> str:
    where = f"The {name} axis"
    title = quote(axis.title)
    unit = f", in the unit {axis.unit}," if axis.unit else ""
    if axis.title:
        named = choice(
            f"{where} is labelled {title}", f"{where} shows {axis.quantity}{unit} under the label {title}",
            f"{where} carries the label {title}", f"{where} reads {title}",
        )  # fmt: skip
    else:
        named = f"{where} has no label"
    if axis.shared:
        named += ", shared with a neighbouring panel"
    return sentence(f"{named}; {_scale(axis, choice)}")


def _scale(axis: AxisFacts, choice: Choice) -> str:
    if axis.scale == "category":
        names = listed([quote(tick) for tick in axis.ticks])
        return choice(f"its categories are {names}", f"it has the categories {names}")
    kind = {"log": "logarithmic ", "linear": choice("", "linear ")}.get(axis.scale, "")
    scale = f"on a {kind}scale" if kind else ""
    run = choice(
        f"tick labels run from {axis.low} to {axis.high}", f"the ticks are labelled from {axis.low} to {axis.high}",
        f"its tick labels range from {axis.low} to {axis.high}",
    )  # fmt: skip
    every = f" ({', '.join(axis.ticks)})" if 2 < len(axis.ticks) <= ALL_TICKS and choice("yes", "no") == "yes" else ""
    factor = f", with the factor {quote(axis.factor)} at the end of the axis" if axis.factor else ""
    return f"{run}{' ' if scale else ''}{scale}{every}{factor}"


def legend_sentence(panel: PanelFacts, choice: Choice) -> str:
    if not panel.legend:
        return ""
    names = listed([quote(name) for name in panel.legend])
    title = f" under the heading {quote(panel.legend_title)}" if panel.legend_title else ""
    return sentence(
        choice(
            f"the legend lists {names}{title}", f"a legend{title} names {names}", f"in the legend{title} stand {names}"
        )
    )


def series_count(panel: PanelFacts, choice: Choice) -> str:
    number = len(panel.series)
    if not number:
        return ""
    if number == 1:
        return choice("There is one series.", "One series is drawn.", "A single series is drawn.")
    word = count(number)
    return sentence(
        choice(f"{word} series are drawn", f"there are {word} series", f"the data consist of {word} series")
    )


def series_sentences(panel: PanelFacts, choice: Choice, *, brief: bool = False) -> list[str]:
    return [sentence(_series(series, panel, choice, brief=brief)) for series in panel.series]


def _series(series: SeriesFacts, panel: PanelFacts, choice: Choice, *, brief: bool) -> str:
    if series.kind in ("bars", "histogram"):
        return _bars(series, panel, choice)
    if series.kind == "points":
        return _points(series, choice)
    subject = _subject(series, choice)
    seen = _course(series, choice, brief=brief)
    if not seen:
        return f"{subject} is drawn"
    return f"{subject} {seen}"


def _subject(series: SeriesFacts, choice: Choice) -> str:
    noun = "area" if series.kind == "area" else "line"
    look = " ".join(filter(None, ("dashed" if series.dashed else "", series.colour, noun)))
    marks = f" with {series.mark} markers" if series.mark else (" with markers" if series.num_marks else "")
    if series.name:
        return choice(f"{quote(series.name)}, the {look}{marks},", f"the {look}{marks} for {quote(series.name)}")
    return f"the {look}{marks}"


def _course(series: SeriesFacts, choice: Choice, *, brief: bool) -> str:
    """What a line does, with the readings of its ends or of its extreme."""
    rise, fall = choice("rises", "increases", "goes up"), choice("falls", "decreases", "goes down")
    ends = f" from {near(series.start)} to {near(series.end)}" if series.start and series.end and not brief else ""
    ends = (
        ends.replace(" to near ", " to ")
        .replace(" from near ", " from about ")
        .replace("to between", "to a value between")
    )
    ends = ends.replace("from between", "from a value between")
    top = f" {at(series.top_x)}" if series.top_x and not brief else ""
    low = f" {at(series.low_x)}" if series.low_x and not brief else ""
    height = f", where it is {near(series.top_y)}" if series.top_y and not brief else ""
    depth = f", where it is {near(series.low_y)}" if series.low_y and not brief else ""
    level = f" {near(series.start)}" if series.start and not brief else ""
    return {
        "rising": f"{rise}{ends}",
        "falling": f"{fall}{ends}",
        "flat": choice(f"stays nearly constant{level}", f"remains almost level{level}", f"is nearly flat{level}"),
        "peak": choice(
            f"rises to a peak{top} and then falls{height}",
            f"has a maximum{top}{height}: it rises before and falls after",
        ),
        "valley": choice(
            f"falls to a minimum{low} and then rises{depth}",
            f"has a minimum{low}{depth}: it falls before and rises after",
        ),
        "oscillating": choice("oscillates up and down", "oscillates, with several maxima and minima"),
        "irregular": choice("goes up and down without a clear direction", "varies irregularly, up and down"),
    }.get(series.trend, "")


def _points(series: SeriesFacts, choice: Choice) -> str:
    look = " ".join(filter(None, (series.colour, series.mark)))
    number = counted(series.num_marks, "point")
    drawn = f"{number} drawn as {look}s" if look.endswith(("circle", "square", "triangle", "diamond")) else number
    if look.endswith("cross"):
        drawn = f"{number} drawn as {look}es"
    subject = f"{quote(series.name)}: {drawn}" if series.name else drawn
    trend = {
        "positive": choice(
            "they rise to the right, a positive correlation", "with a positive correlation: larger x, larger y"
        ),
        "negative": choice(
            "they fall to the right, a negative correlation", "with a negative correlation: larger x, smaller y"
        ),
        "none": choice("they show no clear correlation", "without a visible correlation"),
    }.get(series.trend, "")
    return f"{subject}{'; ' if trend else ''}{trend}"


def _bars(series: SeriesFacts, panel: PanelFacts, choice: Choice) -> str:
    noun = "bin" if series.kind == "histogram" else "bar"
    number = counted(series.num_marks, noun)
    look = f"{series.colour} " if series.colour else ""
    number = number.replace(noun, f"{look}{noun}", 1)
    subject = f"{quote(series.name)} has {number}" if series.name else choice(f"there are {number}", f"it has {number}")
    if series.num_marks == 1 and not series.name:
        subject = subject.replace("there are", "there is")
    longest = "longest" if series.horizontal else choice("tallest", "highest")
    parts = [subject]
    if series.top_x:
        height = f" and ends {near(series.top_y)}" if series.top_y else ""
        parts.append(f"the {longest} stands {at(series.top_x)}{height}")
    if series.low_x and series.kind == "bars":
        parts.append(
            f"the {'shortest' if series.horizontal else choice('lowest', 'shortest')} stands {at(series.low_x)}"
        )
    direction = "from top to bottom" if series.horizontal else "from left to right"
    if series.trend in ("rising", "falling"):
        word = {"rising": choice("rise", "increase"), "falling": choice("fall", "decrease")}[series.trend]
        parts.append(f"the bars {word} {direction}")
    return "; ".join(parts)


def extras_sentences(panel: PanelFacts, choice: Choice) -> list[str]:
    found = []
    if panel.error_bars:
        found.append(choice("Error bars are drawn.", "The marks carry error bars."))
    if panel.bands:
        found.append(
            sentence(
                f"{counted(panel.bands, 'shaded band')} {'is' if panel.bands == 1 else 'are'} drawn around the lines"
            )
        )
    if panel.reference_lines:
        verb = "runs" if panel.reference_lines == 1 else "run"
        found.append(sentence(f"{counted(panel.reference_lines, 'straight reference line')} {verb} across the plot"))
    if panel.cells:
        found.append("The colours of the cells tell their values.")
    if panel.notes:
        names = listed([quote(note) for note in panel.notes])
        found.append(choice(f"Inside the plot is written {names}.", f"The plot carries the text {names}."))
    return found
