"""Settings of the engine that reads pages which geometry cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from s1pro.base.config import config_to_json
from s1pro.base.endpoint import EndpointSettings
from s1pro.base.errors import InputError
from s1pro.corpus.pdf.crops import CropSettings
from s1pro.corpus.records import PageRoute

VERSION = "s1pro-engine-1"


@dataclass(frozen=True, kw_only=True)
class AnswerLimits:
    """What an answer may hold; one that holds more is refused.

    Attributes:
        max_elements, max_words: of one page.
        max_text: characters of one text; `max_chars` of all words together.
        min_score: elements below it are left out, and counted in the reasons of the page.
    """

    max_elements: int = 200
    max_words: int = 20_000
    max_text: int = 8_000
    max_chars: int = 100_000
    min_score: float = 0.3


@dataclass(frozen=True, kw_only=True)
class LayoutSettings:
    """How pages are read that geometry cannot read.

    Attributes:
        endpoint: where the engine is; None leaves such pages as they are. Its `model` names the engine: results depend
            on the name, not on the address.
        api_key_variable: environment variable that holds the key; empty for none.
        protocol: `layout` posts to the address itself and gets the JSON of `engines.answer`; `chat` asks an
            OpenAI-compatible model that can see for the same JSON.
        routes: which pages are sent.
        page: how a page is rendered for the engine; crops are cut from this picture.
        max_tokens: of an answer of a chat model.
        again: another number asks once more for pages that failed.
        pages_at_once: pages that are held in memory together.
    """

    endpoint: EndpointSettings | None = None
    api_key_variable: str = ""
    protocol: Literal["layout", "chat"] = "layout"
    routes: tuple[PageRoute, ...] = ("needs_ocr", "needs_layout_model")
    page: CropSettings = field(default_factory=lambda: CropSettings(pad=0.0, jpeg_quality=92))
    limits: AnswerLimits = field(default_factory=AnswerLimits)
    max_tokens: int = 8192
    again: int = 0
    pages_at_once: int = 32

    def __post_init__(self) -> None:
        if self.pages_at_once < 1 or self.max_tokens < 1:
            raise InputError(f"pages_at_once and max_tokens must be positive: {self.pages_at_once}, {self.max_tokens}")
        if not {"needs_ocr", "needs_layout_model"}.issuperset(self.routes):
            raise InputError(f"layout.routes: only needs_ocr and needs_layout_model, got {', '.join(self.routes)}")

    def identity(self) -> dict[str, Any]:
        """What the rows depend on, apart from the pages."""
        content = config_to_json(self)
        for name in ("endpoint", "api_key_variable", "pages_at_once"):
            del content[name]
        return {**content, "engine": self.endpoint.model if self.endpoint else "", "version": VERSION}
