"""Captions: texts about what is visible in the elements that de-duplication and routing left. One unit per part.

    duplicate        a copy of another element; its representative gets the caption
    dropped          its route says so
    panel            part of a figure, which is described as a whole
    no picture       nothing was cropped
    nothing visible  the describer could prove nothing
    captioned        there is a text
    failed           a model was asked and gave none; the rows say why
    price cap: ...   the model was not asked any more, as its route may not cost more:
        described        by the describer instead; `nothing visible` if it could not; `fewer texts` if a model had
                         written some of the texts before

The route of an element names its model. `embedded` turns what ingest proved on the open page into sentences; any
other name is an endpoint of the settings. Calls are written to `calls/<part>.jsonl` as they are answered, so a killed
unit pays again only for the calls that were under way, and so does one that is planned anew because a route or a copy
changed. What calls cost is in `calls/spending.jsonl`, for all parts, runs and processes together; which elements come
too late for a cap depends on the order of calls. With a higher cap the stage is planned anew, and asks for those only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from s1pro.base.endpoint import EndpointError
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.corpus.captioning.caption import (
    EMBEDDED,
    PRICE_CAP,
    CaptionSettings,
    embedded_captions,
    model_captions_async,
)
from s1pro.corpus.captioning.spending import RouteBudget
from s1pro.corpus.records import CaptionRow, DuplicateRow, ElementRow, RouteRow
from s1pro.corpus.routing import DROP, Route
from s1pro.corpus.settings import CaptionStageSettings, Endpoint
from s1pro.corpus.stages.base import Beat, CorpusFolder, Work, part_of, work_on
from s1pro.corpus.stages.route import routes_of
from s1pro.corpus.tables import to_plain
from s1pro.corpus.units import Outcome, Table, Unit, digest_of, digest_of_rows

SPENDING = "spending.jsonl"
WITH_TEXT = frozenset({"captioned", "price cap: described", "price cap: fewer texts"})
_BEAT_SECONDS = 1.0


class Caption:
    name = "caption"
    version = 1

    def plan(self, folder: CorpusFolder) -> list[Unit]:
        folder.require("route", "caption FOLDER")
        settings = folder.settings()
        routes = [_identity(route) for route in settings.route.routes]
        for route in settings.route.routes:
            _check_cap(route, settings.caption)
        digest = digest_of({**settings.caption.identity(), "routes": routes})
        duplicates = decisions(folder)
        units = []
        for part in folder.parts():
            names = [element.element_id for element in folder.elements(part)]
            seen = digest_of_rows(to_plain(duplicates[name]) for name in names)
            routed = digest_of_rows(to_plain(row) for row in routes_of(folder, part))
            inputs = tuple(sorted((part.digest, seen, routed)))
            units.append(
                Unit(stage=self.name, version=self.version, settings=digest, inputs=inputs, work=work_on(part))
            )
        return units

    @contextmanager
    def open(self, folder: CorpusFolder) -> Iterator[Work]:
        settings = folder.settings()
        duplicates = decisions(folder)
        table = {route.name: route for route in settings.route.routes}

        def work(unit: Unit, beat: Beat) -> Outcome:
            part = part_of(unit)
            routes = {row.element_id: row for row in routes_of(folder, part)}
            statuses: dict[str, str] = {}
            waiting: list[ElementRow] = []
            for element in folder.elements(part, without=()):
                name = element.element_id
                statuses[name] = why_not(element, duplicates[name], routes[name])
                if not statuses[name]:
                    waiting.append(element)
            log = folder.root / "calls" / f"{part.key}.jsonl"
            rows = write_captions(waiting, routes, table, settings.caption, log, beat)
            for element in waiting:
                statuses[element.element_id] = _status([r for r in rows if r.element_id == element.element_id])
            beat(len(statuses))
            return Outcome(tables={"captions": Table(kind=CaptionRow, rows=rows)}, statuses=statuses)

        yield work


def _identity(route: Route) -> list[object]:
    """What the texts of a route depend on."""
    cap = [route.price_cap] if route.price_cap else []
    return [route.name, route.model, route.templates, route.max_tokens, *cap]


def _check_cap(route: Route, settings: CaptionStageSettings) -> None:
    """Raises `InputError` for a cap that nothing can reach."""
    if not route.price_cap:
        return
    endpoint = settings.endpoint(route.model)
    if not endpoint.settings.price_prompt and not endpoint.settings.price_completion:
        number = [each.name for each in settings.endpoints].index(endpoint.name)
        field = f"caption.endpoints.{number}.settings.price_completion"
        raise InputError(
            f"route {route.name}: price_cap {route.price_cap:g}, but the endpoint {endpoint.name} has no prices; "
            f"set {field} and price_prompt (per million tokens)"
        )


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


def write_captions(
    elements: Sequence[ElementRow],
    routes: Mapping[str, RouteRow],
    table: Mapping[str, Route],
    settings: CaptionStageSettings,
    log: Path,
    beat: Beat,
) -> list[CaptionRow]:
    """The captions of elements, route by route, in the order of the elements.

    Args:
        log: of the calls; the costs are noted beside it.

    Raises:
        InputError: an endpoint fails as a whole, or a route names a model that is none.
    """
    rows: list[CaptionRow] = []
    for name, route in table.items():
        mine = [element for element in elements if routes[element.element_id].route == name]
        if not mine:
            continue
        topics = {e.element_id: routes[e.element_id].topic if route.templates != "general" else "general" for e in mine}
        if route.model == EMBEDDED:
            rows += embedded_captions(mine, replace(settings.write, model=EMBEDDED))
        else:
            endpoint = settings.endpoint(route.model)
            sampling = replace(settings.write.sampling, max_new_tokens=route.max_tokens)
            most = min(settings.write.concurrency, endpoint.settings.concurrency)  # a call that waits is not one yet
            write = replace(settings.write, model=endpoint.settings.model, sampling=sampling, concurrency=most)
            prices = endpoint.settings.price_prompt or endpoint.settings.price_completion
            purse = RouteBudget(log.parent / SPENDING, name, route.price_cap, endpoint.settings) if prices else None
            answers = asyncio.run(_ask(mine, endpoint, write, topics, log, beat, purse))
            rows += [*answers, *_instead(mine, answers, settings.write)]
    place = {element.element_id: number for number, element in enumerate(elements)}
    return sorted(rows, key=lambda row: (place[row.element_id], row.rollout))


def _instead(
    elements: Sequence[ElementRow], answers: Sequence[CaptionRow], settings: CaptionSettings
) -> list[CaptionRow]:
    """Texts of the describer for elements that no model may be asked about any more."""
    capped = {row.element_id for row in answers if row.error == PRICE_CAP}
    capped -= {row.element_id for row in answers if row.text}
    wanted = [element for element in elements if element.element_id in capped]
    return list(embedded_captions(wanted, replace(settings, model=EMBEDDED)))


async def _ask(
    elements: Sequence[ElementRow],
    endpoint: Endpoint,
    write: CaptionSettings,
    topics: Mapping[str, str],
    log: Path,
    beat: Beat,
    budget: RouteBudget | None,
) -> list[CaptionRow]:
    async def keep_lease() -> None:
        while True:
            beat(0)
            await asyncio.sleep(_BEAT_SECONDS)

    ticking = asyncio.create_task(keep_lease())
    try:
        async with HttpClient(endpoint.settings, api_key_variable=endpoint.api_key_variable or None) as client:
            return await model_captions_async(elements, client, write, log=log, domains=topics, budget=budget)
    except InputError:
        raise
    except EndpointError as error:
        told = f"the endpoint {endpoint.name} ({endpoint.settings.base_url}) fails: {error}"
        raise InputError(f"{told}; answers so far are kept, give the same command again when it works") from error
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking


def _status(rows: Sequence[CaptionRow]) -> str:
    if any(row.error == PRICE_CAP for row in rows):
        texts = {row.model == EMBEDDED for row in rows if row.text}
        return "price cap: " + ("nothing visible" if not texts else "described" if True in texts else "fewer texts")
    if any(row.text for row in rows):
        return "captioned"
    return "nothing visible" if all(row.model == EMBEDDED for row in rows) else "failed"
