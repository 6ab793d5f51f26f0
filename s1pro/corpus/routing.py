"""Where a figure goes: to which model, with which prompts, or nowhere.

The **route table** is configuration: rules in order, the first that fits decides, and the last of the default fits
everything. It is a frozen dataclass, so it is read from a JSON file (`base.config.config_from_json`) and changed by
`--set rules.0.max_tokens=800`. A rule looks at topic, type, probability of being scientific, size and whether the
figure is junk. Its route names a model, a set of templates, the most tokens and the highest price; `drop` ends the way
here, and the row says so: nothing is dropped in silence.

**Scientific?** A logistic score of what is seen and said: a printed label and a caption, mentions, numbers in the text
inside the crop, share of the page, entropy, number of colours, ink, shape. Photographs without a caption, portraits,
rules and decorations score low. The weights were fitted on self-made figures and decorations (`bench/routing.py`).

**Junk** is what returns: a cluster of copies in several documents, small and without a label of its own, is a logo or a
publisher's mark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from s1pro.base.errors import InputError
from s1pro.corpus.dedup.signature import read_grey
from s1pro.corpus.records import DuplicateRow, ElementRow, ElementType, RouteRow
from s1pro.corpus.topic import TopicModel, default_model, text_of

DROP = "drop"
# Fitted by `bench/routing.py --figures 120`.
SCIENTIFIC_WEIGHTS: Mapping[str, float] = {
    "label": 1.95, "caption": 2.13, "mentions": 0.75, "page_share": 3.18, "numbers": 1.63, "words": 0.99,
    "entropy": -0.08, "ink": -0.38, "edges": 0.64, "long_shape": -0.5, "tiny": -1.48,
}  # fmt: skip
SCIENTIFIC_OFFSET = -2.53
FIGURE_FEATURES = tuple(SCIENTIFIC_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class Route:
    """What happens to the figures of a route.

    Attributes:
        model: name of an endpoint, `embedded` for the describer without a model, empty for `drop`.
        templates: name of a set of prompts.
        max_tokens: of an answer.
        price_cap: most that all calls of the route may cost together, in the currency of the prices of its endpoint; 0
            for no limit. What is left then is described without a model (corpus/captioning/spending.py).

    Raises:
        InputError: a cap without a model that costs something, or a negative one.
    """

    name: str
    model: str = "embedded"
    templates: str = "science"
    max_tokens: int = 600
    price_cap: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.price_cap < math.inf:
            raise InputError(f"route {self.name}: price_cap must be 0 (no limit) or more, got {self.price_cap}")
        if self.price_cap and self.model in ("embedded", ""):
            raise InputError(f"route {self.name}: price_cap needs a model behind an endpoint, not {self.model!r}")


@dataclass(frozen=True, kw_only=True)
class RouteRule:
    """Conditions, all of which must hold; empty ones always do.

    Attributes:
        topics, types: any of these.
        junk: True or False; None for both.
        min_scientific, max_scientific: probability.
        min_pixels, max_pixels: of the shorter side of the crop.
        route: name of a `Route`, or `drop`.
    """

    route: str
    topics: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    junk: bool | None = None
    min_scientific: float = 0.0
    max_scientific: float = 1.0
    min_pixels: int = 0
    max_pixels: int = 1_000_000

    def fits(self, topic: str, type: ElementType, scientific: float, pixels: int, junk: bool) -> bool:
        return (
            (not self.topics or topic in self.topics)
            and (not self.types or type in self.types)
            and (self.junk is None or self.junk == junk)
            and self.min_scientific <= scientific <= self.max_scientific
            and self.min_pixels <= pixels <= self.max_pixels
        )


@dataclass(frozen=True, kw_only=True)
class JunkSettings:
    """A cluster is junk with this many members in this many documents, each below this share of its page."""

    min_members: int = 5
    min_documents: int = 3
    max_page_share: float = 0.04


@dataclass(frozen=True, kw_only=True)
class RouteTable:
    """Rules in order, and the routes that they name.

    Raises:
        ValueError: a rule names no route, or nothing fits everything at the end.
    """

    routes: tuple[Route, ...] = (
        Route(name="scientific", model="embedded", templates="science", max_tokens=800),
        Route(name="general", model="embedded", templates="general", max_tokens=300),
    )
    rules: tuple[RouteRule, ...] = (
        RouteRule(route=DROP, junk=True),
        RouteRule(route=DROP, max_pixels=31),
        RouteRule(route="scientific", types=("chart", "table", "formula", "scheme", "algorithm"), min_scientific=0.2),
        RouteRule(route="scientific", min_scientific=0.5),
        RouteRule(route="general"),
    )
    junk: JunkSettings = field(default_factory=JunkSettings)

    def __post_init__(self) -> None:
        names = {route.name for route in self.routes} | {DROP}
        for rule in self.rules:
            if rule.route not in names:
                raise ValueError(f"a rule names the route {rule.route!r}; there are {', '.join(sorted(names))}")
        if not self.rules or self.rules[-1] != RouteRule(route=self.rules[-1].route):
            raise ValueError("the last rule must fit everything, so that every figure has a route")


def route(
    elements: Sequence[ElementRow],
    table: RouteTable | None = None,
    *,
    duplicates: Sequence[DuplicateRow] = (),
    topics: TopicModel | None = None,
) -> list[RouteRow]:
    """One row for every element, in the order of the input.

    Args:
        duplicates: what de-duplication decided; without it nothing is junk.
        topics: None takes the model that is made of the vocabularies of eight fields.
    """
    table, topics = table or RouteTable(), topics or default_model()
    junk = junk_elements(elements, duplicates, table.junk)
    classified = topics.classify([text_of(element) for element in elements])
    rows = []
    for element, (topic, probability, abstained) in zip(elements, classified, strict=True):
        scientific = round(scientific_probability(element), 6)
        pixels, is_junk = min(element.width, element.height), element.element_id in junk
        number, rule = next(
            (i, rule)
            for i, rule in enumerate(table.rules)
            if rule.fits(topic, element.type, scientific, pixels, is_junk)
        )
        rows.append(
            RouteRow(
                element_id=element.element_id,
                topic=topic,
                topic_probability=probability,
                scientific_probability=scientific,
                route=rule.route,
                abstained=abstained,
                reason=f"rule {number}" + (f": {junk[element.element_id]}" if is_junk else ""),
            )
        )
    return rows


def count_routes(rows: Sequence[RouteRow]) -> dict[str, int]:
    """How many elements took each route; the numbers add up to the number of rows."""
    return dict(sorted(Counter(row.route for row in rows).items()))


def junk_elements(
    elements: Sequence[ElementRow], duplicates: Sequence[DuplicateRow], settings: JunkSettings
) -> dict[str, str]:
    """Elements of clusters that are junk, with the reason."""
    by_id = {element.element_id: element for element in elements}
    clusters: dict[str, list[ElementRow]] = {}
    for row in duplicates:
        if row.decision != "not_compared" and row.element_id in by_id:
            clusters.setdefault(row.representative, []).append(by_id[row.element_id])
    found: dict[str, str] = {}
    for members in clusters.values():
        documents = {member.doc_id for member in members}
        small = all(page_share(member) <= settings.max_page_share for member in members)
        labelled = sum(bool(member.label) for member in members)
        if len(members) < settings.min_members or len(documents) < settings.min_documents:
            continue
        if small and labelled <= 0.1 * len(members):
            reason = f"junk: {len(members)} copies in {len(documents)} documents"
            found |= {member.element_id: reason for member in members}
    return found


def page_share(element: ElementRow) -> float:
    """Which part of its page the element covers."""
    x0, y0, x1, y1 = element.box
    return max(0.0, (x1 - x0) * (y1 - y0)) / max(1.0, element.page_width * element.page_height)


def scientific_probability(element: ElementRow) -> float:
    """That the element shows science, from what is seen and said; see the module docstring."""
    score = SCIENTIFIC_OFFSET + float(
        figure_features(element) @ np.array([SCIENTIFIC_WEIGHTS[n] for n in FIGURE_FEATURES])
    )
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def figure_features(element: ElementRow) -> np.ndarray:
    """The values of `FIGURE_FEATURES`, each between 0 and about 1."""
    tokens = element.text_layer.split()
    numbers = sum(any(character.isdigit() for character in token) for token in tokens)
    width, height = max(1, element.width), max(1, element.height)
    return np.array(
        [
            bool(element.label),
            min(1.0, len(element.caption.split()) / 15),
            min(1.0, len(element.mentions) / 2),
            min(1.0, 4 * page_share(element)),
            min(1.0, numbers / 8),
            min(1.0, len(tokens) / 12),
            element.entropy / 8,
            min(1.0, element.ink_ratio),
            _edge_density(element),
            max(width, height) / min(width, height) > 5,
            min(width, height) < 64,
        ],
        dtype=float,
    )


def _edge_density(element: ElementRow) -> float:
    """Share of neighbours in the picture that differ much; 0 without a picture."""
    if not element.image:
        return 0.0
    try:
        grey = np.asarray(read_grey(element.image, element.element_id)[0], dtype=np.int16)
    except InputError:
        return 0.0
    return float((np.abs(np.diff(grey, axis=1)) > 40).mean()) * 5 if grey.shape[1] > 1 else 0.0
