"""What the worker of ingest does with a document: facts, then one frame per page; and what is joined at its end.

`extract` runs in the child process. It reads a page, lets the describer say what is visible in its figures while the
page is still open, and sends rows and citations. `join` runs in the parent when the document is complete: sentences
of any page that cite an element become its mentions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s1pro.base.config import config_from_json
from s1pro.corpus.describe.page import described
from s1pro.corpus.frames import Frame
from s1pro.corpus.pdf.extract import EXTRACTOR, ExtractSettings, PageResult, read_facts
from s1pro.corpus.pdf.extract import extract as extract_pages
from s1pro.corpus.pdf.mentions import Citation, attach_mentions
from s1pro.corpus.pdf.reader import PdfError
from s1pro.corpus.records import ElementRow, Mention
from s1pro.corpus.tables import to_plain


def extract(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Frames of a document; see corpus/child.py.

    Args:
        settings: `extract` (settings of the extractor) and `max_pages`.
    """
    try:
        facts = read_facts(data)
        yield Frame(header={"op": "facts", **dataclasses.asdict(facts), "extractor": EXTRACTOR})
        wanted = config_from_json(ExtractSettings, settings["extract"])
        for result in extract_pages(data, wanted, first_page=first_page):
            if result.page.page >= int(settings["max_pages"]):
                return
            yield _frame(result)
    except PdfError as error:
        yield Frame(header={"op": "refused", "status": error.status, "error": str(error)})


def join(elements: Sequence[ElementRow], notes: Sequence[Any]) -> Sequence[ElementRow]:
    """Elements of one document with their mentions."""
    return attach_mentions(elements, [Citation(key, Mention(page=page, text=text)) for key, page, text in notes])


def _frame(result: PageResult) -> Frame:
    pictures: list[bytes] = []
    content = result.content
    rows = result.elements if content is None else [described(row, content) for row in result.elements]
    elements = [to_plain(row, pictures) for row in rows]
    notes = [[citation.key, citation.mention.page, citation.mention.text] for citation in result.citations]
    header = {"op": "page", "page": to_plain(result.page, pictures), "elements": elements, "notes": notes}
    return Frame(header=header, parts=pictures)
