from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from s1pro.report.blocks import (
    Answer,
    Answers,
    Commands,
    Figure,
    Report,
    Section,
    StageTime,
    Table,
    Timings,
    check_svg,
)
from s1pro.report.html import format_cell, format_seconds, render, write

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """Checks that tags nest, and keeps ids, links and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in {"href", "src", "xlink:href"}:
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def one_section(*blocks: object) -> str:
    return render(Report(title="t", sections=(Section(title="s", blocks=blocks),)))  # type: ignore[arg-type]


def test_the_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    page = render(report)
    seen = outline(page)
    assert len(seen.ids) == len(set(seen.ids))
    assert all(link.startswith(("#", "data:image/")) for link in seen.links)
    assert {link[1:] for link in seen.links if link.startswith("#")} <= set(seen.ids)
    assert not {"script", "link", "img", "iframe", "object"} & set(seen.tags)
    assert not re.search(r"@import|url\((?!#)", page)
    assert len(page) < 150_000


def test_the_page_says_everything_it_was_given(report: Report) -> None:
    text = outline(render(report)).text
    for wanted in (
        "A first model",
        "3 of 4",
        "Not passed.",
        "0.412 [0.366, 0.459]",
        "over budget",
        "2 min 42 s",
        "C4H10O",
        "(no answer)",
        "unclosed ring 1",
        "AMD EPYC",
        "s1pro chat runs/demo/model",
        "validation",
        "load of each expert",
    ):
        assert wanted in text, wanted


def test_text_is_escaped_everywhere() -> None:
    evil = "<script>alert(1)</script>"
    page = one_section(
        Table(columns=(evil,), rows=((evil,),), caption=evil, note=evil),
        Answers(cards=(Answer(question=evil, answer=evil, expected=evil, task=evil, note=evil),)),
        Commands(lines=(evil,)),
        Figure(svg="<svg></svg>", alt=f'">{evil}', caption=evil),
        Timings(stages=(StageTime(stage=evil, seconds=1.0, note=evil),)),
    )
    assert "<script" not in page
    assert "script" not in outline(page).tags


@pytest.mark.parametrize(
    "svg",
    [
        "<p>no drawing</p>",
        "<svg><script>1</script></svg>",
        '<svg onload="x()"></svg>',
        "<svg><foreignObject/></svg>",
        '<svg><image href="https://example.org/a.png"/></svg>',
        '<svg><path style="fill: url(https://example.org/a)"/></svg>',
        '<svg><a xlink:href="javascript:x()"/></svg>',
        "<svg><style>* {color: red}</style></svg>",
    ],
)
def test_active_drawings_are_refused(svg: str) -> None:
    with pytest.raises(ValueError, match="a drawing must"):
        check_svg(svg)


def test_quiet_drawings_pass() -> None:
    check_svg('<svg><g clip-path="url(#c)"><use xlink:href="#m"/><text>on = 3, once = 4</text></g></svg>')


def test_rendering_is_reproducible(report: Report) -> None:
    assert render(report) == render(report)


def test_write_makes_folders_and_leaves_no_other_file(report: Report, tmp_path: Path) -> None:
    path = write(report, tmp_path / "runs" / "one" / "report.html")
    assert path.read_text(encoding="utf-8") == render(report)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_interrupted_write_keeps_the_old_file(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(report, path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (61482, "61,482"),
        (0.0, "0.000"),
        (1234.5, "1,234.500"),
        (0.00012345, "0.000123"),
        (float("nan"), "nan"),
        ("x", "x"),
    ],
)
def test_format_cell(value: object, text: str) -> None:
    assert format_cell(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_wrong_records_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        Table(columns=("a", "b"), rows=((1, 2), (1,)))
    with pytest.raises(ValueError, match="alt"):
        Figure(svg="<svg></svg>", alt="")
    with pytest.raises(ValueError, match="share the title"):
        Report(title="t", sections=(Section(title="A b", blocks=()), Section(title="a B", blocks=())))


def test_empty_blocks_render() -> None:
    outline(one_section(Table(columns=("a",), rows=()), Timings(stages=()), Answers(cards=()), Commands(lines=())))


def test_timings_sum_times_and_budgets() -> None:
    stages = (StageTime(stage="a", seconds=3.0, budget_seconds=2.0), StageTime(stage="b", seconds=1.0))
    total = Timings(stages=stages).total
    assert (total.seconds, total.budget_seconds, total.over_budget) == (4.0, 2.0, True)
    assert stages[0].over_budget and not stages[1].over_budget
