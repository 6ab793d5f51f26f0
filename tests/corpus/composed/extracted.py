"""The project's extractor in the form that `evaluate` takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.corpus.composed.evaluate import Found


def found_by(settings: Any = None) -> Any:
    """A function from bytes to what `s1pro.corpus.pdf.extract` finds."""
    from s1pro.corpus.pdf.extract import extract

    def run(data: bytes) -> Iterator[Found]:
        for result in extract(data) if settings is None else extract(data, settings):
            for row in result.elements:
                yield Found(
                    id=row.element_id,
                    page=row.page,
                    type=row.type,
                    box=row.box,
                    page_size=(row.page_width, row.page_height),
                    parent=row.parent_id,
                    label=row.label,
                    caption=row.caption,
                )

    return run
