"""Facts to English sentences, in several styles, with many ways to say the same.

    dense        one paragraph per panel with everything
    structured   the same as a list
    short        what it is and what it shows, in two or three sentences
    read_out     ranges and readings
    qa           questions and answers about what is visible
    teaching     how to read the figure, then what it shows

Every statement comes from a field of the facts, and every digit from a printed label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from s1pro.base.errors import InputError
from s1pro.corpus.describe.chart_prose import (
    axis_sentences,
    chart_title,
    extras_sentences,
    legend_sentence,
    panel_name,
    panel_opening,
    panel_sentences,
    series_count,
    series_sentences,
)
from s1pro.corpus.describe.facts import ChartFacts, Facts, PanelFacts
from s1pro.corpus.describe.table_prose import table_questions, table_text
from s1pro.corpus.describe.wording import Choice, counted, listed, quote, sentence

STYLES = ("dense", "structured", "short", "read_out", "qa", "teaching")


def render(facts: Facts, *, style: str = "dense", seed: str = "") -> str:
    """The text of a description; empty if nothing is known.

    Raises:
        InputError: an unknown style.
    """
    if style not in STYLES:
        raise InputError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
    choice = Choice(f"{style}|{seed}")
    if facts.table is not None:
        text = table_questions(facts.table, choice) if style == "qa" else table_text(facts.table, style, choice)
    elif facts.chart is not None:
        text = _CHARTS[style](facts.chart, choice)
    else:
        return _drawing(facts, choice)
    rest = _rest(facts, choice) if style in ("dense", "structured") else ""
    return "\n".join(filter(None, (text, rest)))


def _dense(chart: ChartFacts, choice: Choice) -> str:
    paragraphs = []
    opening = _chart_opening(chart, choice)
    for panel in chart.panels:
        sentences = [panel_opening(panel, choice, alone=len(chart.panels) == 1), *panel_sentences(panel, choice)]
        paragraphs.append(" ".join(filter(None, sentences)))
    if len(chart.panels) == 1:
        paragraphs[0] = " ".join(filter(None, (paragraphs[0], *_colour_bars(chart, choice))))
        return paragraphs[0]
    return "\n".join([opening, *paragraphs, *_colour_bars(chart, choice)])


def _structured(chart: ChartFacts, choice: Choice) -> str:
    lines = [_chart_opening(chart, choice)] if len(chart.panels) > 1 else []
    for panel in chart.panels:
        lines.append(panel_opening(panel, choice, alone=len(chart.panels) == 1))
        lines += [f"- {text}" for text in panel_sentences(panel, choice)]
    return "\n".join([*lines, *_colour_bars(chart, choice)])


def _short(chart: ChartFacts, choice: Choice) -> str:
    alone = len(chart.panels) == 1
    parts = [] if alone else [_chart_opening(chart, choice)]
    for panel in chart.panels:
        parts.append(panel_opening(panel, choice, alone=alone))
        parts.append(series_count(panel, choice))
        parts += series_sentences(panel, choice, brief=True)
    return " ".join(filter(None, parts))


def _read_out(chart: ChartFacts, choice: Choice) -> str:
    parts = [] if len(chart.panels) == 1 else [_chart_opening(chart, choice)]
    for panel in chart.panels:
        parts.append(panel_opening(panel, choice, alone=len(chart.panels) == 1))
        parts += axis_sentences(panel, choice)
        parts += series_sentences(panel, choice)
    return " ".join(filter(None, [*parts, *_colour_bars(chart, choice)]))


def _teaching(chart: ChartFacts, choice: Choice) -> str:
    alone = len(chart.panels) == 1
    parts = [
        choice(
            "To read this figure, begin with the axes.",
            "Before looking at the data, read the axes.",
            "The axes tell what is compared here.",
        )
    ]
    if not alone:
        parts.insert(0, _chart_opening(chart, choice))
    for panel in chart.panels:
        parts += [panel_opening(panel, choice, alone=alone), *axis_sentences(panel, choice)]
        legend = legend_sentence(panel, choice)
        if legend:
            parts += [choice("Next, match colours and names.", "Colours are explained beside the curves."), legend]
        seen = [series_count(panel, choice), *series_sentences(panel, choice), *extras_sentences(panel, choice)]
        parts += [choice("Now the data.", "Then look at what is drawn.", "What is drawn?"), *seen]
    return " ".join(filter(None, parts))


def _questions(chart: ChartFacts, choice: Choice) -> str:
    pairs: list[tuple[str, str]] = []
    for panel in chart.panels:
        pairs += _panel_questions(panel, choice, alone=len(chart.panels) == 1)
    if len(chart.panels) > 1:
        pairs.insert(0, ("How many panels are there?", f"There are {counted(len(chart.panels), 'panel')}."))
    return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in pairs)


def _panel_questions(panel: PanelFacts, choice: Choice, *, alone: bool) -> list[tuple[str, str]]:
    where = "" if alone else f" in {panel_name(panel)}"
    pairs: list[tuple[str, str]] = []
    axes = [axis for axis in (panel.x, panel.y, panel.right) if axis is not None]
    for axis, text in zip(axes, axis_sentences(panel, choice), strict=True):
        name = re.split(r"^The | axis\b", text)[1]
        asked = (
            "Which categories does the {} axis have{}?" if axis.scale == "category" else "What does the {} axis show{}?"
        )
        pairs.append((asked.format(name, where), text))
    if panel.legend:
        pairs.append((f"What does the legend list{where}?", legend_sentence(panel, choice)))
    count = series_count(panel, choice)
    if count:
        pairs.append((f"How many series are drawn{where}?", count))
    for series, text in zip(panel.series, series_sentences(panel, choice), strict=True):
        of = f" of {quote(series.name)}" if series.name else ""
        pairs.append((f"What can be seen{of}{where}?" if of else f"What do the data show{where}?", text))
    return pairs


def _chart_opening(chart: ChartFacts, choice: Choice) -> str:
    if len(chart.panels) < 2:
        return ""
    number = counted(len(chart.panels), "panel")
    title = chart_title(chart.title, choice)
    opening = choice(f"the figure has {number}", f"{number} make up this figure", f"this figure consists of {number}")
    return sentence(f"{opening}{title}")


def _colour_bars(chart: ChartFacts, choice: Choice) -> list[str]:
    found = []
    for bar in chart.colour_bars:
        name = f" for {quote(bar.title)}" if bar.title else ""
        found.append(
            choice(
                f"A colour bar{name} runs from {bar.low} to {bar.high}.",
                f"Colours are explained by a bar{name} whose tick labels go from {bar.low} to {bar.high}.",
            )
        )
    return found


def _rest(facts: Facts, choice: Choice) -> str:
    """Labels that belong to no axis."""
    if not facts.texts:
        return ""
    names = listed([quote(text) for text in facts.texts])
    return choice(f"Also written in the figure: {names}.", f"Further text in the figure reads {names}.")


def _drawing(facts: Facts, choice: Choice) -> str:
    """A figure without axes: its texts, boxes, pictures and colours."""
    parts: list[str] = []
    if facts.number:
        parts.append(f"A displayed formula with the number {facts.number}.")
    if facts.panel_labels:
        labels = listed(list(facts.panel_labels))
        parts.append(f"The figure has {counted(len(facts.panel_labels), 'part')}, marked {labels}.")
    if facts.pictures:
        parts.append(_pictures(facts.pictures))
    if facts.boxes:
        names = listed([quote(text) for text in facts.boxes])
        parts.append(choice(f"Boxes hold the texts {names}.", f"There are boxes labelled {names}."))
    if facts.arrows and not facts.truncated:
        parts.append(sentence(f"{counted(facts.arrows, 'arrow')} {'is' if facts.arrows == 1 else 'are'} drawn"))
    others = [text for text in facts.texts if text not in facts.boxes]
    if others:
        names = listed([quote(text) for text in others])
        parts.append(choice(f"Written in it: {names}.", f"It contains the text {names}.", f"The labels read {names}."))
    if facts.colours:
        parts.append(choice(f"Colours: {listed(facts.colours)}.", f"The drawing uses {listed(facts.colours)}."))
    return " ".join(parts)


def _pictures(places: Sequence[str]) -> str:
    if len(places) == 1 and places[0] == "whole":
        return "A raster image fills the figure."
    where = [f"at the {place}" if place not in ("whole", "centre") else "in the centre" for place in places]
    if len(places) == 1:
        return f"A raster image stands {where[0]}."
    if len(places) > 6:
        return sentence(f"{counted(len(places), 'raster image')} are arranged in the figure")
    return sentence(f"{counted(len(places), 'raster image')} are placed {listed(where)}")


_CHARTS: Mapping[str, Callable[[ChartFacts, Choice], str]] = {
    "dense": _dense,
    "structured": _structured,
    "short": _short,
    "read_out": _read_out,
    "qa": _questions,
    "teaching": _teaching,
}
