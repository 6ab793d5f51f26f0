"""Tasks by name.

    names()                                  what there is
    table()                                  the same with domain and modality
    get("mass_from_smiles")                  on molecules of the installed compound collection
    get("mass_from_smiles", molecules=...)   on given molecules, for example those of a corpus folder
    get("digit_in_scan", folder=...)         pictures, videos and signals are written to a folder
    for_learning("arithmetic")               as a reward: the training split; made by a program, on request
    for_learning("sudoku.py:Sudoku")         an environment of others, behind walls

A molecule's split depends on its cluster alone (`science.split`), so every way of getting the molecules asks about
held-out molecules only, also for models that were trained on a sample of them. The same holds for all other media.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from s1pro.base.errors import InputError
from s1pro.science.media import Modality
from s1pro.science.media_families import MediaSettings, installed_molecules, media_families
from s1pro.science.molecules import Molecule
from s1pro.science.split import Split, select
from s1pro.tasks.agents.conversions import ConvertUnits
from s1pro.tasks.chemistry import TASKS, ChemistryTask
from s1pro.tasks.generated.environment import Environment, GeneratedTask
from s1pro.tasks.generated.foreign import ForeignTask, is_foreign
from s1pro.tasks.generated.life import ReverseComplement, TranslateDna
from s1pro.tasks.generated.materials import MassFraction, NeutralFormula
from s1pro.tasks.generated.mathematics import Arithmetic, GreatestDivisor, LinearEquation
from s1pro.tasks.media import MediaTask
from s1pro.tasks.task import Item, Task

MEDIA_FOLDER = Path("runs/media")
"""Where media of items go by default."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """One line of the table of tasks.

    Attributes:
        domain: of `science.system_prompts`.
        modality: what has to be understood beside the text of the question.
    """

    name: str
    domain: str
    modality: Modality


def table() -> tuple[TaskEntry, ...]:
    """All tasks, by modality in the order of their making."""
    text = (TaskEntry(name=name, domain="chemistry", modality="text") for name in TASKS)
    media = (
        TaskEntry(name=family.name, domain=family.domain, modality=family.modality)
        for family in media_families().values()
    )
    return (*text, *media)


def names(*modalities: Modality) -> tuple[str, ...]:
    """The names that `get` knows; all of them, or those of some modalities."""
    return tuple(entry.name for entry in table() if not modalities or entry.modality in modalities)


class OwnTask(Task, Protocol):
    """A task of this package: it knows how a right answer is written."""

    def expected(self, item: Item) -> str: ...


@dataclass(frozen=True, kw_only=True)
class GeneratedEntry:
    """A task without end, made by a program: examined when it is named, never by default.

    Attributes:
        make: split, number of items and seed to the task.
    """

    name: str
    domain: str
    make: Callable[[Split, int, int], OwnTask]


def _generated(name: str, domain: str, environment: Callable[[random.Random], Environment]) -> GeneratedEntry:
    def make(split: Split, count: int, seed: int) -> OwnTask:
        return GeneratedTask(name, environment, split=split, num_items=count, seed=seed)

    return GeneratedEntry(name=name, domain=domain, make=make)


ON_REQUEST: Mapping[str, GeneratedEntry] = {
    entry.name: entry
    for entry in (
        _generated("arithmetic", "mathematics", Arithmetic),
        _generated("linear_equation", "mathematics", LinearEquation),
        _generated("greatest_divisor", "mathematics", GreatestDivisor),
        _generated("reverse_complement", "life", ReverseComplement),
        _generated("translate_dna", "life", TranslateDna),
        _generated("neutral_formula", "materials", NeutralFormula),
        _generated("mass_fraction", "materials", MassFraction),
        GeneratedEntry(
            name="convert_units",
            domain="physics",
            make=lambda split, count, seed: ConvertUnits(split=split, num_items=count, seed=seed),
        ),
    )
}


def all_names() -> tuple[str, ...]:
    """Those of `names`, and those on request."""
    return (*names(), *ON_REQUEST)


def check_name(name: str) -> None:
    """Raises `InputError`, with the known names, if there is no such task."""
    if name not in all_names() and not is_foreign(name):
        raise InputError(f"no such task: {name!r}; known: {', '.join(all_names())}")


def get(
    name: str,
    *,
    molecules: Sequence[Molecule] | None = None,
    split: Split = "test",
    num_items: int = 200,
    seed: int = 0,
    held_out_wordings: bool = False,
    folder: Path = MEDIA_FOLDER,
    media: MediaSettings | None = None,
) -> OwnTask:
    """The task `name`.

    Args:
        molecules: what is asked about; all small ones that are installed by default.
        split: whose molecules, or whose examples, are asked about.
        folder, media: where pictures, videos and signals go, and their sizes.

    Raises:
        InputError: an unknown name (the known ones are listed), the training split, or too few molecules.
        MissingExtraError: RDKit, `chemicals` or the package with the data of a task is not installed.
    """
    check_name(name)
    if split == "train":
        raise InputError("tasks ask about held-out molecules and media; choose the split 'validation' or 'test'")
    if is_foreign(name):
        return ForeignTask(name, split=split, num_items=num_items, seed=seed)
    if name in ON_REQUEST:
        return ON_REQUEST[name].make(split, num_items, seed)
    if name not in TASKS:
        return MediaTask(
            media_families(media, molecules)[name],
            folder,
            split=split,
            num_items=num_items,
            seed=seed,
            held_out_wordings=held_out_wordings,
        )
    found = installed_molecules() if molecules is None else molecules
    return ChemistryTask(
        name,
        test=select(found, split),
        train=select(found, "train"),
        num_items=num_items,
        seed=seed,
        held_out_wordings=held_out_wordings,
    )


def for_learning(
    name: str,
    *,
    num_items: int = 2000,
    seed: int = 0,
    molecules: Sequence[Molecule] | None = None,
    folder: Path = MEDIA_FOLDER,
    media: MediaSettings | None = None,
) -> OwnTask:
    """A task whose questions are about training molecules or training media: rewards of reinforcement learning, never
    an evaluation.

    Args:
        folder, media: where pictures, videos and signals go, and their sizes.

    Raises:
        InputError: an unknown name.
    """
    if is_foreign(name):
        return ForeignTask(name, split="train", num_items=num_items, seed=seed)
    if name not in all_names():
        raise InputError(f"no task to learn from: {name!r}; known: {', '.join(all_names())}")
    if name in ON_REQUEST:
        return ON_REQUEST[name].make("train", num_items, seed)
    if name not in TASKS:
        family = media_families(media, molecules)[name]
        return MediaTask(family, folder, split="train", num_items=num_items, seed=seed, for_learning=True)
    found = installed_molecules() if molecules is None else molecules
    others = select(found, "validation")  # where the trivial answers of a task come from; nobody asks for them here
    return ChemistryTask(name, test=select(found, "train"), train=others, num_items=num_items, seed=seed)
