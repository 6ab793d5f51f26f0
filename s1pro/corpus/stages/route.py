"""Routing: topic, scientific or not, and which model shall describe an element. One unit per part.

Whether a picture is junk (a logo, a publisher's mark) shows in its copies, which may be in other parts. A unit
therefore also sees the other members of the clusters that touch it, without their pictures; their rows are left to
their own units. The status of an element is its route.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from s1pro.base.config import config_to_json
from s1pro.corpus.records import DuplicateRow, ElementRow, RouteRow
from s1pro.corpus.routing import route
from s1pro.corpus.stages.base import Beat, CorpusFolder, Part, Work, part_of, work_on
from s1pro.corpus.tables import to_plain
from s1pro.corpus.units import Outcome, Table, Unit, digest_of, digest_of_rows


class Route:
    name = "route"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        folder.require("deduplicate", "caption FOLDER")
        digest = digest_of(config_to_json(folder.settings().route))
        clusters = _Clusters(folder)
        units = []
        for part in folder.parts():
            names = [element.element_id for element in folder.elements(part)]
            seen = digest_of_rows(to_plain(row) for row in clusters.touching(names))
            units.append(
                Unit(
                    stage=self.name,
                    version=self.version,
                    settings=digest,
                    inputs=tuple(sorted((part.digest, seen))),
                    work=work_on(part),
                )
            )
        return units

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        table = folder.settings().route
        clusters = _Clusters(folder)
        others = _without_pictures(folder, clusters)

        def work(unit: Unit, beat: Beat) -> Outcome:
            part = part_of(unit)
            own = list(folder.elements(part, without=()))
            names = [element.element_id for element in own]
            touching = clusters.touching(names)
            guests = [others[row.element_id] for row in touching if row.element_id not in set(names)]
            rows = route([*own, *guests], table, duplicates=touching)[: len(own)]
            beat(len(own))
            return Outcome(
                tables={"routes": Table(kind=RouteRow, rows=rows)},
                statuses={row.element_id: row.route for row in rows},
            )

        yield work


class _Clusters:
    """What de-duplication decided, by element and by representative."""

    def __init__(self, folder: CorpusFolder) -> None:
        self.of_element: dict[str, DuplicateRow] = {}
        self.members: dict[str, list[DuplicateRow]] = {}
        for row in folder.rows("deduplicate", "duplicates", DuplicateRow):
            self.of_element[row.element_id] = row
            self.members.setdefault(row.representative, []).append(row)

    def touching(self, names: Sequence[str]) -> list[DuplicateRow]:
        """All rows of the clusters that these elements are in, sorted."""
        found = dict.fromkeys(self.of_element[name].representative for name in names)
        return sorted((row for name in found for row in self.members[name]), key=lambda row: row.element_id)

    def shared(self) -> set[str]:
        """Elements that have copies."""
        return {row.element_id for rows in self.members.values() if len(rows) > 1 for row in rows}


def _without_pictures(folder: CorpusFolder, clusters: _Clusters) -> Mapping[str, ElementRow]:
    wanted = clusters.shared()
    if not wanted:
        return {}
    return {row.element_id: row for part in folder.parts() for row in folder.elements(part) if row.element_id in wanted}


def routes_of(folder: CorpusFolder, part: Part) -> list[RouteRow]:
    """The routes of a part, in the order of its elements."""
    from s1pro.corpus.tables import read_rows

    return read_rows(folder.units("route").table(folder.by_part("route")[part.key], "routes"), RouteRow)
