"""The chemistry corpus as a folder: from the installed compounds to files that training reads.

    folder/
      molecules.parquet                 all labelled molecules
      descriptions/train.parquet        documents, also validation.parquet
      questions/train.parquet           conversations of the five families, also validation.parquet
      english/train.parquet             general documents, also validation.parquet
      english-questions/train.parquet   general conversations, also validation.parquet
      manifest.json                     settings, counts, what was dropped and why, digests

Test molecules appear in `molecules.parquet` only: no text is ever made of them.

A build that was interrupted goes on: a file that the manifest names, with the same settings and the right digest, is
not made again. Other settings start from nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.corpus.chemistry import SHARES, conversations, descriptions
from s1pro.corpus.general import Document, documents, general_conversations, general_texts
from s1pro.corpus.manifest import Progress, ResumableFolder
from s1pro.corpus.split import SplitReport, split_molecules
from s1pro.corpus.write import Written, file_digest, read_molecules, write_molecules
from s1pro.science.compounds import Compound
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, Selection, load_molecules
from s1pro.science.questions import Family

FORMAT_VERSION = 1
# Every tenth general document is for validation.
_VALIDATION_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class ChemistryCorpus:
    """Settings of a build.

    Attributes:
        selection: which molecules.
        limit: at most so many; None for all.
        passes: descriptions per molecule.
        questions: questions for training; validation gets a twentieth.
        shares: how often each family is asked, relative to the others.
        max_turns: questions in one conversation, at most.
        general_documents: documents of general English; 0 for none.
    """

    selection: Selection = SMALL_MOLECULES
    limit: int | None = None
    seed: int = 0
    passes: int = 1
    questions: int = 40_000
    shares: Mapping[str, int] = field(default_factory=lambda: {str(f): n for f, n in SHARES.items()})
    max_turns: int = 1
    general_documents: int = 2000


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a folder holds; the same values are in its manifest."""

    folder: Path
    read: int
    dropped: Mapping[str, int]
    split: SplitReport
    files: Mapping[str, Written]
    reused: tuple[str, ...]


def build_chemistry(
    folder: Path,
    settings: ChemistryCorpus | None = None,
    *,
    compounds: Iterable[Compound] | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Builds the folder, or what is missing of it.

    Args:
        compounds: records instead of the installed ones; the molecules are labelled anew then.
        progress: called with a line of text before every step.

    Raises:
        InputError: settings that leave nothing over; the message says what.
        MissingExtraError: RDKit or `chemicals` is not installed.
    """
    settings = settings or ChemistryCorpus()
    unknown = sorted(set(settings.shares) - set(SHARES))
    if unknown:
        raise InputError(f"shares: no such family: {', '.join(unknown)}; known: {', '.join(SHARES)}")
    building = ResumableFolder(folder, {"format": FORMAT_VERSION, **config_to_json(settings)}, progress)
    molecules = _molecules(building, settings, compounds)
    parts, split = split_molecules(molecules)
    general = functools.cache(lambda: list(documents(max_documents=settings.general_documents)))
    for name, make in _sources(settings, parts, general).items():
        building.file(name, make)
    building.finish(split=dataclasses.asdict(split))
    return BuildReport(
        folder=folder,
        read=building.manifest["read"],
        dropped=building.manifest["dropped"],
        split=split,
        files=building.files(),
        reused=tuple(building.reused),
    )


def _sources(
    settings: ChemistryCorpus, parts: Mapping[Any, list[Molecule]], general: Callable[[], list[Document]]
) -> dict[str, Callable[[], Iterable[Sample]]]:
    """File name to the function that gives its samples."""
    shares: dict[Family, int] = {family: settings.shares.get(family, 0) for family in SHARES}
    asked = {family: share for family, share in shares.items() if share}

    def read_texts(split: str) -> Callable[[], Iterable[Sample]]:
        return lambda: descriptions(parts[split], seed=settings.seed, passes=settings.passes)

    def talks(split: str, count: int) -> Callable[[], Iterable[Sample]]:
        return lambda: conversations(
            parts[split], num_questions=count, shares=asked, max_turns=settings.max_turns, seed=settings.seed
        )

    sources: dict[str, Callable[[], Iterable[Sample]]] = {
        "descriptions/train": read_texts("train"),
        "descriptions/validation": read_texts("validation"),
        "questions/train": talks("train", settings.questions),
        "questions/validation": talks("validation", max(1, settings.questions // 20)),
    }
    if settings.general_documents:
        for kind, samples_of in (("english", general_texts), ("english-questions", general_conversations)):
            for split in ("train", "validation"):
                sources[f"{kind}/{split}"] = functools.partial(_general_samples, general, samples_of, split)
    return sources


def _general_samples(
    general: Callable[[], list[Document]], samples_of: Callable[[list[Document]], Iterable[Sample]], split: str
) -> Iterable[Sample]:
    return samples_of(_general_part(general(), split))


def _general_part(found: list[Document], split: str) -> list[Document]:
    held_out = split == "validation"
    return [document for i, document in enumerate(found) if (i % _VALIDATION_EVERY == 0) == held_out]


def _molecules(
    building: ResumableFolder, settings: ChemistryCorpus, compounds: Iterable[Compound] | None
) -> list[Molecule]:
    """Those of an earlier build, or labelled anew."""
    path = building.folder / "molecules.parquet"
    if compounds is None and path.exists() and building.manifest.get("molecules") == file_digest(path):
        building.reused.append("molecules")
        return read_molecules(path)
    building.progress("labelling molecules")
    loaded = load_molecules(settings.selection, limit=settings.limit, seed=settings.seed, compounds=compounds)
    write_molecules(loaded.molecules, path)
    building.manifest |= {
        "molecules": file_digest(path),
        "read": loaded.read,
        "dropped": dict(loaded.dropped),
        "files": {},
    }
    building.save()
    return list(loaded.molecules)
