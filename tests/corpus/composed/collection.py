"""The two collections: a small one for every run of the tests, and the full one of about 60 papers."""

from __future__ import annotations

from tests.corpus.composed import reportlab_papers, typst_papers
from tests.corpus.composed.truth import ComposedDocument

SMALL_PAGES, SMALL_FLOATS = 3, 4


def small() -> list[ComposedDocument]:
    """One short paper of every style of both generators."""
    return [
        *reportlab_papers.documents(len(reportlab_papers.STYLES), pages=SMALL_PAGES),
        *typst_papers.documents(len(typst_papers.TYPST_STYLES), floats=SMALL_FLOATS),
    ]


def full(rounds: int = 3) -> list[ComposedDocument]:
    """`rounds` papers of every reportlab style and one round more of the typst styles, six pages or more each."""
    return [
        *reportlab_papers.documents(rounds * len(reportlab_papers.STYLES)),
        *typst_papers.documents((rounds + 1) * len(typst_papers.TYPST_STYLES)),
    ]
