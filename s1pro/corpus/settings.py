"""Settings of the caption pipeline, one group per stage. What changes results is part of the names of units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.endpoint import EndpointSettings
from s1pro.base.errors import InputError
from s1pro.corpus.captioning.caption import EMBEDDED, CaptionSettings
from s1pro.corpus.children import Limits
from s1pro.corpus.dedup.settings import DedupSettings
from s1pro.corpus.engines.settings import LayoutSettings
from s1pro.corpus.pdf.extract import EXTRACTOR, ExtractSettings
from s1pro.corpus.routing import RouteTable

# Limits that change how a document is read, but not what comes out of it.
_WITHOUT_EFFECT = ("documents_per_worker", "resident_mb", "start_seconds", "nice")


@dataclass(frozen=True, kw_only=True)
class IngestSettings:
    """How documents become rows.

    Attributes:
        limits: what a document may cost.
        documents_per_unit: about so many documents are one unit; a few for small corpora, 256 for millions.
        extractor: `module:function` that runs in the worker.
        extract: settings of the extractor.
    """

    limits: Limits = field(default_factory=Limits)
    documents_per_unit: int = 4
    extractor: str = "s1pro.corpus.stages.reading:extract"
    extract: ExtractSettings = field(default_factory=ExtractSettings)

    def __post_init__(self) -> None:
        if self.documents_per_unit < 1:
            raise InputError(f"documents_per_unit must be at least 1, got {self.documents_per_unit}")

    def identity(self) -> dict[str, Any]:
        """What the result depends on, apart from the documents."""
        content = config_to_json(self)
        del content["documents_per_unit"]
        for name in _WITHOUT_EFFECT:
            del content["limits"][name]
        return {**content, "version": EXTRACTOR}

    def changed(self, limits: Mapping[str, Any]) -> IngestSettings:
        """With other limits, for a retry."""
        return replace(self, limits=replace(self.limits, **limits))


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model behind an OpenAI-compatible server.

    Attributes:
        name: what routes call it.
        api_key_variable: environment variable that holds the key; empty for none.
    """

    name: str
    settings: EndpointSettings
    api_key_variable: str = ""


@dataclass(frozen=True, kw_only=True)
class CaptionStageSettings:
    """How elements are described.

    Attributes:
        write: choices, rollouts and sampling; its `model` and `max_new_tokens` are set from the route of an element.
        endpoints: the models that routes may name, besides `embedded`.
    """

    write: CaptionSettings = field(default_factory=lambda: CaptionSettings(model=EMBEDDED))
    endpoints: tuple[Endpoint, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What the texts depend on, apart from elements and routes: not where a model is served, nor how fast."""
        content = config_to_json(self.write)
        del content["concurrency"], content["model"]
        return {"write": content, "models": {each.name: each.settings.model for each in self.endpoints}}

    def endpoint(self, name: str) -> Endpoint:
        """Raises `InputError` if a route names a model that is none."""
        for each in self.endpoints:
            if each.name == name:
                return each
        known = ", ".join([EMBEDDED, *(each.name for each in self.endpoints)])
        raise InputError(f"a route names the model {name!r}, which is no endpoint; known: {known}")


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """All stages."""

    ingest: IngestSettings = field(default_factory=IngestSettings)
    layout: LayoutSettings = field(default_factory=LayoutSettings)
    deduplicate: DedupSettings = field(default_factory=DedupSettings)
    route: RouteTable = field(default_factory=RouteTable)
    caption: CaptionStageSettings = field(default_factory=CaptionStageSettings)

    def with_endpoint(self, endpoint: Endpoint) -> PipelineSettings:
        """The settings with every route sent to one endpoint."""
        routes = tuple(replace(route, model=endpoint.name) for route in self.route.routes)
        others = tuple(each for each in self.caption.endpoints if each.name != endpoint.name)
        return replace(
            self,
            route=replace(self.route, routes=routes),
            caption=replace(self.caption, endpoints=(*others, endpoint)),
        )
