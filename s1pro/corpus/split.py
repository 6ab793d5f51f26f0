"""Train, validation and test molecules without leaks, and the numbers that prove it.

`science.split` says where a cluster belongs; here whole lists are divided, and what must not happen is checked:
no SMILES, no name and no cluster in two splits. A training molecule whose synonym is a name or synonym of a held-out
molecule loses that synonym (counted).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from s1pro.base.errors import InputError
from s1pro.science.molecules import Molecule
from s1pro.science.split import SPLITS, Split, split_of


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Molecules and clusters per split, and synonyms that were taken away."""

    molecules: Mapping[Split, int]
    clusters: Mapping[Split, int]
    synonyms_removed: int


def split_molecules(molecules: Iterable[Molecule]) -> tuple[dict[Split, list[Molecule]], SplitReport]:
    """Divides; the result does not depend on the order of the molecules, but for the order inside each split.

    Raises:
        InputError: two molecules with one SMILES or one name lie in different splits, or a split is empty.
    """
    parts: dict[Split, list[Molecule]] = {split: [] for split in SPLITS}
    for molecule in molecules:
        parts[split_of(molecule.cluster)].append(molecule)
    held_out_names = {text for split in ("validation", "test") for m in parts[split] for text in (m.name, m.synonym)}
    parts["train"], removed = _without_synonyms(parts["train"], held_out_names - {None})
    empty = [split for split in SPLITS if not parts[split]]
    if empty:
        raise InputError(f"no molecule falls into {' and '.join(empty)}; load more molecules")
    check_disjoint(parts)
    report = SplitReport(
        molecules={split: len(part) for split, part in parts.items()},
        clusters={split: len({m.cluster for m in part}) for split, part in parts.items()},
        synonyms_removed=removed,
    )
    return parts, report


def check_disjoint(parts: Mapping[Split, Sequence[Molecule]]) -> None:
    """Raises `InputError` naming the first SMILES, name or cluster that is in two splits."""
    for field in ("smiles", "name", "cluster"):
        seen: dict[str, Split] = {}
        for split, part in parts.items():
            for molecule in part:
                value = getattr(molecule, field)
                other = seen.setdefault(value, split)
                if other != split:
                    raise InputError(f"the {field} {value!r} is in the splits {other!r} and {split!r}")


def _without_synonyms(part: Sequence[Molecule], names: set[str | None]) -> tuple[list[Molecule], int]:
    kept = [dataclasses.replace(m, synonym=None) if m.synonym in names else m for m in part]
    return kept, sum(before is not after for before, after in zip(part, kept, strict=True))
