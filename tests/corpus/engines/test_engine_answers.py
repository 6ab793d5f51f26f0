"""Answers of engines: what is refused and why, the log of replies, captions among words, pages that cannot be drawn."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pypdfium2")
pytest.importorskip("reportlab")

from s1pro.base.errors import InputError
from s1pro.corpus.children import Limits
from s1pro.corpus.engines.answer import EngineWord, read_answer
from s1pro.corpus.engines.log import Reply, ReplyLog
from s1pro.corpus.engines.render import PagePicture, PageRenderer, WantedPage
from s1pro.corpus.engines.settings import AnswerLimits, LayoutSettings
from s1pro.corpus.engines.text import content_of_words, page_text
from s1pro.corpus.pdf.crops import CropSettings
from tests.corpus.engines import moody
from tests.corpus.engines.scans import HEIGHT, Truth, scanned
from tests.corpus.pdf.paper import Paper

BOX = [0.1, 0.2, 0.5, 0.6]
NAN = float("nan")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return scanned(0, 1)[1][0]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "expected an object with elements or words"),
        ({"figures": []}, "expected an object with elements or words"),
        ({"elements": {}}, "elements: expected a list"),
        ({"elements": [{"box": BOX}]}, r"elements\[0\]: the field 'type' is missing"),
        ({"elements": [{"type": "picture", "box": BOX}]}, r"elements\[0\].type: expected one of figure, chart"),
        ({"elements": [{"type": ["figure"], "box": BOX}]}, r"elements\[0\].type: expected text"),
        ({"elements": [{"type": "figure"}]}, "the field 'box' is missing"),
        ({"elements": [{"type": "figure", "box": [0, 0, 1]}]}, "expected 4 numbers"),
        ({"elements": [{"type": "figure", "box": [0, 0, NAN, 1]}]}, "expected shares of the page"),
        ({"elements": [{"type": "figure", "box": [0, 0, "1", 1]}]}, "expected a number"),
        ({"elements": [{"type": "figure", "box": [0, 0, 612, 792]}]}, "expected shares of the page"),
        ({"elements": [{"type": "figure", "box": [0.5, 0, 0.5, 1]}]}, "expected x0 < x1"),
        ({"elements": [{"type": "figure", "box": BOX, "score": 1.5}]}, "expected a number from 0 to 1"),
        ({"elements": [{"type": "figure", "box": BOX, "label": 3}]}, r"elements\[0\].label: expected text"),
        ({"elements": [{"type": "figure", "box": BOX, "text": "x" * 9000}]}, "9000 characters; the limit is 8000"),
        ({"elements": [{"type": "figure", "box": BOX}] * 201}, "201 elements; the limit is 200"),
        ({"words": [{"box": BOX}]}, r"words\[0\]: the field 'text' is missing"),
        ({"words": [{"text": "x" * 8000, "box": BOX}] * 13}, "104000 characters in words; the limit is 100000"),
        ({"words": [{"text": "a", "box": BOX}] * 20_001}, "20001 words; the limit is 20000"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_answer(value, AnswerLimits())


def test_a_good_answer_is_read() -> None:
    element = {"type": "table", "box": [-0.01, 0, 1.01, 1], "label": " Table \n 1 ", "confidence": 7}
    words = [{"text": "a\x00b  c", "box": BOX}, {"text": " \n", "box": BOX}]
    found = read_answer({"elements": [element], "words": words, "model": "x"}, AnswerLimits())
    assert found.elements[0].box == (0.0, 0.0, 1.0, 1.0)
    assert (found.elements[0].label, found.elements[0].score) == ("Table 1", 1.0)
    assert [word.text for word in found.words] == ["a b c"]


def test_the_log_survives_a_cut_and_forgets_errors_of_earlier_rounds(tmp_path: Path) -> None:
    path = tmp_path / "calls" / "log.jsonl"
    with ReplyLog(path) as log:
        log.write("a", Reply(answer={"elements": [], "words": [{"text": "µ\ud800"}]}))
        log.write("b", Reply(error="HTTP 500"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"request": "c", "ans')
    with ReplyLog(path) as log:
        assert log.reply("a") == Reply(answer={"elements": [], "words": [{"text": "µ\ud800"}]})
        assert log.reply("b") == Reply(error="HTTP 500") and log.reply("c") is None
    assert path.read_bytes() == whole
    with ReplyLog(path, again=1) as log:
        assert log.reply("a") is not None and log.reply("b") is None
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(InputError, match="line 1 is no reply"):
        ReplyLog(path)


def words_of(truth: Truth) -> list[EngineWord]:
    return [EngineWord(text=word["text"], box=tuple(word["box"])) for word in truth.words]


def test_captions_are_found_among_words_that_shake(truth: Truth) -> None:
    """Boxes of OCR are off by a point, and their heights depend on the letters."""
    rng = random.Random(0)
    shaken = []
    for word in words_of(truth):
        x0, y0, x1, y1 = (value + rng.uniform(-0.8, 0.8) / HEIGHT for value in word.box)
        shaken.append(replace(word, box=(x0, y0, max(x1, x0 + 0.002), max(y1, y0 + 0.004))))
    found = page_text(content_of_words(0, truth.width, HEIGHT, shaken))
    assert [(caption.kind, caption.label) for caption in found.captions] == [
        ("figure", "Figure 1"),
        ("table", "Table 1"),
    ]
    assert found.captions[0].text.startswith("Yield of the reaction against time at 20 degrees, for all samples")
    assert {"figure:1", "table:1"} == {citation.key for citation in found.citations}


def test_whole_lines_do_for_words(truth: Truth) -> None:
    lines = page_text(content_of_words(0, truth.width, HEIGHT, words_of(truth))).lines
    scale = (truth.width, HEIGHT, truth.width, HEIGHT)
    whole = [
        EngineWord(text=line.text, box=tuple(value / size for value, size in zip(line.box, scale, strict=True)))
        for line in lines
    ]
    found = page_text(content_of_words(0, truth.width, HEIGHT, whole))
    assert [line.text for line in found.lines] == [line.text for line in lines]
    assert [caption.label for caption in found.captions] == ["Figure 1", "Table 1"]


def test_no_words_are_no_text() -> None:
    found = page_text(content_of_words(0, 600, 800, []))
    assert (found.lines, found.captions, found.num_chars) == ((), (), 0)


def test_text_without_ink_behind_a_scan_is_text() -> None:
    paper = Paper()
    paper.canvas.drawInlineImage(_grey(), 0, 0, 600, 800)
    text = paper.canvas.beginText(60, 400)
    text.setTextRenderMode(3)
    text.setFont("Times-Roman", 10)
    text.textOut("Figure 4. Hidden words.")
    paper.canvas.drawText(text)
    paper.page()
    with PageRenderer(CropSettings(pad=0), Limits()) as renderer:
        found = renderer.render(paper.data(), [WantedPage(page=0, text=True), WantedPage(page=7, text=False)])
    assert isinstance(found[0], PagePicture) and found[0].text is not None
    assert [(caption.label, caption.text) for caption in found[0].text.captions] == [("Figure 4", "Hidden words.")]
    assert str(found[7]).startswith("error: page 7 cannot be loaded")


def _grey() -> Any:
    from PIL import Image

    return Image.new("L", (60, 80), 200)


def test_a_page_that_kills_its_worker_is_named_and_the_others_are_drawn() -> None:
    limits = Limits(page_seconds=5.0, memory_mb=900, deaths=4)
    with PageRenderer(CropSettings(pad=0), limits, function=moody.NAME) as renderer:
        found = renderer.render(b"%PDF-", [WantedPage(page=page, text=False) for page in range(7)])
        assert {page for page, value in found.items() if isinstance(value, PagePicture)} == {0, 2, 4, 6}
        assert str(found[1]).startswith("crash") and found[3] == "timeout: took longer than allowed"
        assert "page 6 instead of 5" in str(found[5])
    with PageRenderer(CropSettings(pad=0), replace(limits, deaths=1), function=moody.NAME) as renderer:
        found = renderer.render(b"%PDF-", [WantedPage(page=page, text=False) for page in (0, 1, 2)])
        assert isinstance(found[0], PagePicture) and str(found[1]).startswith("crash")
        assert found[2] == "skipped: given up after too many deaths"


def test_another_document_than_the_one_that_was_ingested() -> None:
    good = Paper()
    good.page()
    with PageRenderer(CropSettings(pad=0), Limits()) as renderer:
        bad = renderer.render(b"%PDF-1.4 rotten", [WantedPage(page=0, text=False)])
        assert "cannot open it" in str(bad[0])
        assert isinstance(renderer.render(good.data(), [WantedPage(page=0, text=False)])[0], PagePicture)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match=r"layout\.routes"):
        LayoutSettings(routes=("text",))
    with pytest.raises(InputError, match="pages_at_once"):
        LayoutSettings(pages_at_once=0)
    assert "endpoint" not in LayoutSettings().identity()
