"""De-duplication: which elements are copies of which, over the whole folder. One unit.

Copies can be anywhere, so this stage looks at all parts at once. It goes over the pictures once to take signatures, and
again only for the pairs that have to be compared; the pictures themselves stay on the disk, so memory holds the
signatures (about a kilobyte each) and a few groups of pictures. The status of an element is its decision.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from s1pro.base.config import config_to_json
from s1pro.corpus.dedup.find import candidate_pairs, cluster, exact_leaders, signatures_of, verify_pair
from s1pro.corpus.dedup.settings import DedupSettings
from s1pro.corpus.dedup.signature import read_grey
from s1pro.corpus.records import DuplicateRow, ElementRow
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work
from s1pro.corpus.tables import ROWS_PER_GROUP, read_column
from s1pro.corpus.units import Outcome, Table, Unit, digest_of

_CACHED_GROUPS = 16
_CACHED_PICTURES = 256


class Deduplicate:
    name = "deduplicate"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        folder.require("ingest", "ingest --folder FOLDER")
        if len(folder.finished("layout")) < len(folder.plan("layout")):
            folder.require("layout", "caption FOLDER")
        digest = digest_of(config_to_json(folder.settings().deduplicate))
        inputs = tuple(sorted(part.digest for part in folder.parts()))
        return [Unit(stage=self.name, version=self.version, settings=digest, inputs=inputs)]

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        settings = folder.settings().deduplicate

        def work(unit: Unit, beat: Beat) -> Outcome:
            rows = _decide(folder, settings, beat)
            return Outcome(
                tables={"duplicates": Table(kind=DuplicateRow, rows=rows)},
                statuses={row.element_id: row.decision for row in rows},
            )

        yield work


def _decide(folder: CorpusFolder, settings: DedupSettings, beat: Beat) -> list[DuplicateRow]:
    places: dict[str, tuple[Path, int]] = {}
    signatures, refused = signatures_of(_with_pictures(folder, places, beat), settings)
    leaders = exact_leaders(signatures)
    distinct = {each.element_id: each for each in signatures if leaders[each.element_id] == each.element_id}
    picture_of = _pictures(places)
    checked = []
    for first, second in candidate_pairs(list(distinct.values()), settings):
        checked.append(verify_pair(distinct[first], distinct[second], picture_of, settings))
        beat(len(places))
    found = {row.element_id: row for row in cluster(signatures, leaders, checked)} | refused
    return [found[name] for name in sorted(found)]


def _with_pictures(folder: CorpusFolder, places: dict[str, tuple[Path, int]], beat: Beat) -> Iterator[ElementRow]:
    """All elements that count; notes where each is."""
    for part in folder.parts():
        for path, number, row in folder.places(part, without=()):
            places[row.element_id] = (path, number)
            beat(len(places))
            yield row


def _pictures(places: dict[str, tuple[Path, int]]) -> functools._lru_cache_wrapper[Image.Image]:
    @functools.lru_cache(maxsize=_CACHED_GROUPS)
    def group_of(path: Path, group: int) -> list[bytes]:
        return read_column(path, "image", group)

    @functools.lru_cache(maxsize=_CACHED_PICTURES)
    def picture_of(name: str) -> Image.Image:
        path, number = places[name]
        return read_grey(group_of(path, number // ROWS_PER_GROUP)[number % ROWS_PER_GROUP], name)[0]

    return picture_of
