"""From what a layout program found to rows: labels, captions, section titles, mentions, panels.

Readers of the formats yield `Found` things in reading order: titles, texts and elements. Here

1. the first caption that begins with a label ("Figure 3.", "TABLE II", "Fig. S1 |") gives label and words;
2. an element stands in the section whose title came last before it;
3. sentences of the text that name the label are its mentions;
4. panels become rows with their figure as parent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from s1pro.corpus.records import Box, ElementRow, ElementSource, ElementType, Mention, element_id

MAX_MENTIONS = 20
_KIND = (
    r"(?:Extended Data |Supplementary |Supporting )?(?:Figures?|Figs?|Tables?|Tabs?|Schemes?|Charts?|Algorithms?|图|表)"
)
_NUMBER = r"(?:[A-Z]{1,2}[.-]?)?\d{1,3}(?:[.\-]\d{1,3})*[A-Za-z]?|[IVXL]{1,6}"
_LABEL = re.compile(rf"\s*({_KIND}[.  ]*\s*(?:{_NUMBER}))(?=[\s.:|,;–—-]|$)\s*[.:|–—-]?\s*", re.IGNORECASE)
_MENTION = re.compile(
    rf"(?:Extended Data |Supplementary )?(Fig|Tab|Scheme|Chart|Algorithm|图|表)[a-z]*[.\s]*({_NUMBER})", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One thing on a page.

    Attributes:
        kind: a title, a piece of running text, or an element of type `type`.
        captions: texts bound to the element, in reading order.
        text: of a title or text; what the program read inside an element (LaTeX, cells of a table).
        panels: boxes of parts of a figure, with their types.
        picture: fields of the crop for `ElementRow`.
    """

    kind: Literal["title", "text", "element"]
    page: int
    text: str = ""
    type: ElementType = "other"
    box: Box = (0.0, 0.0, 0.0, 0.0)
    captions: tuple[str, ...] = ()
    caption_box: Box | None = None
    caption_page: int = -1
    confidence: float = 1.0
    panels: tuple[tuple[ElementType, Box], ...] = ()
    picture: dict[str, Any] = field(default_factory=dict)


def split_label(captions: Sequence[str]) -> tuple[str, str]:
    """Label and words of captions: `("Figure 3", "Yield against time.")`; no label gives an empty one.

    >>> split_label(["TABLE II", "Yields of all runs."])
    ('TABLE II', 'Yields of all runs.')
    """
    texts = [" ".join(text.split()) for text in captions if text.strip()]
    for i, text in enumerate(texts):
        found = _LABEL.match(text)
        if found:
            rest = [text[found.end() :], *texts[:i], *texts[i + 1 :]]
            return found[1].strip(), " ".join(part for part in rest if part)
    return "", " ".join(texts)


def label_key(text: str) -> tuple[str, str] | None:
    """Kind and number of a label, the same for "Fig. 3" and "Figure 3"; None if the text is no label."""
    found = _MENTION.match(text.strip())
    if found is None:
        return None
    kind = {"图": "fig", "表": "tab"}.get(found[1].lower(), found[1].lower())
    return kind, found[2].lower()


def element_rows(
    found: Iterable[Found], doc_id: str, sizes: Sequence[tuple[float, float]], source: ElementSource, extractor: str
) -> list[ElementRow]:
    """Rows of all elements, panels after their figures."""
    things = list(found)
    mentions = _mentions(things)
    rows: list[ElementRow] = []
    section = ""
    for thing in things:
        if thing.kind == "title":
            section = thing.text
        if thing.kind != "element":
            continue
        width, height = sizes[thing.page]
        label, caption = split_label(thing.captions)
        key = label_key(label)
        row = ElementRow(
            element_id=element_id(doc_id, thing.page, thing.type, thing.box, extractor),
            doc_id=doc_id,
            page=thing.page,
            type=thing.type,
            box=thing.box,
            page_width=width,
            page_height=height,
            label=label,
            caption=caption,
            caption_box=thing.caption_box,
            caption_page=thing.caption_page if thing.captions else -1,
            link_method=source if thing.captions else "",
            link_confidence=1.0 if thing.captions else 0.0,
            mentions=tuple(mentions.get(key, ())[:MAX_MENTIONS]) if key else (),
            section_title=section,
            source=source,
            confidence=thing.confidence,
            text_layer=thing.text,
            **thing.picture,
        )
        rows.append(row)
        rows += _panel_rows(thing, row, extractor)
    return rows


def _panel_rows(thing: Found, parent: ElementRow, extractor: str) -> list[ElementRow]:
    return [
        ElementRow(
            element_id=element_id(parent.doc_id, thing.page, type_, box, f"{extractor}/panel"),
            doc_id=parent.doc_id,
            page=thing.page,
            type=type_,
            box=box,
            page_width=parent.page_width,
            page_height=parent.page_height,
            parent_id=parent.element_id,
            section_title=parent.section_title,
            source=parent.source,
            confidence=thing.confidence,
        )
        for type_, box in thing.panels
    ]


def _mentions(things: Sequence[Found]) -> dict[tuple[str, str], list[Mention]]:
    """Sentences of the running text by the labels that they name."""
    found: dict[tuple[str, str], list[Mention]] = {}
    for thing in things:
        if thing.kind != "text":
            continue
        for sentence in re.split(r"(?<=[.!?。])(?<!Fig\.)(?<!Figs\.)(?<!Tab\.)\s+", " ".join(thing.text.split())):
            for match in _MENTION.finditer(sentence):
                key = label_key(match[0])
                mention = Mention(page=thing.page, text=sentence)
                if key is not None and mention not in found.setdefault(key, []):
                    found[key].append(mention)
    return found
