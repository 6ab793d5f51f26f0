"""The answers of a run as pages: what was asked and shown, what came, what was read from it, what it scored.

Wrong and failed answers come first. A page holds `PER_PAGE` answers and a task has at most `MOST_PAGES` pages, so that
a run of any size can be opened; how many answers are left out is said on the last page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.eval.answers import Answer
from s1pro.report import blocks, html
from s1pro.report.media import picture, signal

PER_PAGE, MOST_PAGES = 50, 10
MOST_CHARACTERS = 3000
THUMBNAIL = 224
MOST_MEDIUM_BYTES = 64 * 2**20
UNREADABLE = "(nothing could be read)"


def in_order(answers: Sequence[Answer]) -> list[Answer]:
    """Failed ones, then wrong ones from worst to best, then right ones; as they were asked within."""
    return sorted(answers, key=lambda answer: (answer.status != "failed", answer.score))


def write_pages(folder: Path, task: str, slug: str, answers: Sequence[Answer]) -> dict[str, str]:
    """Writes the pages of one task and returns them as links: label to path relative to `folder.parent`."""
    shown = in_order(answers)[: PER_PAGE * MOST_PAGES]
    groups = [shown[start : start + PER_PAGE] for start in range(0, len(shown), PER_PAGE)]
    names = [f"{slug}-{number}.html" for number in range(1, len(groups) + 1)]
    links = {}
    for number, (name, group) in enumerate(zip(names, groups, strict=True), start=1):
        first = (number - 1) * PER_PAGE + 1
        label = f"{task}: answers {first} to {first + len(group) - 1} of {len(answers)}"
        others = {f"page {i}": other for i, other in enumerate(names, start=1) if other != name}
        contents: list[blocks.Block] = [blocks.Links(targets={"report": "../report.html", **others})]
        contents.append(blocks.Answers(cards=[card(task, answer) for answer in group]))
        if number == len(groups) and len(shown) < len(answers):
            contents.append(blocks.Paragraph(text=f"{len(answers) - len(shown)} better answers are in the JSONL file."))
        intro = "Failed and wrong answers come first."
        page = blocks.Report(title=label, sections=[blocks.Section(title="Answers", blocks=contents, intro=intro)])
        html.write(page, folder / name)
        links[label] = f"{folder.name}/{name}"
    return links


def card(task: str, answer: Answer) -> blocks.Answer:
    """One answer; pictures are the first medium of the prompt."""
    return blocks.Answer(
        task=f"{task} · {answer.id}",
        question=_shortened(question_of(answer.prompt)),
        answer=_shortened(answer.response if answer.status == "answered" else f"FAILED: {answer.error}"),
        expected=_shortened(_text(_gold(answer.extraction))),
        correct=answer.score >= 1.0 - 1e-6,
        note=_note(answer),
        picture_svg=thumbnail(answer.prompt),
    )


def question_of(prompt: Sequence[Mapping[str, Any]]) -> str:
    """All turns as text; the role is named where there are several."""
    turns = []
    for turn in prompt:
        content = turn["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(str(p.get("text", "")) if p.get("type") == "text" else f"[{p.get('type')}] " for p in parts)
        turns.append(text if len(prompt) == 1 else f"{turn['role']}: {text}")
    return "\n\n".join(turns)


def thumbnail(prompt: Sequence[Mapping[str, Any]]) -> str:
    """A small drawing of the first picture or signal; empty if there is none, or it cannot be read any more."""
    for turn in prompt:
        for part in turn["content"] if not isinstance(turn["content"], str) else ():
            kind = str(part.get("type", "")).removesuffix("_url")
            source = part.get(kind, part.get(f"{kind}_url"))
            source = source.get("url") if isinstance(source, Mapping) else source
            if kind in ("image", "time_series") and isinstance(source, str):
                return _drawing(kind, source, part)
    return ""


def _drawing(kind: str, source: str, part: Mapping[str, Any]) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        data = _bytes_of(source)
        if kind == "image":
            with Image.open(io.BytesIO(data)) as image:
                image.thumbnail((THUMBNAIL, THUMBNAIL))
                return picture(np.asarray(image.convert("RGB")))
        values = np.load(io.BytesIO(data), allow_pickle=False)
        return signal(values, part.get("sampling_rate"), str(part.get("unit") or ""))
    except (OSError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError):
        return ""


def _bytes_of(source: str) -> bytes:
    if source.startswith("data:"):
        return base64.b64decode(source.partition(",")[2], validate=True)
    path = Path(source)
    if "://" in source[:12] or not path.is_file() or path.stat().st_size > MOST_MEDIUM_BYTES:
        raise OSError(f"{source:.80} is no file to show")
    return path.read_bytes()


def _gold(extraction: Any) -> Any:
    return extraction.get("gold") if isinstance(extraction, Mapping) else None


def _note(answer: Answer) -> str:
    if isinstance(answer.extraction, Mapping) and "gold" in answer.extraction:
        read = {name: value for name, value in answer.extraction.items() if name not in ("gold", "record")}
        read_as = " · ".join(f"{name}: {_text(value) or UNREADABLE}" for name, value in read.items())
    else:
        read_as = f"read: {_text(answer.extraction) or UNREADABLE}"
    values = " · ".join(f"{name} {value:.3g}" for name, value in answer.parts.items())
    facts = [_shortened(read_as, 600), f"score {answer.score:.3g}", values]
    facts.append("cut off at the longest answer" if answer.finish_reason == "length" else "")
    facts.append("" if answer.valid else "not valid")
    return " | ".join(filter(None, facts))


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return "" if value is None else str(value)


def _shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters …]\n{text[-half:]}"
