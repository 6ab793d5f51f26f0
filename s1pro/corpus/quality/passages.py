"""Good text to learn from, kept apart by the document that it comes from.

* `pdf_passages`: whole sentences of the running text of a PDF, read by PDFium. Where a line is no prose (heading,
  formula, table, program, the first and last line of a page), the sentence that it cuts is dropped, so that nothing is
  joined that does not belong together. Sentences are collected into passages of `MIN_WORDS` to `MAX_WORDS`. Filler
  ("Lorem ipsum") and passages that occur twice are left out.
* `documentation_passages`: the same from the English documentation of installed packages (`corpus.general`).

A passage is about as long as a caption. A document is named `collection/file`. Whole collections (a Debian package with
its manuals, a Python package, a set of papers) are held out, because manuals of one package share sentences:
`split_of`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.general import documents, licensed_packages

MIN_WORDS, MAX_WORDS = 60, 200
Part = Literal["train", "calibration", "test"]
TEST = frozenset({"octave", "graphviz", "lammps", "papers", "networkx", "scikit-learn", "pandas"})
CALIBRATION = frozenset({"asymptote", "texmf", "libmpfr-doc", "maxima-doc", "mpmath", "numpy"})
_SENTENCE_END = re.compile(r"[.!?][)\"'”’]?$")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_ABBREVIATION = re.compile(r"^\(?(e\.g|i\.e|cf|vs|etc|Fig|Figs|Eq|Eqs|Sec|Ref|No|Dr|Prof|al|[A-Z])\.$")
_FILLER = re.compile(r"lorem ipsum|dolor sit amet|consetetur|takimata|eirmod", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One piece of good text and the document it is from."""

    document: str
    text: str


def split_of(document: str) -> Part:
    """Part of a document by its collection; collections that nobody named are for training."""
    collection = document.partition("/")[0]
    return "test" if collection in TEST else "calibration" if collection in CALIBRATION else "train"


def collection_passages(folder: Path) -> Iterator[Passage]:
    """Passages of all PDFs under a folder of unpacked Debian packages, or of any folder with PDFs.

    The collection of a file is the folder below `usr/share/doc` or `usr/share` that it is in, else the folder's name.
    """
    for path in sorted([*folder.rglob("*.pdf"), *folder.rglob("*.pdf.gz")]):
        parts = path.relative_to(folder).parts
        shared = [part for part in parts[:-1] if part not in ("usr", "share", "doc")]
        yield from pdf_passages(path, collection=shared[0] if shared else folder.name)


def pdf_passages(path: Path, *, collection: str, max_pages: int = 400) -> Iterator[Passage]:
    """Passages of one PDF, also if it is compressed (`.pdf.gz`).

    Raises:
        InputError: not a PDF. MissingExtraError: PDFium is not installed.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtraError("pypdfium2", "papers") from error
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise InputError(f"{path}: PDFium cannot open it ({error})") from error
    name = f"{collection}/{path.name.removesuffix('.gz')}"
    try:
        lines: list[str] = []
        for number in range(min(len(pdf), max_pages)):
            page = pdf[number].get_textpage()
            text = page.get_text_range().replace("\ufffe\r\n", "").replace("\ufffe", "")
            lines += ["", *text.splitlines()[1:-1], ""]
        for text in passages_of(sentences_of_lines(lines)):
            yield Passage(document=name, text=text)
    finally:
        pdf.close()


def documentation_passages(packages: Sequence[str] | None = None, *, max_documents: int = 4000) -> Iterator[Passage]:
    """Passages of the documentation of installed packages, by default all; a document is one file of a package."""
    for package in packages or licensed_packages():
        for document in documents([package], max_documents=max_documents):
            sentences = [s for p in document.paragraphs if len(p.split()) >= 12 for s in _SENTENCE_BREAK.split(p)]
            name = ".".join(document.name.split(".")[:3])
            for text in passages_of(sentences):
                yield Passage(document=f"{package}/{name}", text=text)


def sentences_of_lines(lines: Iterable[str]) -> Iterator[str]:
    """Sentences that stand complete in neighbouring lines of prose."""
    open_words: list[str] = []
    fresh = True  # the next line may begin a sentence
    for line in lines:
        words = line.split()
        if not _is_prose(words, " ".join(words)):
            open_words, fresh = [], True
            continue
        for word in words:
            if not open_words and not (fresh and word[:1].isupper()):
                fresh = bool(_SENTENCE_END.search(word))
                continue
            open_words.append(word)
            fresh = False
            if _SENTENCE_END.search(word) and not _ABBREVIATION.search(word):
                if len(open_words) >= 4:
                    yield " ".join(open_words)
                open_words, fresh = [], True


def passages_of(sentences: Iterable[str]) -> Iterator[str]:
    """Sentences joined until there are enough words; each passage once."""
    seen: set[str] = set()
    collected: list[str] = []
    wanted = MIN_WORDS
    for sentence in sentences:
        if sentence in seen or len(sentence.split()) > MAX_WORDS // 2 or _FILLER.search(sentence):
            continue
        seen.add(sentence)
        collected.append(sentence)
        size = sum(len(each.split()) for each in collected)
        if size >= wanted:
            if size <= MAX_WORDS:
                yield " ".join(collected)
            collected, wanted = [], MIN_WORDS + (7 * len(sentence)) % 90


def _is_prose(words: list[str], line: str) -> bool:
    """Enough words and mostly letters, or the short last line of a paragraph."""
    letters = sum(character.isalpha() or character == " " for character in line)
    if not words or letters < 0.8 * len(line) or re.search(r"(\. ){3}|\.{4}|[=<>{}\\|]", line):
        return False
    return len(words) >= 7 or bool(_SENTENCE_END.search(line) and words[0][:1].islower())
