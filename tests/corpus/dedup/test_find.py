"""Precision and recall on figures that we draw, and the same clusters for any order and any shards."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.corpus.dedup import DedupSettings, find_duplicates
from s1pro.corpus.dedup.find import (
    candidate_pairs,
    candidate_pairs_between,
    cluster,
    exact_leaders,
    signatures_of,
    verify_pair,
)
from s1pro.corpus.dedup.selfmade import MAKERS, Picture, copies, padded, photo, plot, resized, table
from s1pro.corpus.dedup.signature import read_grey
from s1pro.corpus.records import DuplicateRow, ElementRow

SETTINGS = DedupSettings()
EASY = ("resize", "jpeg", "padding", "gamma", "grey")


def figures(kind: str, number: int) -> Iterator[tuple[Picture, Picture]]:
    """Originals, and for each one that differs in a series, a row or a disc."""
    for i in range(number):
        if kind == "random plots":
            yield plot(i), plot(i, changed=True)
        elif kind == "plots of a template":
            yield plot(i, 3), plot(i, 3, changed=True)
        elif kind == "tables":
            yield table(i), table(i, changed=True)
        else:
            yield photo(i), photo(i + 700)


def collection(pairs: Sequence[tuple[Picture, Picture]], *, text: bool = True) -> list[ElementRow]:
    rows = []
    for i, (original, miss) in enumerate(pairs):
        for name, picture in (("original", original), *copies(original, i), ("miss", miss)):
            shown = picture if text else replace(picture, words=())
            rows.append(shown.element(f"{i:03d}-{name}"))
    return rows


def same_pairs(rows: Sequence[ElementRow]) -> set[tuple[str, str]]:
    """What the pixels and texts of all candidate pairs say."""
    signatures, refused = signatures_of(rows, SETTINGS)
    assert not refused
    by_id = {s.element_id: s for s in signatures}
    pictures = {row.element_id: read_grey(row.image, row.element_id)[0] for row in rows}
    checked = [
        verify_pair(by_id[a], by_id[b], pictures.__getitem__, SETTINGS)
        for a, b in candidate_pairs(signatures, SETTINGS)
    ]
    return {each.pair for each in checked if each.same}


def is_right(pair: tuple[str, str]) -> bool:
    (first, a), (second, b) = (name.split("-") for name in pair)
    return first == second and (a == "miss") == (b == "miss")


def check(pairs: Sequence[tuple[Picture, Picture]], *, text: bool, crops: float = 0.8) -> None:
    found = same_pairs(collection(pairs, text=text))
    wrong = {pair for pair in found if not is_right(pair)}
    assert len(wrong) <= 0.001 * len(found), wrong
    for name in MAKERS:
        wanted = [(f"{i:03d}-{name}", f"{i:03d}-original") for i in range(len(pairs))]
        recall = np.mean([tuple(sorted(pair)) in found for pair in wanted])
        assert recall >= (crops if name in ("crop", "combined") else 0.95), name


@pytest.mark.parametrize("kind", ["random plots", "plots of a template", "tables", "photos"])
def test_copies_are_found_and_near_misses_are_not(kind: str) -> None:
    check(list(figures(kind, 2)), text=True, crops=0.5)


def test_without_text_the_pixels_decide() -> None:
    check(list(figures("plots of a template", 3)), text=False, crops=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random plots", "plots of a template", "tables", "photos"])
def test_precision_and_recall_on_many(kind: str) -> None:
    check(list(figures(kind, 24)), text=True, crops=0.7 if kind == "photos" else 0.8)  # photos, combined: 0.75 measured


@pytest.mark.slow
@pytest.mark.parametrize("template", [False, True])
def test_plots_of_another_library(template: bool) -> None:
    """Matplotlib never took part in fitting the thresholds; no text, so nothing but the pixels."""
    pytest.importorskip("matplotlib")
    check([(_matplotlib_plot(i, template), _matplotlib_plot(i, template, changed=True)) for i in range(25)], text=False)


def _matplotlib_plot(seed: int, template: bool, *, changed: bool = False) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style, data = np.random.default_rng([1, 0 if template else seed]), np.random.default_rng([2, seed])
    figure = Figure(figsize=(style.uniform(3.5, 6), style.uniform(2.8, 4.5)), dpi=110, layout="tight")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    kind = style.integers(0, 4)
    for series in range(3):
        values = (
            np.random.default_rng([3, seed]) if changed and series == 1 else np.random.default_rng([4, seed, series])
        )
        x = np.linspace(0, 10, 60)
        if kind == 0:
            axes.plot(x, values.normal(size=60).cumsum())
        elif kind == 1:
            axes.scatter(values.uniform(0, 10, 40), values.uniform(0, 1, 40), s=14)
        elif kind == 2:
            axes.bar(np.arange(8) + 0.25 * series, values.uniform(1, 5, 8), width=0.25)
        else:
            axes.step(x, np.sin(values.uniform(0.5, 3) * x + values.uniform(0, 6)), lw=1)
    axes.set_xlabel("time (s)")
    axes.set_ylabel(f"signal {data.integers(0, 3)} (mV)")
    axes.grid(bool(style.integers(0, 2)))
    canvas.draw()
    return Picture(image=Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


@pytest.fixture(scope="module")
def mixed() -> list[ElementRow]:
    pairs = [pair for kind in ("random plots", "tables") for pair in figures(kind, 1)]
    rows = collection(pairs)
    return [
        *rows,
        replace(rows[0], element_id="again", caption="a long caption"),
        Picture(image=Image.new("L", (90, 60), 255)).element("blank"),
    ]


@pytest.fixture(scope="module")
def decided(mixed: list[ElementRow]) -> list[DuplicateRow]:
    return find_duplicates(mixed)


def test_every_element_has_one_row(mixed: list[ElementRow], decided: list[DuplicateRow]) -> None:
    assert [row.element_id for row in decided] == [element.element_id for element in mixed]
    rows = {row.element_id: row for row in decided}
    assert rows["blank"].decision == "not_compared" and "ink" in rows["blank"].reason
    for row in decided:
        assert (row.representative == row.element_id) == (row.decision != "duplicate")
        if row.decision == "duplicate":
            assert rows[row.representative].decision == "representative"


def test_the_representative_has_the_most_pixels(mixed: list[ElementRow], decided: list[DuplicateRow]) -> None:
    """`width` and `height` of the picture itself; of equal ones the longer caption."""
    from PIL import Image as Images

    pixels = {}
    for element in mixed:
        with Images.open(io.BytesIO(element.image)) as image:
            pixels[element.element_id] = image.width * image.height
    marked = [row for row in decided if row.decision == "duplicate"]
    assert len(marked) >= 12
    assert all(pixels[row.representative] >= pixels[row.element_id] for row in marked)
    rows = {row.element_id: row for row in decided}
    assert rows["000-original"].representative == rows["again"].representative


@pytest.mark.parametrize("seed", [1])
def test_the_order_does_not_matter(mixed: list[ElementRow], decided: list[DuplicateRow], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(mixed))
    again = {row.element_id: row for row in find_duplicates([mixed[i] for i in order])}
    assert [again[row.element_id] for row in decided] == decided


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_give_the_same_rows(mixed: list[ElementRow], decided: list[DuplicateRow], shards: int) -> None:
    """The four steps apart: signatures per shard, pairs within and between shards, then one reduction."""
    parts = [signatures_of(mixed[i::shards], SETTINGS) for i in range(shards)]
    signatures = [s for part, _ in parts for s in part]
    leaders = exact_leaders(signatures)
    distinct = [[s for s in part if leaders[s.element_id] == s.element_id] for part, _ in parts]
    pairs = {pair for part in distinct for pair in candidate_pairs(part, SETTINGS)}
    for i, first in enumerate(distinct):
        for second in distinct[i + 1 :]:
            pairs |= set(candidate_pairs_between(first, second, SETTINGS))
    by_id = {s.element_id: s for s in signatures}
    pictures = {e.element_id: read_grey(e.image, e.element_id)[0] for e in mixed}
    checked = [verify_pair(by_id[b], by_id[a], pictures.__getitem__, SETTINGS) for a, b in sorted(pairs, reverse=True)]
    rows = {row.element_id: row for row in cluster(signatures, leaders, checked)}
    assert [rows[r.element_id] for r in decided if r.decision != "not_compared"] == [
        r for r in decided if r.decision != "not_compared"
    ]


def test_clusters_do_not_chain() -> None:
    """a ~ b and b ~ c but not a ~ c: c is compared with its representative, and a is not one of c's."""
    rows = [resized(plot(1), factor).element(name) for name, factor in (("a", 1.0), ("b", 0.9), ("c", 0.8))]
    signatures, _ = signatures_of(rows, SETTINGS)
    pictures = {row.element_id: read_grey(row.image, row.element_id)[0] for row in rows}
    by_id = {s.element_id: s for s in signatures}
    checked = [verify_pair(by_id[x], by_id[y], pictures.__getitem__, SETTINGS) for x, y in (("a", "b"), ("b", "c"))]
    assert all(each.same for each in checked)
    decisions = {r.element_id: r.representative for r in cluster(signatures, {n: n for n in "abc"}, checked)}
    assert decisions == {"a": "a", "b": "a", "c": "c"}


def test_other_numbers_at_the_ticks_make_another_figure() -> None:
    """Pixels of 64 tick labels say little; the text layer says it."""
    first = padded(plot(5), (0.01, 0.01, 0.01, 0.01))
    (word, box), *rest = first.words
    other = replace(first, words=((word + "7", box), *rest[:-1], ("999", rest[-1][1])))
    rows = find_duplicates([first.element("a"), resized(other, 0.9).element("b")])
    assert [row.decision for row in rows] == ["unique", "unique"]
    rows = find_duplicates([first.element("a"), resized(replace(first, words=()), 0.9).element("b")])
    assert [row.decision for row in rows] == ["representative", "duplicate"]


def test_wrong_input() -> None:
    element = plot(1).element("a")
    with pytest.raises(InputError, match="2 elements have only 1"):
        find_duplicates([element, element])
    rows = find_duplicates([replace(element, image=b""), replace(element, element_id="b", image=b"no picture")])
    assert [row.decision for row in rows] == ["not_compared", "not_compared"]
    assert "carries none" in rows[0].reason and "cannot be read" in rows[1].reason
    with pytest.raises(ValueError, match="bands"):
        DedupSettings(bands=64)
