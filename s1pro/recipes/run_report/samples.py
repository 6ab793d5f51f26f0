"""What a run learned from: the first samples of every source, with pictures, videos and signals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.base.records import Sample as DataSample
from s1pro.data.samples import read_samples
from s1pro.recipes.run_report.folders import Run
from s1pro.report.blocks import Block, Paragraph, Sample, Samples, Section
from s1pro.report.media import film, picture, signal

MOST_SOURCES, MOST_CHARACTERS = 12, 500
MOST_MEDIUM_BYTES = 64 * 2**20
THUMBNAIL = 224


def samples_section(runs: Sequence[Run]) -> Section | None:
    """None where no run reads files; a file that is gone is named."""
    cards: list[Sample] = []
    gone: list[str] = []
    seen: set[str] = set()
    for run in runs:
        sources = (run.config.get("data") or {}).get("sources") or [] if run.kind in ("train", "contrastive") else []
        for source in [source for source in sources if source["path"] not in seen][:MOST_SOURCES]:
            seen.add(source["path"])
            try:
                cards.extend(_cards(run, source, count=2 if len(sources) < 4 else 1))
            except (InputError, OSError):
                gone.append(f"{source['name']} ({source['path']})")
    blocks: list[Block] = [Samples(cards=cards)] if cards else []
    if gone:
        blocks.append(Paragraph(text=f"Files that cannot be read here any more: {', '.join(gone)}."))
    if not blocks:
        return None
    return Section(title="Samples", intro="The first samples of the sources, as they are stored.", blocks=blocks)


def _cards(run: Run, source: Mapping[str, Any], *, count: int) -> Iterator[Sample]:
    path = located(run, Path(source["path"]))
    for sample in islice(read_samples(path), count):
        yield Sample(
            source=source["name"] if source["name"] == sample.source else f"{source['name']} · {sample.source}",
            turns=list(_turns(sample)),
            picture_svg=next(filter(None, map(drawing, _media_parts(sample.messages or ()))), ""),
        )


def located(run: Run, path: Path) -> Path:
    """The path as the configuration has it, or the same end of it beside the run, for folders that were moved."""
    if path.exists() or path.is_absolute():
        return path
    for length in range(len(path.parts) - 1, 0, -1):
        for above in (run.folder, *run.folder.resolve().parents[:2]):
            candidate = above.joinpath(*path.parts[-length:])
            if candidate.exists():
                return candidate
    return path


def _turns(sample: DataSample) -> Iterator[tuple[str, str]]:
    if sample.text is not None:
        yield "document", shortened(sample.text)
    for message in sample.messages or ():
        text = "".join(_written(part) for part in _parts(message))
        yield message.role, shortened(text)


def _parts(message: Message) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content


def _written(part: Mapping[str, Any]) -> str:
    return str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}] "


def _media_parts(messages: Sequence[Message]) -> Iterator[Mapping[str, Any]]:
    return (part for message in messages for part in _parts(message) if part.get("type") != "text")


def drawing(part: Mapping[str, Any]) -> str:
    """A picture, the frames of a stored video or a signal; empty for what cannot be shown."""
    from PIL import Image, UnidentifiedImageError

    kind = str(part.get("type"))
    path = part.get(kind)
    if not isinstance(path, str) or not Path(path).is_file() or Path(path).stat().st_size > MOST_MEDIUM_BYTES:
        return ""
    try:
        if kind == "image":
            with Image.open(path) as image:
                image.thumbnail((THUMBNAIL, THUMBNAIL))
                return picture(np.asarray(image.convert("RGB")))
        if Path(path).suffix != ".npy":
            return ""
        values = np.load(path, allow_pickle=False)
        if kind == "video":
            return film(values)
        return signal(values, part.get("sampling_rate"), str(part.get("unit") or ""))
    except (OSError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError):
        return ""


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()} […]"
