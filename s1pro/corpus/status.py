"""What happened to every input, and whether it adds up.

    inputs     = sum over statuses of their documents + pending
    pages      = read + failed + skipped, for every document, and one row per page that is not skipped
    routed     = sum over statuses of the stage `layout` + pending, if it was started
    elements   = sum over statuses of each later stage + pending

A folder *reconciles* when the equations hold and every row of a document has its manifest's status. It is *finished*
when, besides, nothing is pending. Damaged units (a table that is cut short, a manifest that was altered) count as
pending: they are made again by the command that made them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from s1pro.base.errors import InputError
from s1pro.corpus.captioning.spending import RouteSpending, spending
from s1pro.corpus.ledger import InputRow, read_ledger
from s1pro.corpus.records import DOCUMENT_STATUSES, DocumentRow
from s1pro.corpus.stages.base import CorpusFolder, Part
from s1pro.corpus.stages.caption import SPENDING
from s1pro.corpus.stages.engine import page_name, routed
from s1pro.corpus.stages.registry import STAGES

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage after ingest: the status of every element; of every page that is for an engine in the stage `layout`.

    Attributes:
        pending: those without one, because the stage has not run or its units are not finished.
    """

    units: int
    units_done: int
    statuses: Mapping[str, int]
    pending: int


@dataclass(frozen=True, kw_only=True)
class RouteCosts:
    """What the calls of a route have cost.

    Attributes:
        spent: costs that are known, and the most of the `unknown` calls whose cost is not.
        cap: 0 for no limit.
    """

    spent: float
    cap: float
    calls: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class CorpusStatus:
    """The whole folder.

    Attributes:
        statuses: inputs per terminal status; `pending` have none yet.
        duplicates: inputs whose bytes equal those of an earlier input.
        spending: by route, where calls cost something or a cap is set.
        problems: equations that do not hold, for a person; empty in a sound folder.
    """

    inputs: int
    documents: int
    duplicates: int
    statuses: Mapping[str, int]
    pending: int
    pages: Mapping[str, int]
    routes: Mapping[str, int]
    elements: Mapping[str, int]
    panels: int
    stages: Mapping[str, StageStatus]
    spending: Mapping[str, RouteCosts]
    problems: tuple[str, ...]

    @property
    def reconciled(self) -> bool:
        return not self.problems

    @property
    def finished(self) -> bool:
        """Of the stages that were started."""
        return self.reconciled and not self.pending and not any(stage.pending for stage in self.stages.values())


@dataclass(kw_only=True)
class _Counts:
    pages: Counter[str]
    routes: Counter[str]
    elements: Counter[str]
    names: set[str]
    routed: set[str]
    panels: int
    problems: list[str]


def folder_status(folder: CorpusFolder, *, check: bool = True) -> CorpusStatus:
    """Counts everything.

    Args:
        check: read all tables and compare their digests; else only their sizes.

    Raises:
        InputError: there is no ledger.
    """
    ledger = read_ledger(folder.root)
    if not ledger:
        raise InputError(f"{folder.root}: no corpus folder; `s1pro corpus ingest` makes one")
    counts = _Counts(
        pages=Counter(), routes=Counter(), elements=Counter(), names=set(), routed=set(), panels=0, problems=[]
    )
    damaged = _damaged(folder, "ingest", counts.problems) if check else set()
    if folder.plan("layout"):
        wanted = folder.settings().layout
        raw = (part for part in folder.parts(engine=False) if part.key not in damaged)
        counts.routed.update(page_name(page) for part in raw for page in routed(folder.pages(part), wanted))
    by_document: dict[str, str] = {}
    for part in folder.parts():
        if part.key not in damaged:
            _count_part(folder, part, by_document, counts)
    statuses, pending = _of_inputs(ledger, by_document, counts.problems)
    stages = {
        name: _stage_status(folder, name, counts, check=check)
        for name in STAGES
        if name != "ingest" and folder.plan(name)
    }
    return CorpusStatus(
        inputs=len(ledger),
        documents=len({row.doc_id for row in ledger}),
        duplicates=len(ledger) - len({row.doc_id for row in ledger}),
        statuses=statuses,
        pending=pending,
        pages=dict(counts.pages),
        routes=dict(sorted(counts.routes.items())),
        elements=dict(sorted(counts.elements.items())),
        panels=counts.panels,
        stages=stages,
        spending=_spending(folder),
        problems=tuple(counts.problems),
    )


def documents_with(folder: CorpusFolder, statuses: frozenset[str]) -> list[DocumentRow]:
    """The documents that have one of these statuses now."""
    return [row for part in folder.parts() for row in folder.documents(part) if row.status in statuses]


def _count_part(folder: CorpusFolder, part: Part, by_document: dict[str, str], counts: _Counts) -> None:
    manifest = folder.units("ingest").manifest(part.key, check=False)
    rows_of_pages: Counter[str] = Counter()
    for page in folder.pages(part):
        rows_of_pages[page.doc_id] += 1
        counts.pages["read" if page.status == "ok" else f"failed: {page.status}"] += 1
        if page.status == "ok":
            counts.routes[page.route] += 1
    for row in folder.documents(part):
        by_document[row.doc_id] = row.status
        counts.pages["skipped"] += row.pages_skipped
        if manifest is not None and manifest.statuses[row.doc_id] != row.status:
            counts.problems.append(f"{row.doc_id[:12]}: manifest and row name different statuses")
        if row.num_pages != row.pages_ok + len(row.pages_failed) + row.pages_skipped:
            counts.problems.append(f"{row.doc_id[:12]}: its pages do not add up")
        if rows_of_pages[row.doc_id] != row.pages_ok + len(row.pages_failed):
            counts.problems.append(f"{row.doc_id[:12]}: it has {rows_of_pages[row.doc_id]} rows of pages")
    for element in folder.elements(part):
        if element.parent_id:
            counts.panels += 1
        else:
            counts.elements[element.type] += 1
        if element.element_id in counts.names:
            counts.problems.append(f"element {element.element_id} occurs twice")
        counts.names.add(element.element_id)


def _of_inputs(
    ledger: list[InputRow], by_document: Mapping[str, str], problems: list[str]
) -> tuple[dict[str, int], int]:
    found = Counter(by_document.get(row.doc_id, "pending") for row in ledger)
    pending = found.pop("pending", 0)
    unknown = sorted(set(found) - set(DOCUMENT_STATUSES))
    if unknown:
        problems.append(f"statuses that are none: {', '.join(unknown)}")
    strangers = set(by_document) - {row.doc_id for row in ledger}
    if strangers:
        problems.append(f"{len(strangers)} documents were read that are no inputs")
    if sum(found.values()) + pending != len(ledger):
        problems.append(f"{len(ledger)} inputs, but statuses of {sum(found.values()) + pending}")
    return dict(sorted(found.items())), pending


def _stage_status(folder: CorpusFolder, stage: str, counts: _Counts, *, check: bool) -> StageStatus:
    damaged = _damaged(folder, stage, counts.problems) if check else set()
    statuses: Counter[str] = Counter()
    seen: set[str] = set()
    names, what = (counts.routed, "pages") if stage == "layout" else (counts.names, "elements")
    done = [(unit, manifest) for unit, manifest in folder.finished(stage) if unit.key not in damaged]
    for _, manifest in done:
        twice = seen & manifest.statuses.keys()
        if twice:
            counts.problems.append(f"{stage}: {len(twice)} {what} have two statuses, the first is {min(twice)}")
        seen |= manifest.statuses.keys()
        statuses.update(manifest.statuses.values())
    strangers = seen - names
    if strangers:
        told = ", ".join(sorted(strangers)[:_SHOWN])
        counts.problems.append(f"{stage}: {len(strangers)} {what} that ingest does not have now ({told}); run it again")
    return StageStatus(
        units=len(folder.plan(stage)),
        units_done=len(done),
        statuses=dict(sorted(statuses.items())),
        pending=len(names - seen),
    )


def _spending(folder: CorpusFolder) -> dict[str, RouteCosts]:
    found = spending(folder.root / "calls" / SPENDING)
    caps = {route.name: route.price_cap for route in folder.settings().route.routes}
    names = sorted(found.keys() | {name for name, cap in caps.items() if cap})
    costs = {name: found.get(name, RouteSpending()) for name in names}
    return {
        name: RouteCosts(spent=each.spent, cap=caps.get(name, 0.0), calls=each.calls, unknown=each.unknown)
        for name, each in costs.items()
    }


def _damaged(folder: CorpusFolder, stage: str, problems: list[str]) -> set[str]:
    """Units whose manifest is valid and whose tables are not what it says."""
    shelf = folder.units(stage)
    bad = {
        unit.key
        for unit in folder.plan(stage)
        if _has_manifest(folder, stage, unit.key) and shelf.manifest(unit) is None
    }
    if bad:
        problems.append(f"{stage}: {len(bad)} damaged units ({', '.join(sorted(bad)[:_SHOWN])}); run it again")
    return bad


def _has_manifest(folder: CorpusFolder, stage: str, key: str) -> bool:
    return (folder.units(stage).folder / f"{key}.json").exists()
