"""Describes an element of an open page: facts, and a text that says them.

    element + page --labels, shapes--> chart | table | drawing --> Facts --> text

The authors' caption and the sentences that mention the element are never looked at here: they are context, and belong
to the caption stage, which marks them as such. What cannot be proven is not said; an element about which nothing is
known gets an empty description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from s1pro.corpus.describe.chart import find_chart
from s1pro.corpus.describe.drawing import drawing_facts
from s1pro.corpus.describe.facts import Facts
from s1pro.corpus.describe.labels import Label, labels_in
from s1pro.corpus.describe.numbers import parse_number
from s1pro.corpus.describe.prose import render
from s1pro.corpus.describe.shapes import shapes_in
from s1pro.corpus.describe.table import find_table
from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import Box, ElementRow, ElementType

MOST_LABELS = 3000
LONGEST_LABEL = 300


@dataclass(frozen=True)
class Description:
    """Facts of one element and a dense text that says them."""

    facts: Facts
    text: str


def describe(element: ElementRow, content: PageContent) -> Description:
    """What is visible in an element.

    Args:
        content: the page of the element, still open (outlines of paths are read).
    """
    facts = find_facts(content, element.box, element.type)
    return Description(facts, render(facts, style="dense", seed=element.element_id))


def described(element: ElementRow, content: PageContent) -> ElementRow:
    """The element with `description` and `facts`."""
    found = describe(element, content)
    return replace(element, description=found.text, facts=found.facts.to_json())


def find_facts(content: PageContent, box: Box, type: ElementType) -> Facts:
    """The facts about what stands inside a box of a page."""
    labels = [_bounded(label) for label in labels_in(content, box)[:MOST_LABELS]]
    found = shapes_in(content, box)
    if type == "table":
        table = find_table(box, found.shapes, labels)
        if table is not None:
            return Facts(table=table, truncated=found.truncated)
    elif type not in ("formula", "algorithm"):
        chart = find_chart(content, box, found.shapes, labels)
        if chart is not None:
            return Facts(chart=chart.facts, texts=_said(chart.rest), truncated=found.truncated)
    labels = [label for label in labels if not label.is_endless]
    return drawing_facts(content, box, found, labels, formula=type == "formula")


def _bounded(label: Label) -> Label:
    return label if len(label.text) <= LONGEST_LABEL else replace(label, text=label.text[:LONGEST_LABEL])


def _said(labels: Sequence[Label]) -> tuple[str, ...]:
    """Texts that belong to no axis. Bare numbers are left out: pieces of tick labels printed over each other."""
    return tuple(label.text for label in labels if parse_number(label.text) is None)
