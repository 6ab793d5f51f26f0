"""The acceptance test of the describer: a fixed answerer reads captions of charts and tables whose content is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from s1pro.corpus.captioning.checks import check_caption
from s1pro.corpus.describe.facts import Facts
from s1pro.corpus.describe.page import find_facts
from s1pro.corpus.describe.prose import render
from s1pro.corpus.pdf.extract import text_in
from s1pro.corpus.pdf.reader import open_document, read_page
from s1pro.corpus.records import ElementType
from tests.corpus.describe import charts, exam, tables

STYLES = ("dense", "structured", "teaching")


def facts_of(pdf: bytes, type: ElementType) -> tuple[Facts, str]:
    """Facts of the whole page, and its text layer as rows of elements have it."""
    content = read_page(open_document(pdf), 0)
    box = (0.0, -20.0, content.width, content.height + 20.0)  # axes of matplotlib may stand out a little
    return find_facts(content, box, type), text_in(content, (-20.0, *box[1:]))


def grade(answers: Iterable[tuple[str, str, str]]) -> tuple[Counter[str], Counter[str], list[tuple[str, str, str]]]:
    """Questions and right answers by kind, and the wrong ones."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong = []
    for kind, expected, given in answers:
        asked[kind] += 1
        right[kind] += expected == given
        if expected != given:
            wrong.append((kind, expected, given))
    return asked, right, wrong


def examined(library: str, seeds: range) -> Iterator[tuple[str, str, str]]:
    """Draws, describes and asks. A number that is not on the page fails at once, and so do checks of captions that
    doubt one that is, or let an invented one pass."""
    for kind in charts.KINDS:
        for seed in seeds:
            drawn = charts.make(library, kind, seed)
            facts, layer = facts_of(drawn.pdf, "figure")
            text = render(facts, style=STYLES[seed % len(STYLES)], seed=str(seed))
            assert exam.foreign_numbers(text, layer) == [], (library, kind, seed)
            assert check_caption(text, layer).foreign_numbers == (), (library, kind, seed)
            invented = exam.invented_numbers(layer, 12, seed)
            told = check_caption(" ".join([text, *(f"Somewhere it reaches {n}." for n in invented)]), layer)
            assert set(told.foreign_numbers) == set(invented), (library, kind, seed)
            yield from exam.questions(drawn, text)


@pytest.mark.parametrize("library", charts.LIBRARIES)
def test_captions_of_charts_answer_questions(library: str) -> None:
    asked, right, wrong = grade(examined(library, range(2)))
    assert sum(right.values()) >= 0.95 * sum(asked.values()), wrong
    assert set(asked) >= {"axis name", "unit", "scale", "range", "legend", "number of series", "trend", "categories"}


@pytest.mark.slow
@pytest.mark.parametrize("library", charts.LIBRARIES)
def test_captions_of_many_charts_answer_questions(library: str) -> None:
    """180 charts per library that nothing was tuned on; every kind of question counts for itself."""
    asked, right, wrong = grade(examined(library, range(5000, 5030)))
    for kind in asked:
        assert right[kind] >= 0.9 * asked[kind], (kind, asked[kind], [entry for entry in wrong if entry[0] == kind])
    assert sum(right.values()) >= 0.97 * sum(asked.values()), wrong


@pytest.mark.parametrize("program", tables.PROGRAMS)
def test_captions_of_tables_answer_questions(program: str) -> None:
    def answers() -> Iterator[tuple[str, str, str]]:
        for seed in range(12):
            drawn = tables.make(program, seed)
            facts, layer = facts_of(drawn.pdf, "table")
            text = render(facts, seed=str(seed))
            assert exam.foreign_numbers(text, layer) == []
            yield from exam.table_questions(drawn, text)

    asked, right, wrong = grade(answers())
    assert asked["cells"] > 150 and sum(right.values()) >= 0.97 * sum(asked.values()), wrong


def test_the_answerer_is_not_easily_pleased() -> None:
    """A caption of another chart fails the exam: the questions do not answer themselves."""
    drawn, other = charts.make("vega", "line", 1), charts.make("vega", "bar", 2)
    facts, _ = facts_of(other.pdf, "figure")
    asked, right, _ = grade(exam.questions(drawn, render(facts)))
    assert sum(right.values()) < 0.4 * sum(asked.values())
    assert exam.foreign_numbers("It rises from 12 to 4711.", "12 13") == ["4711"]


@pytest.mark.parametrize("kind", charts.KINDS)
def test_styles_and_seeds_vary_the_text_and_keep_the_facts(kind: str) -> None:
    facts, _ = facts_of(charts.make("vega", kind, 3).pdf, "figure")
    assert Facts.from_json(facts.to_json()) == facts
    texts = {render(facts, seed=str(seed)) for seed in range(12)}
    assert len(texts) >= 10 and render(facts, seed="4") == render(facts, seed="4")
    assert facts.chart is not None and facts.chart.panels[0].y is not None
    for style in ("dense", "structured", "teaching", "qa", "read_out"):
        assert facts.chart.panels[0].y.title in render(facts, style=style)
