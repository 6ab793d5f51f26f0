"""Judging: which captions are fit for training, and why not. One unit per unit of the caption stage.

The status of an element is `kept` if one of its captions is, `not kept` if none is, and `no caption` without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from s1pro.corpus.quality.judge import MODEL_FILE, NGRAM_FILE, Text, judge
from s1pro.corpus.records import CaptionRow, QualityRow
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work
from s1pro.corpus.tables import read_rows
from s1pro.corpus.units import Outcome, Table, Unit, digest_of
from s1pro.corpus.write import file_digest


class Judge:
    name = "judge"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        digest = digest_of([file_digest(MODEL_FILE), file_digest(NGRAM_FILE)])
        return [
            Unit(
                stage=self.name,
                version=self.version,
                settings=digest,
                inputs=tuple(sorted((manifest.files["captions"]["sha256"], unit.key))),
                work={"captions": unit.key, "part": unit.work["part"]},
            )
            for unit, manifest in folder.require("caption", "caption FOLDER")
        ]

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        shelf = folder.units("caption")

        def work(unit: Unit, beat: Beat) -> Outcome:
            key = unit.work["captions"]
            manifest = shelf.manifest(key, check=False)
            assert manifest is not None
            captions = [row for row in read_rows(shelf.table(key, "captions"), CaptionRow) if row.text]
            rows = judge([Text.of_caption(row) for row in captions])
            beat(len(rows))
            statuses = dict.fromkeys(manifest.statuses, "no caption")
            for caption, verdict in zip(captions, rows, strict=True):
                if statuses[caption.element_id] != "kept":
                    statuses[caption.element_id] = "kept" if verdict.keep else "not kept"
            return Outcome(tables={"quality": Table(kind=QualityRow, rows=rows)}, statuses=statuses)

        yield work
