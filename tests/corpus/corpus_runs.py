"""Corpus folders for tests: inputs of the fake extractor, and what a run left behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

from s1pro.corpus.children import Limits
from s1pro.corpus.ledger import register
from s1pro.corpus.settings import IngestSettings, PipelineSettings
from s1pro.corpus.stages.base import CorpusFolder
from tests.corpus.fake_extractor import NAME, document


def inputs(folder: Path, count: int = 12, *, bad: bool = True, word: str = "ok") -> Path:
    """`count` good documents of one to four pages; with `bad` also a copy, a crash, a hopeless one and no PDF."""
    folder.mkdir(parents=True)
    for n in range(count):
        (folder / f"{n}.pdf").write_bytes(document(*[word] * (n % 4 + 1), salt=str(n)))
    if bad:
        (folder / "copy.PDF").write_bytes(document("ok", salt="0"))
        (folder / "crash.pdf").write_bytes(document("ok", "crash", "ok"))
        (folder / "hopeless.pdf").write_bytes(document("raise"))
        (folder / "page.pdf").write_bytes(b"<html>")
        (folder / "notes.txt").write_bytes(b"no input")
    return folder


def corpus(root: Path, paths: Path, *, documents_per_unit: int = 2) -> CorpusFolder:
    folder = CorpusFolder(root)
    register(root, [paths])
    limits = Limits(page_seconds=20)
    ingest = IngestSettings(extractor=NAME, limits=limits, documents_per_unit=documents_per_unit)
    folder.save_settings(PipelineSettings(ingest=ingest))
    return folder


def result(root: Path) -> dict[str, str]:
    """Digests of everything that must be the same in every run: all but costs, logs and the ledger's paths."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "stages").rglob("*"))
        if path.is_file() and not path.name.endswith(".costs.json")
    }
