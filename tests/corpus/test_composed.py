"""Papers with known boxes: they are what they claim, the scores are right, and the extractor reaches its gates."""

from __future__ import annotations

import importlib.util
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.corpus.composed import collection, reportlab_papers, typst_papers
from tests.corpus.composed.evaluate import Found, Score, evaluate, normal_label, squeezed, table_of
from tests.corpus.composed.truth import ComposedDocument, rendered_ink

pytest.importorskip("reportlab")
pytest.importorskip("typst")
pytest.importorskip("pypdfium2")

needs_extractor = pytest.mark.skipif(
    importlib.util.find_spec("s1pro.corpus.pdf") is None
    or importlib.util.find_spec("s1pro.corpus.pdf.extract") is None,
    reason="the extractor is not there yet",
)


@pytest.fixture(scope="module")
def papers() -> list[ComposedDocument]:
    return collection.small()


def truth_of(documents: list[ComposedDocument], slip: float = 0.0) -> dict[bytes, list[Found]]:
    """What a perfect extractor finds, boxes moved by `slip` of their width."""
    found: dict[bytes, list[Found]] = {}
    for document in documents:
        items = found.setdefault(document.data, [])
        for i, element in enumerate(document.elements):
            page = document.pages[element.page]
            moved = slip * (element.box[2] - element.box[0])
            box = (element.box[0] + moved, element.box[1], element.box[2] + moved, element.box[3])
            item = Found(
                id=f"e{i}",
                page=element.page,
                type=element.type,
                box=tuple(2 * side for side in box),  # type: ignore[arg-type]
                page_size=(2 * page.width, 2 * page.height),
                label=element.label,
                caption=element.caption,
            )
            items.append(item)
            for letter, panel in element.panels:
                panel_box = tuple(2 * side for side in panel)
                items.append(replace(item, id=f"e{i}{letter}", box=panel_box, parent=f"e{i}", label=f"({letter})"))  # type: ignore[arg-type]
    return found


def test_perfect_extraction_scores_one(papers: list[ComposedDocument]) -> None:
    score = evaluate(papers, truth_of(papers).__getitem__)["all", "all"]
    for tally in score.classes.values():
        assert tally.true == tally.found > 30
        assert tally.recall(0.9) == tally.precision(0.9) == tally.link == 1.0 and tally.mean_cer == 0.0
    assert score.panels.f1 == 1.0 and score.panels.true == score.panels.named > 20
    assert score.mistakes == []


def test_worse_extraction_scores_less(papers: list[ComposedDocument]) -> None:
    moved = evaluate(papers, truth_of(papers, slip=0.2).__getitem__)["all", "all"].classes["figure"]
    assert moved.recall(0.5) == 1.0 and moved.recall(0.75) == 0.0  # 0.8 / 1.2 = 0.67
    found = truth_of(papers)
    figures = sum(element.type == "figure" for paper in papers for element in paper.elements)

    def half_of(data: bytes) -> Iterator[Found]:
        for item in found[data]:
            if item.type != "figure" or item.label.endswith(("1", "3", "5")):
                yield replace(item, label="Figure 99", caption="")
            if item.type == "table":
                yield replace(item, id="again", box=(0.0, 0.0, 30.0, 30.0))

    score = evaluate(papers, half_of)["all", "all"]
    assert score.classes["figure"].recall() == score.classes["figure"].found / figures < 0.8
    assert score.classes["table"].recall() == 1.0 and score.classes["table"].precision() == 0.5
    assert score.link == 0.0 and score.classes["table"].mean_cer > 0.9 and score.panels.f1 < 0.9


def test_labels_are_compared_by_kind_and_number() -> None:
    assert normal_label("Fig. 3.") == normal_label("FIG. 3") == normal_label("Figure 3 |") == ("figure", "3")
    assert normal_label("TABLE IV") == ("table", "iv") != normal_label("Table 4")
    assert normal_label("图 2") == normal_label("Figure 2") and normal_label("Figure S2") == ("figure", "s2")
    assert normal_label("Figure 2.3") != normal_label("Figure 3")


def test_labels_and_captions_are_printed(papers: list[ComposedDocument]) -> None:
    """Truth against the text layer: every label and caption stands on its page, word for word but for hyphens."""
    import pypdfium2

    for paper in papers:
        pdf = pypdfium2.PdfDocument(io.BytesIO(paper.data))
        assert [pdf[i].get_size() for i in range(len(pdf))] == [
            pytest.approx((page.width, page.height), abs=0.1) for page in paper.pages
        ]
        for element in paper.elements:
            raw = pdf[element.page].get_textpage().get_text_range().replace("\ufffe", "").replace("\x02", "")
            text, caption = (squeezed(t).lower().replace("-", "").replace("−", "") for t in (raw, element.caption))
            assert element.continued or (squeezed(element.label).lower() in text and caption in text), (
                paper.name,
                element,
            )


def test_boxes_end_where_the_ink_ends(papers: list[ComposedDocument]) -> None:
    """Truth against pixels: ink along all four sides of a box, and none in a thin frame around it."""
    open_frames: Counter[str] = Counter()
    total = 0
    for paper in papers:
        if paper.style == "chinese":
            continue  # its font is not embedded
        ink_of = dict(rendered_ink(paper, {element.page for element in paper.elements}, scale=2.0))
        for element in paper.elements:
            ink, (x0, y0, x1, y1) = ink_of[element.page], (round(2 * side) for side in element.box)
            inside = ink[y0:y1, x0:x1]
            for side in (inside[:4], inside[-4:], inside[:, :4], inside[:, -4:]):
                assert side.any(), (paper.name, element.label)
            around = ink[max(y0 - 5, 0) : y1 + 5, max(x0 - 5, 0) : x1 + 5].copy()
            around[3:-3, 3:-3] = False
            total += 1
            open_frames[paper.name] += bool(np.count_nonzero(around) > 12)
    assert total > 60 and sum(open_frames.values()) <= 0.12 * total, open_frames  # notes and captions close by


def test_the_collection_has_what_publishers_do(papers: list[ComposedDocument]) -> None:
    pages = [page for paper in papers for page in paper.pages]
    assert {page.rotation for page in pages} == {0, 90, 270}
    assert any(page.width > page.height for page in pages) and {paper.generator for paper in papers} == {
        "reportlab",
        "typst",
    }
    elements = [element for paper in papers for element in paper.elements]
    assert any(element.continued for element in elements) and sum(bool(element.panels) for element in elements) > 15
    assert any(b"/UserUnit 2" in paper.data for paper in papers)
    again = reportlab_papers.compose(reportlab_papers.STYLES[0], 0, pages=collection.SMALL_PAGES)
    assert again == papers[0]
    again = typst_papers.compose(typst_papers.TYPST_STYLES[1], 0, floats=collection.SMALL_FLOATS)
    assert again == papers[len(reportlab_papers.STYLES) + 1]


def check_gates(score: Score) -> None:
    figures, tables = score.classes["figure"], score.classes["table"]
    report = "\n" + "\n".join(score.mistakes[:30])
    assert figures.recall() >= 0.97 and figures.precision() >= 0.97, (figures.recall(), figures.precision(), report)
    assert tables.recall() >= 0.95 and tables.precision() >= 0.95, (tables.recall(), tables.precision(), report)
    assert score.link >= 0.99, (score.link, report)
    assert score.panels.f1 >= 0.9, score.panels


@needs_extractor
def test_extractor_on_the_small_collection(papers: list[ComposedDocument]) -> None:
    from tests.corpus.composed.extracted import found_by

    check_gates(evaluate(papers, found_by())["all", "all"])


@needs_extractor
@pytest.mark.slow
def test_extractor_on_the_full_collection() -> None:
    from tests.corpus.composed.extracted import found_by

    scores = evaluate(collection.full(), found_by())
    print(table_of(scores))  # noqa: T201
    for generator in ("reportlab", "typst"):
        check_gates(scores[generator, "all"])


@needs_extractor
@pytest.mark.slow
def test_extractor_on_papers_it_was_not_tuned_on() -> None:
    from tests.corpus.composed.extracted import found_by

    scores = evaluate(collection.held_out(), found_by())
    print(table_of(scores))  # noqa: T201
    check_gates(scores["all", "all"])
