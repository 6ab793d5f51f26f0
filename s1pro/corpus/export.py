"""Captions as training samples: conversations about one picture, in files that training reads, or as WebDataset.

    parquet, jsonl     TARGET/train.parquet, validation.parquet, media/3f/3f9a….png      what `s1pro/data` reads
    webdataset         TARGET/train-000000.tar … with <id>.png, <id>.txt, <id>.json      for streaming elsewhere

A caption becomes a sample if it has text, passed the checks against its page, and the judge kept it. Only
representatives have captions, so a figure and its copies are one sample. The split is by document, from the digest of
its bytes: all figures of a paper are in one split, whatever else is exported.

The domain of a sample follows from its route and topic, and the prompt group from the domain; `corpus.write` refuses a
sample under the wrong system prompt. Samples that share words with the questions of an evaluation are dropped or marked
if an index of questions is given (science/contamination.py). What was left out is counted by reason, so captions =
samples + left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.base.stamp import write_json
from s1pro.corpus.ledger import LEDGER, read_ledger, sources
from s1pro.corpus.records import CaptionRow, ElementRow, QualityRow, RouteRow
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.tables import iter_rows
from s1pro.corpus.write import Written, atomic_path, check_isolation, file_digest, write_samples
from s1pro.science.contamination import ContaminationSettings, Decontaminator
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

Format = Literal["parquet", "jsonl", "webdataset"]

SCIENTIFIC_DOMAINS: Mapping[str, str] = {
    "chemistry": "chemistry",
    "materials": "materials",
    "biology": "life",
    "medicine": "life",
    "earth": "earth",
    "physics": "physics",
}
# Science whose topic is none of these or not known, and pictures that are no science.
OTHER_SCIENCE, NO_SCIENCE = "papers", "pictures"
GENERAL_ROUTE = "general"
CONTAMINATED = "in a question of an evaluation"

QUESTIONS = (
    "Describe what is visible in this {what}.",
    "What does this {what} show? Say only what can be seen.",
    "Give a detailed description of the {what}.",
    "Read this {what} and write down everything that is visible in it.",
    "Explain to somebody who cannot see the {what} what is in it.",
    "Describe the {what}: its parts, labels and values.",
)
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is written.

    Attributes:
        validation: share of documents for validation.
        keep_flagged: also captions in which the checks against the page found something.
        contamination: questions that must not be in training data; None asks none.
        shard_mb: size at which a WebDataset shard is closed.
    """

    format: Format = "parquet"
    validation: float = 0.05
    keep_flagged: bool = False
    contamination: ContaminationSettings | None = None
    shard_mb: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise InputError(f"validation must be at least 0 and less than 1, got {self.validation}")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written and what was not: `captions` is the sum of samples and `left_out`.

    Attributes:
        contamination: counts of `Decontaminator`; empty if nothing was asked.
    """

    captions: int
    files: Mapping[str, Written]
    left_out: Mapping[str, int] = field(default_factory=dict)
    contamination: Mapping[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(file.samples for file in self.files.values())


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """A caption that becomes a sample."""

    element: ElementRow
    caption: CaptionRow
    sample: Sample


def export(folder: CorpusFolder, target: Path, settings: ExportSettings | None = None) -> ExportReport:
    """Writes the samples of a corpus folder.

    Raises:
        InputError: captions are not finished, or none becomes a sample.
    """
    settings = settings or ExportSettings()
    earlier = _earlier_files(folder, target, settings)
    folder.require("caption", "caption FOLDER")
    folder.require("judge", "caption FOLDER")
    files: dict[str, Written] = {}
    counts: Counter[str] = Counter()
    guard = None if settings.contamination is None else Decontaminator(settings.contamination)
    for split in ("train", "validation"):
        counter: Counter[str] = Counter()
        found = _guarded(_exported(folder, split, settings, counter), guard, counter)
        first = next(found, None)
        if first is not None:
            everything = itertools.chain([first], found)
            if settings.format == "webdataset":
                files |= _write_tars(everything, target, split, settings.shard_mb << 20)
            else:
                path = target / f"{split}.{settings.format}"
                files[path.name] = write_samples(_with_media(everything, target), path)
        counts += counter
    if not files:
        raise InputError(f"{folder.root}: no caption becomes a sample; left out: {dict(counts)}")
    report = ExportReport(
        captions=counts.pop("captions"),
        files=files,
        left_out=dict(sorted(counts.items())),
        contamination={} if guard is None else dict(guard.counts),
    )
    entries = {name: dataclasses.asdict(file) for name, file in files.items()}
    content = {"settings": config_to_json(settings), "captions": report.captions, "left_out": report.left_out}
    content |= {"contamination": report.contamination} if guard is not None else {}
    for name in earlier - set(files):  # a document in an old validation file may be in the new training file
        (target / name).unlink(missing_ok=True)
    write_json(target / "manifest.json", {**content, "files": entries})
    return report


def _earlier_files(folder: CorpusFolder, target: Path, settings: ExportSettings) -> set[str]:
    """Names of the files that an earlier export wrote there.

    Raises:
        InputError: a folder of another kind, or samples in another format: training would read both.
    """
    if (target / LEDGER).exists() or (target / "config.json").exists():
        raise InputError(f"{target}: a corpus, a model or a run lies there; choose another folder for the samples")
    try:
        found = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
        files, before = set(map(str, found["files"])), found["settings"]["format"]
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{target / 'manifest.json'}: not of an export; choose another folder") from error
    if before != settings.format:
        raise InputError(f"{target}: holds samples as {before}; choose another folder, or delete it first")
    return {name for name in files if Path(name).name == name}


def domain_of(route: RouteRow) -> str:
    """The domain of a sample, from where its element was sent."""
    if route.route == GENERAL_ROUTE:
        return NO_SCIENCE
    return SCIENTIFIC_DOMAINS.get(route.topic, OTHER_SCIENCE)


def split_of(doc_id: str, validation: float) -> str:
    """The split of a document, from its own digest."""
    place = int(hashlib.blake2b(f"split {doc_id}".encode(), digest_size=8).hexdigest(), 16) / 2**64
    return "validation" if place < validation else "train"


def _exported(folder: CorpusFolder, split: str, settings: ExportSettings, counts: Counter[str]) -> Iterator[_Exported]:
    licences = {name: rows[0].licence for name, rows in sources(read_ledger(folder.root)).items()}
    captions_of, quality_of = folder.by_part("caption"), folder.by_part("judge")
    routes_of = folder.by_part("route")
    for part in folder.parts():
        captions: dict[str, list[CaptionRow]] = {}
        for row in iter_rows(folder.units("caption").table(captions_of[part.key], "captions"), CaptionRow):
            captions.setdefault(row.element_id, []).append(row)
        path = folder.units("judge").table(quality_of[part.key], "quality")
        verdicts = {row.text_id: row for row in iter_rows(path, QualityRow)}
        path = folder.units("route").table(routes_of[part.key], "routes")
        routes = {row.element_id: row for row in iter_rows(path, RouteRow)}
        for element in folder.elements(part, without=()):
            if split_of(element.doc_id, settings.validation) != split:
                continue
            for caption in captions.get(element.element_id, ()):
                counts["captions"] += 1
                reason = _left_out(caption, verdicts.get(caption.request_id), settings)
                if reason:
                    counts[reason] += 1
                    continue
                sample = _sample(element, caption, routes[element.element_id], licences[element.doc_id])
                yield _Exported(element=element, caption=caption, sample=sample)


def _guarded(rows: Iterator[_Exported], guard: Decontaminator | None, counts: Counter[str]) -> Iterator[_Exported]:
    """The rows without those that share something with a question; or with a mark."""
    for row in rows:
        sample = row.sample if guard is None else guard.apply(row.sample)
        if sample is None:
            counts[CONTAMINATED] += 1
        else:
            yield dataclasses.replace(row, sample=sample)


def _left_out(caption: CaptionRow, quality: QualityRow | None, settings: ExportSettings) -> str:
    """Why a caption is no sample; empty if it is one."""
    if caption.error or not caption.text.strip():
        return "no text"
    if caption.flags and not settings.keep_flagged:
        return "flagged by the checks against the page"
    if quality is None:
        return "not judged"
    return "" if quality.keep else "not kept by the judge"


def _sample(element: ElementRow, caption: CaptionRow, route: RouteRow, licence: str) -> Sample:
    domain = domain_of(route)
    group = group_of_domain(domain)
    what = {"other": "picture", "scheme": "reaction scheme"}.get(element.type, element.type)
    number = int(hashlib.blake2b(caption.request_id.encode(), digest_size=4).hexdigest(), 16)
    question = caption.prompt or QUESTIONS[number % len(QUESTIONS)].format(what=what)
    content: list[dict[str, Any]] = [
        {"type": "image", "image": f"media/{media_name(element)}"},
        {"type": "text", "text": question},
    ]
    return Sample(
        source="captions",
        prompt_group=group,
        messages=(
            Message(role="system", content=SYSTEM_PROMPTS[group]),
            Message(role="user", content=content),
            Message(role="assistant", content=caption.text),
        ),
        entity=element.doc_id,
        meta={
            "domain": domain,
            "modality": "image",
            "element_id": element.element_id,
            "request_id": caption.request_id,
            "type": element.type,
            "page": element.page,
            "template_id": caption.template_id,
            "model": caption.model,
            "licence": licence,
        },
    )


def media_name(element: ElementRow) -> str:
    """Where the picture of an element lies below `media`: named by content."""
    return f"{element.image_id[:2]}/{element.image_id}.{_ENDINGS.get(element.mime, 'png')}"


def _with_media(rows: Iterator[_Exported], target: Path) -> Iterator[Sample]:
    """The samples; the picture of each is written before it."""
    for row in rows:
        path = target / "media" / media_name(row.element)
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_bytes(row.element.image)
        yield row.sample


def _write_tars(rows: Iterator[_Exported], target: Path, split: str, limit: int) -> dict[str, Written]:
    """Shards of at most about `limit` bytes; the same rows give the same bytes."""
    files: dict[str, Written] = {}
    left = next(rows, None)
    while left is not None:
        path = target / f"{split}-{len(files):06}.tar"
        counts: Counter[str] = Counter()
        isolation: Counter[str] = Counter()
        with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            while left is not None and (not counts["samples"] or counts["bytes"] < limit):
                check_isolation(left.sample)
                group = group_of_domain(str(left.sample.meta["domain"]))
                isolation[f"{group}/{left.sample.prompt_group}"] += 1
                counts["samples"] += 1
                counts["characters"] += len(left.caption.text)
                counts["bytes"] += _add(tar, left)
                left = next(rows, None)
        files[path.name] = Written(
            file=path.name,
            samples=counts["samples"],
            characters=counts["characters"],
            sha256=file_digest(path),
            isolation=dict(isolation),
        )
    return files


def _add(tar: tarfile.TarFile, row: _Exported) -> int:
    name, ending = row.caption.request_id, _ENDINGS.get(row.element.mime, "png")
    messages = [
        {**message.as_dict(), "content": _content(message.content, f"{name}.{ending}")}
        for message in row.sample.messages or ()
    ]
    about = {"prompt_group": row.sample.prompt_group, "entity": row.sample.entity, "meta": dict(row.sample.meta)}
    text = json.dumps({**about, "messages": messages}, ensure_ascii=False, sort_keys=True)
    size = 0
    for suffix, data in ((ending, row.element.image), ("json", text.encode()), ("txt", row.caption.text.encode())):
        entry = tarfile.TarInfo(f"{name}.{suffix}")
        entry.size, entry.mode = len(data), 0o644
        tar.addfile(entry, io.BytesIO(data))
        size += len(data)
    return size


def _content(content: Any, picture: str) -> Any:
    if isinstance(content, str):
        return content
    return [{**part, "image": picture} if part.get("type") == "image" else dict(part) for part in content]
