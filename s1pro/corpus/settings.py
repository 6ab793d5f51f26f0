"""Settings of the caption pipeline, one group per stage. What changes results is in the names of units; the rest is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.corpus.children import Limits
from s1pro.corpus.dedup.settings import DedupSettings
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
class CaptionSettings:
    """How elements are described."""


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """All stages."""

    ingest: IngestSettings = field(default_factory=IngestSettings)
    deduplicate: DedupSettings = field(default_factory=DedupSettings)
    route: RouteTable = field(default_factory=RouteTable)
    caption: CaptionSettings = field(default_factory=CaptionSettings)
