"""The ledger: every input of a corpus folder, so that none can be lost.

`inputs.parquet` has one row per file that was ever given to `s1pro corpus ingest`, with the SHA-256 of its bytes. Files
with equal bytes are one document; each keeps its row, and its status is that of the document. Rows are sorted by
source, so the file does not depend on the order in which inputs came.

Kinds. A `pdf` is read by this project. A `layout` is what MinerU or Docling made of a document (corpus/importers); its
identity is that of its JSON file.

A folder stands for the files below it that look like documents by their names (`.pdf`, in any case); hidden ones are
left out. A file that is named itself is an input whatever its name: what it really is, preflight decides.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s1pro.base.errors import InputError
from s1pro.corpus.importers.read import layout_file
from s1pro.corpus.tables import read_rows, write_rows
from s1pro.corpus.units import replace_durably

LEDGER = "inputs.parquet"
DOCUMENT_ENDINGS = (".pdf",)


Kind = Literal["pdf", "layout"]


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """One input.

    Attributes:
        source_uri: its path when it was registered.
        doc_id: SHA-256 of the bytes; of the path, if it could not be read (`error` says why).
        licence: as the user declared it.
    """

    source_uri: str
    doc_id: str
    byte_size: int
    kind: Kind = "pdf"
    licence: str = ""
    error: str = ""


def register(
    folder: Path,
    paths: Sequence[Path],
    *,
    kind: Kind = "pdf",
    licence: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[InputRow]:
    """Adds inputs to the ledger of a corpus folder and gives the whole ledger.

    Args:
        kind: what all `paths` are.
        licence: of the inputs that are added.
        progress: called with the number of files read so far and their total.

    Raises:
        InputError: a path that does not exist, or a folder without documents.
    """
    files = sorted(set(_files(paths) if kind == "pdf" else (layout_file(path).absolute() for path in paths)))
    known = {row.source_uri: row for row in read_ledger(folder)}
    for number, file in enumerate(files):
        known[str(file)] = _row(file, kind, licence)
        if progress is not None:
            progress(number + 1, len(files))
    rows = [known[uri] for uri in sorted(known)]
    if not rows:
        raise InputError(f"{folder}: no inputs; give PDF files or folders with PDF files")

    def fill(temporary: Path) -> None:
        write_rows(temporary, InputRow, rows, settings="")

    replace_durably(folder / LEDGER, fill)
    return rows


def check_inputs(paths: Sequence[Path]) -> None:
    """Raises `InputError`: a path that does not exist, or a folder without documents. Nothing is written."""
    for path in paths:
        next(_files([path]))


def read_ledger(folder: Path) -> list[InputRow]:
    """All inputs; empty if there is no ledger yet."""
    path = folder / LEDGER
    return read_rows(path, InputRow) if path.exists() else []


def sources(rows: Iterable[InputRow]) -> dict[str, list[InputRow]]:
    """The inputs of every document, in the order of their sources."""
    found: dict[str, list[InputRow]] = {}
    for row in rows:
        found.setdefault(row.doc_id, []).append(row)
    return found


def read_source(rows: Sequence[InputRow]) -> bytes:
    """The bytes of a document, from the first of its sources that still has them.

    Raises:
        InputError: none has.
    """
    problems = []
    for row in rows:
        path = Path(row.source_uri)
        if row.error:
            problems.append(f"{path.name}: {row.error}")
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
            continue
        if hashlib.sha256(data).hexdigest() == row.doc_id:
            return data
        problems.append(f"{path.name}: changed since it was registered")
    raise InputError("; ".join(problems))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        path = path.absolute()
        if path.is_dir():
            found = list(_below(path))
            if not found:
                raise InputError(f"{path}: no {' or '.join(DOCUMENT_ENDINGS)} file in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise InputError(f"{path}: there is no such file or folder")


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(DOCUMENT_ENDINGS) and not name.startswith("."):
                yield Path(root) / name


def _row(path: Path, kind: Kind, licence: str) -> InputRow:
    row = InputRow(source_uri=str(path), doc_id="", byte_size=0, kind=kind, licence=licence)
    try:
        if not path.is_file() and path.exists():  # a pipe or a device would never end
            raise OSError(errno.EINVAL, "not a regular file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return dataclasses.replace(row, doc_id=digest, byte_size=file.tell())
    except OSError as error:
        unread = hashlib.sha256(f"unreadable {path}".encode()).hexdigest()
        return dataclasses.replace(row, doc_id=unread, error=f"cannot be read: {error.strerror}")
