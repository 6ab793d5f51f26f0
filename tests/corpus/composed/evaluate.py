"""Scores an extractor on composed PDFs: recall and precision by overlap, captions, panels; per generator and style.

1. Boxes found are scaled by the reported page size, so that a reader that heeds `/UserUnit` and one that does not are
   treated alike.
2. True and found boxes of one class on one page are matched one to one, greedily by falling IoU.
3. Recall and precision at IoU 0.5, 0.75, 0.9 per class. Figures are figures, charts and schemes without a parent;
   tables are tables. Found boxes over neutral pictures, and found formulas and algorithms, are left out.
4. Of the matched elements: the label is right (kind and number; "Fig. 3" is "Figure 3"), and the character error rate
   of the caption, without white space; of parts that are continued only the label counts.
5. Panels: children of the figure that was matched, one to one at IoU 0.5; F1 over all panels, and the share of matched
   panels with the right letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import Levenshtein

from tests.corpus.composed.truth import Box, ComposedDocument, TrueElement

THRESHOLDS = (0.5, 0.75, 0.9)
CLASSES = {"figure": ("figure", "chart", "scheme"), "table": ("table",)}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an extractor says about one element; boxes in points of a page of `page_size`."""

    id: str
    page: int
    type: str
    box: Box
    page_size: tuple[float, float]
    parent: str = ""
    label: str = ""
    caption: str = ""


Extractor = Callable[[bytes], Iterable[Found]]


@dataclass
class Tally:
    """Counts of one class in some documents."""

    true: int = 0
    found: int = 0
    hits: dict[float, int] = field(default_factory=lambda: dict.fromkeys(THRESHOLDS, 0))
    linked: int = 0
    cer: list[float] = field(default_factory=list)

    def recall(self, threshold: float = 0.5) -> float:
        return self.hits[threshold] / self.true if self.true else 1.0

    def precision(self, threshold: float = 0.5) -> float:
        return self.hits[threshold] / self.found if self.found else 1.0

    @property
    def link(self) -> float:
        return self.linked / self.hits[0.5] if self.hits[0.5] else 1.0

    @property
    def mean_cer(self) -> float:
        return sum(self.cer) / len(self.cer) if self.cer else 0.0


@dataclass
class PanelTally:
    true: int = 0
    found: int = 0
    hits: int = 0
    named: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.true + self.found) if self.true + self.found else 1.0


@dataclass
class Score:
    """All counts of some documents, and a line for every mistake."""

    classes: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    panels: PanelTally = field(default_factory=PanelTally)
    mistakes: list[str] = field(default_factory=list)
    documents: int = 0
    pages: int = 0

    @property
    def link(self) -> float:
        """Over both classes."""
        hits = sum(tally.hits[0.5] for tally in self.classes.values())
        return sum(tally.linked for tally in self.classes.values()) / hits if hits else 1.0


def evaluate(documents: Sequence[ComposedDocument], extractor: Extractor) -> dict[tuple[str, str], Score]:
    """Scores by (generator, style); the sums are under (generator, "all") and ("all", "all")."""
    scores: dict[tuple[str, str], Score] = defaultdict(Score)
    for document in documents:
        found = [_scaled(item, document) for item in extractor(document.data)]
        for key in ((document.generator, document.style), (document.generator, "all"), ("all", "all")):
            _score_document(scores[key], document, found)
    return dict(scores)


def _scaled(item: Found, document: ComposedDocument) -> Found:
    page = document.pages[item.page]
    sx, sy = page.width / item.page_size[0], page.height / item.page_size[1]
    x0, y0, x1, y1 = item.box
    return Found(**{**vars(item), "box": (x0 * sx, y0 * sy, x1 * sx, y1 * sy), "page_size": (page.width, page.height)})


def _score_document(score: Score, document: ComposedDocument, found: list[Found]) -> None:
    score.documents += 1
    score.pages += len(document.pages)
    tops = [item for item in found if not item.parent]
    for name, types in CLASSES.items():
        tally = score.classes[name]
        true = [element for element in document.elements if element.type == name]
        mine = [item for item in tops if item.type in types]
        pairs = match(true, mine)
        matched = {i for _, i, value in pairs if value >= 0.5}
        mine_counted = [item for i, item in enumerate(mine) if i in matched or not _neutral(document, item)]
        tally.true += len(true)
        tally.found += len(mine_counted)
        for threshold in THRESHOLDS:
            tally.hits[threshold] += sum(value >= threshold for _, _, value in pairs)
        best = {t: (mine[i], value) for t, i, value in pairs}
        for t, element in enumerate(true):
            item, value = best.get(t, (None, 0.0))
            if item is None or value < 0.5:
                score.mistakes.append(f"{_where(document, element)}: missed (best IoU {value:.2f})")
            else:
                _score_caption(score, tally, document, element, item)
            if name == "figure":
                _score_panels(score.panels, element, item if value >= 0.5 else None, found)
        for i, item in enumerate(mine):
            if i not in matched and item in mine_counted:
                box = tuple(round(side) for side in item.box)
                score.mistakes.append(f"{document.name} page {item.page}: false {name} {box} {item.label!r}")


def match(true: Sequence[TrueElement], found: Sequence[Found]) -> list[tuple[int, int, float]]:
    """Pairs (true, found, IoU), one to one, best first."""
    candidates = [
        (iou(element.box, item.box), t, i)
        for t, element in enumerate(true)
        for i, item in enumerate(found)
        if element.page == item.page
    ]
    return _greedy(candidates)


def _greedy(candidates: list[tuple[float, int, int]]) -> list[tuple[int, int, float]]:
    pairs, used_true, used_found = [], set(), set()
    for value, t, i in sorted(candidates, key=lambda c: (-c[0], c[1], c[2])):
        if value > 0 and t not in used_true and i not in used_found:
            pairs.append((t, i, value))
            used_true.add(t)
            used_found.add(i)
    return pairs


def _score_caption(score: Score, tally: Tally, document: ComposedDocument, element: TrueElement, item: Found) -> None:
    if normal_label(item.label) == normal_label(element.label):
        tally.linked += 1
    else:
        score.mistakes.append(f"{_where(document, element)}: label {item.label!r}")
    if not element.continued:
        true, mine = squeezed(element.caption), squeezed(item.caption)
        error = min(Levenshtein.distance(true, mine) / max(len(true), 1), 1.0)
        tally.cer.append(error)
        if error > 0.1:
            score.mistakes.append(f"{_where(document, element)}: caption {item.caption!r} for {element.caption!r}")


def _score_panels(panels: PanelTally, element: TrueElement, item: Found | None, found: list[Found]) -> None:
    children = [child for child in found if item is not None and child.parent == item.id]
    panels.true += len(element.panels)
    panels.found += len(children)
    candidates = [
        (iou(box, child.box), t, i) for t, (_, box) in enumerate(element.panels) for i, child in enumerate(children)
    ]
    for t, i, value in _greedy([c for c in candidates if c[0] >= 0.5]):
        assert value >= 0.5
        panels.hits += 1
        panels.named += children[i].label.strip("().").lower() == element.panels[t][0].lower()


def _neutral(document: ComposedDocument, item: Found) -> bool:
    boxes = [box for page, box in document.neutral if page == item.page]
    return any(_overlap(box, item.box) > 0.5 * _area(item.box) for box in boxes)


def _where(document: ComposedDocument, element: TrueElement) -> str:
    return f"{document.name} page {element.page} {element.label}{' (continued)' if element.continued else ''}"


_KINDS = {"fig": "figure", "figure": "figure", "图": "figure", "table": "table", "表": "table", "scheme": "scheme"}


def normal_label(label: str) -> tuple[str, str]:
    """Kind and number: "Fig. 3", "FIG. 3" and "Figure 3" are one."""
    text = unicodedata.normalize("NFKC", label).strip().lower().rstrip(".:|").strip()
    match_ = re.fullmatch(r"(.*?)[.\s]*([a-z]?\d+(?:\.\d+)*[a-z]?|[ivx]+)", text)
    if match_ is None:
        return text, ""
    kind = match_[1].strip().rstrip(".").removeprefix("supplementary ").removeprefix("extended data ")
    return _KINDS.get(kind, kind), match_[2]


def squeezed(text: str) -> str:
    """Without white space, with compatible characters unified."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def iou(a: Box, b: Box) -> float:
    """Intersection over union."""
    common = _overlap(a, b)
    return common / (_area(a) + _area(b) - common) if common else 0.0


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def table_of(scores: dict[tuple[str, str], Score]) -> str:
    """A Markdown table, one line per generator and style."""
    iou = "R.5 | R.75 | R.9 | P.5"
    head = f"| generator | style | pages | figures | {iou} | tables | {iou} | link | CER | panels F1 |"
    lines = [head, "|" + "---|" * 16]
    for (generator, style), score in sorted(scores.items()):
        cells: list[Any] = [generator, style, score.pages]
        for name in CLASSES:
            tally = score.classes[name]
            cells += [tally.true, *(f"{tally.recall(t):.3f}" for t in THRESHOLDS), f"{tally.precision():.3f}"]
        cer = [value for tally in score.classes.values() for value in tally.cer]
        cells += [f"{score.link:.3f}", f"{sum(cer) / max(len(cer), 1):.3f}", f"{score.panels.f1:.3f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
