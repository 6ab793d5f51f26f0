"""Captions: texts about what is visible in the elements that de-duplication and routing left. One unit per part.

    duplicate        a copy of another element; its representative gets the caption
    dropped          its route says so
    panel            part of a figure, which is described as a whole
    no picture       nothing was cropped
    nothing visible  the describer could prove nothing
    captioned        there is a text
    failed           a model was asked and gave none; the rows say why

Without a model, the description that ingest made on the open page becomes the caption (model `embedded`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from s1pro.base.config import config_to_json
from s1pro.corpus.records import CaptionRow, DuplicateRow, ElementRow, RouteRow
from s1pro.corpus.routing import DROP
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work, part_of, work_on
from s1pro.corpus.stages.route import routes_of
from s1pro.corpus.tables import to_plain
from s1pro.corpus.units import Outcome, Table, Unit, digest_of, digest_of_rows

EMBEDDED = "embedded"


class Caption:
    name = "caption"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        folder.require("route", "caption FOLDER")
        digest = digest_of(config_to_json(folder.settings().caption))
        duplicates = decisions(folder)
        units = []
        for part in folder.parts():
            names = [element.element_id for element in folder.elements(part)]
            seen = digest_of_rows(to_plain(duplicates[name]) for name in names)
            routes = digest_of_rows(to_plain(row) for row in routes_of(folder, part))
            inputs = tuple(sorted((part.digest, seen, routes)))
            units.append(
                Unit(stage=self.name, version=self.version, settings=digest, inputs=inputs, work=work_on(part))
            )
        return units

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        duplicates = decisions(folder)

        def work(unit: Unit, beat: Beat) -> Outcome:
            part = part_of(unit)
            routes = {row.element_id: row for row in routes_of(folder, part)}
            rows: list[CaptionRow] = []
            statuses: dict[str, str] = {}
            for element in folder.elements(part, without=()):
                name = element.element_id
                statuses[name] = why_not(element, duplicates[name], routes[name])
                if not statuses[name]:
                    rows.append(embedded_caption(element))
                    statuses[name] = "captioned" if rows[-1].text else "nothing visible"
                beat(len(statuses))
            rows = [row for row in rows if row.text]
            return Outcome(tables={"captions": Table(kind=CaptionRow, rows=rows)}, statuses=statuses)

        yield work


def decisions(folder: CorpusFolder) -> dict[str, DuplicateRow]:
    """What de-duplication decided about every element."""
    return {row.element_id: row for row in folder.rows("deduplicate", "duplicates", DuplicateRow)}


def why_not(element: ElementRow, duplicate: DuplicateRow, route: RouteRow) -> str:
    """Why an element gets no caption; empty if it gets one."""
    if element.parent_id:
        return "panel"
    if not element.image:
        return "no picture"
    if duplicate.decision == "duplicate":
        return "duplicate"
    return "dropped" if route.route == DROP else ""


def embedded_caption(element: ElementRow) -> CaptionRow:
    """The description of the open page as a caption."""
    name = f"{EMBEDDED}|{element.element_id}|{element.description}"
    return CaptionRow(
        request_id=hashlib.blake2b(name.encode(), digest_size=16).hexdigest(),
        element_id=element.element_id,
        template_id=EMBEDDED,
        model=EMBEDDED,
        text=element.description,
    )
