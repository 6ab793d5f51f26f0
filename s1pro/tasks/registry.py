"""Tasks by name.

    names()                                  what there is
    get("mass_from_smiles")                  on molecules of the installed compound collection
    get("mass_from_smiles", molecules=...)   on given molecules, for example those of a corpus folder

A molecule's split depends on its cluster alone (`science.split`), so every way of getting the molecules asks about
held-out molecules only, also for models that were trained on a sample of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from s1pro.base.errors import InputError
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, load_molecules
from s1pro.science.split import Split, select
from s1pro.tasks.chemistry import TASKS, ChemistryTask


def names() -> tuple[str, ...]:
    """All names that `get` knows."""
    return tuple(TASKS)


def get(
    name: str,
    *,
    molecules: Sequence[Molecule] | None = None,
    split: Split = "test",
    num_items: int = 200,
    seed: int = 0,
    held_out_wordings: bool = False,
) -> ChemistryTask:
    """The task `name` on the molecules of `split`; without `molecules`, on all small ones that are installed.

    Raises:
        InputError: an unknown name (the known ones are listed), the training split, or too few molecules.
        MissingExtraError: RDKit or `chemicals` is not installed.
    """
    if name not in TASKS:
        raise InputError(f"no such task: {name!r}; known: {', '.join(names())}")
    if split == "train":
        raise InputError("tasks ask about held-out molecules; choose the split 'validation' or 'test'")
    found = _installed() if molecules is None else molecules
    return ChemistryTask(
        name,
        test=select(found, split),
        train=select(found, "train"),
        num_items=num_items,
        seed=seed,
        held_out_wordings=held_out_wordings,
    )


@functools.cache
def _installed() -> tuple[Molecule, ...]:
    return load_molecules(SMALL_MOLECULES).molecules
