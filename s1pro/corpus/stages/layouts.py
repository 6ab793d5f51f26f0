"""Layouts of MinerU and Docling as results of ingest.

The rows come from `corpus.importers`. A document that is imported is named by its JSON file here, so that it is an
input of its own even if the PDF is one too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.corpus.importers.read import read_layout
from s1pro.corpus.ledger import InputRow
from s1pro.corpus.records import DocumentRow
from s1pro.corpus.workers import DocumentResult

IMPORT_VERSION = 1


def import_layout(row: InputRow) -> DocumentResult:
    """One layout with its terminal status: `ok`, `empty`, or `corrupt` with the reason."""
    path = Path(row.source_uri)
    try:
        found = read_layout(path)
    except (InputError, OSError) as error:
        reason = str(error).replace(f"{path.parent}/", "")
        document = DocumentRow(
            doc_id=row.doc_id, source_uri="", byte_size=row.byte_size, status="corrupt", error=reason[:500]
        )
        return DocumentResult(document=document)
    return DocumentResult(
        document=replace(found.document, doc_id=row.doc_id, source_uri="", byte_size=row.byte_size),
        pages=tuple(replace(page, doc_id=row.doc_id) for page in found.pages),
        elements=tuple(replace(element, doc_id=row.doc_id) for element in found.elements),
    )
