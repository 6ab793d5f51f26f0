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
# All families but trend_in_recording, which needs the extra `signals`.
COUNTS: Mapping[str, int] = {
    "formula_in_depiction": 600,
    "rings_in_depiction": 600,
    "group_in_depiction": 800,
    "trend_in_plot": 400,
    "unit_in_plot": 300,
    "value_in_plot": 400,
    "boiling_point_in_plot": 400,
    "digit_in_scan": 1400,
    "motion_in_video": 400,
    "turn_in_video": 300,
    "curve_in_video": 300,
    "chirp_in_signal": 600,
    "transit_in_lightcurve": 400,
    "lattice_in_diffraction": 600,
    "rhythm_in_ecg": 800,
    "call_in_sound": 300,
    "arrival_in_seismogram": 300,
    "distance_in_seismogram": 500,
    "recording_in_signal": 240,
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

    @functools.cache
    def loaded() -> Sequence[Molecule]:
        building.progress("labelling molecules")
        return load_molecules(settings.selection, limit=settings.limit, seed=settings.seed).molecules

    families = media_families(settings.media, loaded if molecules is None else molecules)
    unknown = sorted(set(settings.counts) - set(families))
    if unknown:
        raise InputError(f"counts: no such family: {', '.join(unknown)}; known: {', '.join(families)}")
    if not any(settings.counts.values()):
        raise InputError("counts: every family has 0; give at least one of them a count")
    media = MediaFolder(folder, seen_from=folder / "source")
    for name, count in settings.counts.items():
        if count:
            make = functools.partial(conversations, families[name], media, seed=settings.seed)
            train = functools.partial(make, "train", count=count)
            validation = functools.partial(make, "validation", count=settings.validation, repeat=False)
            building.file(f"{name}/train", train, intact=has_media)
            building.file(f"{name}/validation", validation, intact=has_media)
    building.finish()
    return MultimodalReport(folder=folder, files=building.files(), reused=tuple(building.reused))


def conversations(
    family: MediaFamily, media: MediaFolder, split: Split, *, count: int, seed: int = 0, repeat: bool = True
) -> Iterator[Sample]:
    """The first `count` examples of a split as conversations; their media are written on the way.

    Args:
        repeat: ask again, in other words, where the split has fewer different examples; else give fewer.
    """
    group = group_of_domain(family.domain)
    examples = family.examples(split, count if repeat else family.different(split, count), seed=seed)
    for number, example in enumerate(examples):
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
