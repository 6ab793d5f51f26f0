"""Pictures, videos and signals as training conversations: one source per family of `science.media_families`.

    folder/
      <family>/train.parquet        conversations; the medium comes first, then the question
      <family>/validation.parquet
      media/3f/3f9a....png|npy      what they show; named by content, shared by all sources
      manifest.json                 settings, counts, digests

Answers, wordings and system prompt come from the family and its domain. Test examples are in no file: tasks make them.
Media are written before the file that names them; a file whose media are missing is made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.corpus.manifest import Progress, ResumableFolder
from s1pro.corpus.write import Written
from s1pro.science.media import MediaFamily
from s1pro.science.media_families import MediaSettings, media_families
from s1pro.science.media_files import MediaFolder
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, Selection, load_molecules
from s1pro.science.split import Split
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain

FORMAT_VERSION = 1
COUNTS: Mapping[str, int] = {
    "digit_in_scan": 1400,
    "motion_in_video": 400,
    "turn_in_video": 200,
    "curve_in_video": 200,
    "chirp_in_signal": 600,
}


@dataclass(frozen=True, kw_only=True)
class MultimodalCorpus:
    """Settings of a build.

    Attributes:
        counts: training conversations per family; families that are missing here, or have 0, are left out.
        validation: conversations for validation per family, at most so many as there are different examples.
        media: sizes of the media.
        selection, limit: molecules of depictions, where none are given; None for all.
    """

    counts: Mapping[str, int] = field(default_factory=lambda: dict(COUNTS))
    validation: int = 40
    seed: int = 0
    media: MediaSettings = field(default_factory=MediaSettings)
    selection: Selection = SMALL_MOLECULES
    limit: int | None = 8000

    def __post_init__(self) -> None:
        if any(count < 0 for count in self.counts.values()) or self.validation < 1:
            raise InputError(f"counts must not be negative, and validation at least 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class MultimodalReport:
    """What a folder holds; the same values are in its manifest."""

    folder: Path
    files: Mapping[str, Written]
    reused: tuple[str, ...]


def build_multimodal(
    folder: Path,
    settings: MultimodalCorpus | None = None,
    molecules: Sequence[Molecule] | None = None,
    progress: Progress | None = None,
) -> MultimodalReport:
    """Builds the folder, or what is missing of it.

    Args:
        molecules: what depictions show, for example those of a chemistry corpus; `science.split` divides them.
        progress: called with a line of text before every step.

    Raises:
        InputError: an unknown family, or nothing to make.
        MissingExtraError: a package whose data a family needs is not installed.
    """
    settings = settings or MultimodalCorpus()
    wanted = {"format": FORMAT_VERSION, **config_to_json(settings), "molecules": _digest(molecules)}
    building = ResumableFolder(folder, wanted, progress)
    known = media_families(settings.media)
    unknown = sorted(set(settings.counts) - set(known))
    if unknown:
        raise InputError(f"counts: no such family: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = {name: count for name, count in settings.counts.items() if count}
    if not chosen:
        raise InputError("counts: every family has 0; give at least one of them a count")
    if molecules is None and any(known[name].domain == "chemistry" for name in chosen):
        building.progress("labelling molecules")
        molecules = load_molecules(settings.selection, limit=settings.limit, seed=settings.seed).molecules
    families = media_families(settings.media, molecules)
    media = MediaFolder(folder, seen_from=folder / "source")
    for name, count in chosen.items():
        held_out = families[name].different("validation", settings.validation)
        wanted_counts: dict[Split, int] = {"train": count, "validation": held_out}
        for split, number in wanted_counts.items():
            make = functools.partial(conversations, families[name], media, split, count=number, seed=settings.seed)
            building.file(f"{name}/{split}", make, intact=has_media)
    building.finish()
    return MultimodalReport(folder=folder, files=building.files(), reused=tuple(building.reused))


def conversations(
    family: MediaFamily, media: MediaFolder, split: Split, *, count: int, seed: int = 0
) -> Iterator[Sample]:
    """The first `count` examples of a split as conversations; their media are written on the way."""
    group = group_of_domain(family.domain)
    for number, example in enumerate(family.examples(split, count, seed=seed)):
        question = family.questions.render(example.asked, random.Random(f"{family.name} {split} {seed} {number}"))
        content: list[dict[str, Any]] = [media.write(example.render()), {"type": "text", "text": question}]
        yield Sample(
            source=family.name,
            prompt_group=group,
            messages=(
                Message(role="system", content=SYSTEM_PROMPTS[group]),
                Message(role="user", content=content),
                Message(role="assistant", content=str(example.answer["text"])),
            ),
            entity=example.entity,
            meta={"domain": family.domain, "modality": family.modality},
        )


def has_media(path: Path) -> bool:
    """Whether all media that the conversations of a Parquet file name are there."""
    import pyarrow.parquet as pq

    for cell in pq.read_table(path, columns=["messages"]).column("messages").to_pylist():
        for message in json.loads(cell):
            parts = message["content"] if isinstance(message["content"], list) else ()
            if any(part["type"] != "text" and not (path.parent / part[part["type"]]).is_file() for part in parts):
                return False
    return True


def _digest(molecules: Sequence[Molecule] | None) -> str | None:
    if molecules is None:
        return None
    lines = "\n".join(f"{molecule.smiles} {molecule.cluster}" for molecule in molecules)
    return hashlib.sha256(lines.encode()).hexdigest()
