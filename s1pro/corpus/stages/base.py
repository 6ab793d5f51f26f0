"""What a stage is, and the folder that stages share.

    corpus folder
      inputs.parquet          every input (corpus/ledger.py)
      settings.json           settings of all stages
      rounds.json             what `s1pro corpus retry` asked for
      plans/<stage>.json      the units of a stage, so that every worker sees the same list
      stages/<stage>/         the finished units (corpus/units.py)

A stage plans units from what earlier stages finished, and gives a function that does one unit. Both depend on the
folder alone, so any process that sees the folder can do any unit.

Parts. Stages after ingest follow its units: a *part* is a finished ingest unit with the documents that count in it.
A document that was tried again counts in the unit of its last try. The inputs of a unit are digests of the very rows it
reads, so a unit is done again exactly when one of them changed.

Pages that an engine has read (stages/engine.py) stand in the tables of the stage `layout` with all their elements.
Readers of a part see them in the place of those of ingest, unless they ask for `parts(engine=False)`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from s1pro.base.config import config_from_json, config_to_json
from s1pro.base.errors import InputError
from s1pro.base.stamp import write_json
from s1pro.corpus.records import DocumentRow, ElementRow, PageRow
from s1pro.corpus.settings import PipelineSettings
from s1pro.corpus.tables import iter_rows
from s1pro.corpus.units import Manifest, Outcome, Unit, UnitFolder, digest_of

Row = TypeVar("Row")

# Told between: pages of the unit so far. Cheap to call often.
Beat = Callable[[int], None]
Work = Callable[[Unit, Beat], Outcome]

PICTURES = ("image",)


class Stage(Protocol):
    """A stage: its name, the version of its code, its units, and how one is done."""

    name: str
    version: int

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        """The units, in a fixed order. Raises `InputError` if an earlier stage is not finished."""

    def open(self, folder: CorpusFolder) -> AbstractContextManager[Work]:
        """Gives the function that does one unit; what it holds (processes, connections) ends with the context."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished ingest unit and the documents that count in it, sorted.

    Attributes:
        engine: the finished unit of the stage `layout` for it, empty if there is none.
    """

    key: str
    documents: tuple[str, ...]
    whole: bool
    digest: str
    engine: str = ""


class CorpusFolder:
    """The folder of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def units(self, stage: str) -> UnitFolder:
        return UnitFolder(self.root / "stages" / stage)

    def settings(self) -> PipelineSettings:
        """The settings of the folder; the defaults if it has none yet."""
        path = self.root / "settings.json"
        return (
            config_from_json(PipelineSettings, _read_json(path), path=str(path))
            if path.exists()
            else PipelineSettings()
        )

    def save_settings(self, settings: PipelineSettings) -> None:
        write_json(self.root / "settings.json", config_to_json(settings))

    def rounds(self) -> list[dict[str, Any]]:
        """The retries so far: documents and the limits that were changed for them."""
        path = self.root / "rounds.json"
        return list(_read_json(path)) if path.exists() else []

    def add_round(self, documents: Sequence[str], changes: Mapping[str, Any]) -> None:
        write_json(
            self.root / "rounds.json", [*self.rounds(), {"documents": sorted(documents), "changes": dict(changes)}]
        )

    def save_plan(self, stage: str, units: Sequence[Unit]) -> None:
        write_json(self.root / "plans" / f"{stage}.json", [dataclasses.asdict(unit) for unit in units])

    def plan(self, stage: str) -> list[Unit]:
        """The units of a stage as last planned; none if it never was."""
        path = self.root / "plans" / f"{stage}.json"
        if not path.exists():
            return []
        return [Unit(**{**entry, "inputs": tuple(entry["inputs"])}) for entry in _read_json(path)]

    def finished(self, stage: str) -> list[tuple[Unit, Manifest]]:
        """The finished units of the plan, with their manifests; sizes are checked, contents are not."""
        folder = self.units(stage)
        found = ((unit, folder.manifest(unit, check=False)) for unit in self.plan(stage))
        return [(unit, manifest) for unit, manifest in found if manifest is not None]

    def require(self, stage: str, command: str) -> list[tuple[Unit, Manifest]]:
        """Like `finished`. Raises `InputError` unless the stage has units and all of them are finished."""
        done, planned = self.finished(stage), len(self.plan(stage))
        if not planned or len(done) < planned:
            what = f"{len(done)} of {planned} units are done" if planned else "it was never started"
            raise InputError(f"{self.root}: {stage} is not finished ({what}); run `s1pro corpus {command}` first")
        return done

    def parts(self, *, engine: bool = True) -> list[Part]:
        """The parts of the folder, in the order of the plan. Unfinished units are left out.

        Args:
            engine: with what an engine read; else as ingest left them.
        """
        done = self.finished("ingest")
        owner = {document: unit.key for unit, manifest in done for document in manifest.statuses}
        parts = []
        for unit, manifest in done:
            documents = tuple(sorted(name for name in manifest.statuses if owner[name] == unit.key))
            if documents:
                whole = len(documents) == len(manifest.statuses)
                table = manifest.files["elements"]["sha256"]
                digest = digest_of([table, None if whole else list(documents)])
                parts.append(Part(key=unit.key, documents=documents, whole=whole, digest=digest))
        return self._with_engine(parts) if engine else parts

    def _with_engine(self, parts: Sequence[Part]) -> list[Part]:
        """Parts with the units of the engine that were made from exactly these rows."""
        found = {}
        for unit, manifest in self.finished("layout"):
            read = part_of(unit)
            found[read.key, read.digest] = (unit.key, manifest.files)
        result = []
        for part in parts:
            if (part.key, part.digest) in found:
                key, files = found[part.key, part.digest]
                digest = digest_of([part.digest, files["elements"]["sha256"]])
                part = dataclasses.replace(part, digest=digest, engine=key)
            result.append(part)
        return result

    def by_part(self, stage: str) -> dict[str, str]:
        """The finished unit of a later stage for every part, by the key of the part."""
        return {unit.work["part"]["key"]: unit.key for unit, _ in self.finished(stage)}

    def elements(self, part: Part, *, without: Sequence[str] = PICTURES) -> Iterator[ElementRow]:
        """The elements of a part; without their pictures unless asked."""
        return (row for _, _, row in self.places(part, without=without))

    def places(self, part: Part, *, without: Sequence[str] = PICTURES) -> Iterator[tuple[Path, int, ElementRow]]:
        """The elements of a part with the table and the row in it where each is."""
        wanted, replaced = frozenset(part.documents), self._engine_pages(part)
        path = self.units("ingest").table(part.key, "elements")
        for number, row in enumerate(iter_rows(path, ElementRow, without=without)):
            if row.doc_id in wanted and (row.doc_id, row.page) not in replaced:
                yield path, number, row
        if part.engine:
            path = self.units("layout").table(part.engine, "elements")
            for number, row in enumerate(iter_rows(path, ElementRow, without=without)):
                yield path, number, row

    def documents(self, part: Part) -> Iterator[DocumentRow]:
        return self._of_part(part, "documents", DocumentRow)

    def pages(self, part: Part) -> Iterator[PageRow]:
        replaced = self._engine_pages(part)
        return (replaced.get((row.doc_id, row.page), row) for row in self._of_part(part, "pages", PageRow))

    def rows(self, stage: str, name: str, kind: type[Row]) -> Iterator[Row]:
        """All rows of a table of the finished units of a stage."""
        for unit, _ in self.finished(stage):
            yield from iter_rows(self.units(stage).table(unit, name), kind)

    def _engine_pages(self, part: Part) -> dict[tuple[str, int], PageRow]:
        if not part.engine:
            return {}
        rows = iter_rows(self.units("layout").table(part.engine, "pages"), PageRow)
        return {(row.doc_id, row.page): row for row in rows}

    def _of_part(self, part: Part, table: str, kind: type[Row]) -> Iterator[Row]:
        wanted = frozenset(part.documents)
        for row in iter_rows(self.units("ingest").table(part.key, table), kind):
            if row.doc_id in wanted:  # type: ignore[attr-defined]
                yield row


def work_on(part: Part) -> dict[str, Any]:
    """What a unit of a later stage says about the part that it works on."""
    content = dataclasses.asdict(part)
    if not part.engine:
        del content["engine"]
    return {"part": content}


def part_of(unit: Unit) -> Part:
    """The part that a unit of a later stage works on."""
    work = unit.work["part"]
    return Part(**{**work, "documents": tuple(work["documents"])})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({error}); it is written whole, so something else has changed it"
        ) from error
