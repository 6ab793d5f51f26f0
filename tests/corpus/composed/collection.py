"""The two collections: a small one for every run of the tests, and the full one of about 60 papers."""

from __future__ import annotations

from tests.corpus.composed import reportlab_papers, typst_papers, typst_styles
from tests.corpus.composed import styles as styles_of
from tests.corpus.composed.truth import ComposedDocument

SMALL_PAGES, SMALL_FLOATS = 3, 4


def small() -> list[ComposedDocument]:
    """One short paper of every style of both generators."""
    return [
        *reportlab_papers.documents(len(reportlab_papers.STYLES), pages=SMALL_PAGES),
        *typst_papers.documents(len(typst_papers.TYPST_STYLES), floats=SMALL_FLOATS),
    ]


def held_out(rounds: int = 2) -> list[ComposedDocument]:
    """Papers that the extractor was never tuned on: other styles, and other papers of the known ones."""
    styles, typst_styles_ = styles_of.HELD_OUT_STYLES, typst_styles.HELD_OUT_STYLES
    return [
        *reportlab_papers.documents(rounds * len(styles), styles=styles),
        *typst_papers.documents(rounds * len(typst_styles_), styles=typst_styles_),
        *full(1, first_seed=1000),
    ]


def full(rounds: int = 3, first_seed: int = 0) -> list[ComposedDocument]:
    """`rounds` papers of every reportlab style and one round more of the typst styles, six pages or more each."""
    return [
        *reportlab_papers.documents(rounds * len(reportlab_papers.STYLES), first_seed=first_seed),
        *typst_papers.documents((rounds + 1) * len(typst_papers.TYPST_STYLES), first_seed=first_seed),
    ]
