"""Molecules with labels: what RDKit computes from a SMILES, and which compounds are left out, counted by reason.

    Compound -> limits -> RDKit -> selection -> Molecule(name, SMILES, formula, atoms, rings, mass, groups, clusters)

Labels come from RDKit alone; where the record's own formula disagrees, the record is dropped (neutral selections).
`cluster` is what splits are made of: the Murcko scaffold (ring systems with their linkers) without stereochemistry, or,
for molecules without rings, which all share the empty scaffold, their element-blind skeleton: every atom carbon, every
bond single. So butane, propan-1-ol and propan-1-amine lie in one cluster.

Selections keep a model's or a test's world small and honest: they say which molecules are asked about.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from s1pro.base.errors import InputError
from s1pro.science.compounds import Compound, read_compounds
from s1pro.science.formula import hill, parse_formula
from s1pro.science.groups import groups_of
from s1pro.science.rdkit_access import UnreadableSmiles, chem, read_smiles

ORGANIC_ELEMENTS = ("C", "H", "N", "O", "F", "Cl", "Br", "I", "S", "P", "Si", "B")
_CAS = re.compile(r"\d{2,7}-\d\d-\d")
# Names that are no names: catalogue numbers such as stk366316 or ac1o5cgq, and notations no reader can follow.
_CODE = re.compile(r"[a-z]*\d[a-z0-9]{4,}|[a-z]{1,8}[- ]?\d{3,}[a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Molecule:
    """A compound with its labels.

    Attributes:
        name: the systematic name, lower case.
        synonym: a common name that differs from it, or None.
        smiles: RDKit's canonical SMILES.
        formula: in Hill order, without charge signs for neutral molecules.
        atoms: counts per element, hydrogen included.
        heavy_atoms: atoms that are not hydrogen.
        rings: size of the smallest set of smallest rings.
        aromatic_rings: how many of these are aromatic.
        mass: average molar mass in g/mol, rounded to 0.001.
        groups: functional groups, names of `science.groups`.
        cluster: the scaffold, or the skeleton in front of which stands "acyclic:".
    """

    name: str
    synonym: str | None = None
    cas: str
    smiles: str
    formula: str
    atoms: Mapping[str, int]
    heavy_atoms: int
    rings: int
    aromatic_rings: int
    mass: float
    groups: tuple[str, ...]
    cluster: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "atoms": dict(self.atoms), "groups": list(self.groups)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Molecule:
        """The inverse of `as_dict`; Parquet's empty cells in `atoms` are left out."""
        atoms = {element: int(count) for element, count in dict(data["atoms"]).items() if count}
        return Molecule(**{**data, "atoms": atoms, "groups": tuple(data["groups"])})


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which molecules are wanted. Sizes are inclusive.

    Attributes:
        min_heavy_atoms, max_heavy_atoms: size.
        elements: no other element may occur; None allows all.
        max_name_length: in characters.
        carbon: whether there must be a carbon atom.
        connected: one molecule, no salt and no hydrate.
        neutral: no net charge and, but for groups such as nitro, no charged atom.
        plain: no isotope labels, radicals or stereochemistry marks in the SMILES.
    """

    min_heavy_atoms: int = 2
    max_heavy_atoms: int = 20
    elements: tuple[str, ...] | None = ORGANIC_ELEMENTS
    max_name_length: int = 60
    carbon: bool = True
    connected: bool = True
    neutral: bool = True
    plain: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_heavy_atoms <= self.max_heavy_atoms:
            raise ValueError(
                f"need 1 <= min_heavy_atoms <= max_heavy_atoms, got {self.min_heavy_atoms} and {self.max_heavy_atoms}"
            )


EVERYTHING = Selection(
    min_heavy_atoms=1,
    max_heavy_atoms=200,
    elements=None,
    max_name_length=400,
    carbon=False,
    connected=False,
    neutral=False,
    plain=False,
)


SMALL_MOLECULES = Selection(max_heavy_atoms=12, max_name_length=36)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Molecules in a stable order and what was left out, by reason. `read == len(molecules) + sum(dropped)`."""

    molecules: tuple[Molecule, ...]
    read: int
    dropped: Mapping[str, int]


class _Dropped(Exception):
    """One compound is left out; the text is the reason that is counted."""


def load_molecules(
    selection: Selection | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    compounds: Iterable[Compound] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Loaded:
    """Reads, labels and selects; with `limit` a sample that depends on `seed` and the CAS numbers only.

    The sample is taken by a hash of seed and CAS number, so it is the same whatever the order of the records, and a
    larger limit contains the smaller one. Duplicates (same SMILES, then same name) keep the record of the smallest CAS
    number; a synonym that another molecule bears as well is taken away from all of them.

    Args:
        compounds: the records; those of the package `chemicals` by default.
        progress: called with the number of records looked at, every thousand.

    Raises:
        MissingExtraError: RDKit or `chemicals` is not installed.
        InputError: nothing is left.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    selection = selection or Selection()
    records = sorted(read_compounds() if compounds is None else compounds, key=lambda c: _rank(seed, c.cas))
    kept: dict[str, Molecule] = {}
    dropped: Counter[str] = Counter()
    looked = 0
    for looked, compound in enumerate(records, start=1):
        if progress is not None and looked % 1000 == 0:
            progress(looked)
        if limit is not None and len(kept) >= limit:
            dropped["beyond the limit"] += len(records) - looked + 1
            break
        try:
            molecule = describe(compound, selection)
        except _Dropped as reason:
            dropped[str(reason)] += 1
            continue
        if molecule.smiles in kept:
            dropped["same SMILES as another record"] += 1
            molecule = min(molecule, kept[molecule.smiles], key=_cas_order)
        kept[molecule.smiles] = molecule
    molecules = _unique_names(kept.values(), dropped)
    if not molecules:
        raise InputError(f"none of {len(records)} compounds passes the selection {selection}: {dict(dropped)}")
    return Loaded(molecules=tuple(molecules), read=len(records), dropped=dict(sorted(dropped.items())))


def describe(compound: Compound, selection: Selection = EVERYTHING) -> Molecule:
    """Labels of one compound. Raises a private exception with the reason when it is left out; see `load_molecules`."""
    name = (compound.iupac_name or compound.common_name).lower()
    _check_name(name, selection)
    stated = parse_formula(compound.formula)
    if selection.neutral and stated is not None:
        _check_composition(stated, selection)  # the same from the text alone: most compounds need no RDKit
    try:
        molecule = read_smiles(compound.smiles)
    except UnreadableSmiles as error:
        raise _Dropped(f"RDKit: {error.reason}") from error
    _check_structure(molecule, compound, selection)
    from rdkit.Chem import rdMolDescriptors

    atoms = count_atoms(molecule)
    formula = rdMolDescriptors.CalcMolFormula(molecule)
    if selection.neutral and (stated is None or not hill(stated) == hill(atoms) == formula):
        raise _Dropped("formula of the record disagrees with its SMILES")
    synonym = compound.common_name.lower()
    good_synonym = synonym != name and _is_name(synonym) and ", " not in synonym
    return Molecule(
        name=name,
        synonym=synonym if good_synonym and len(synonym) <= selection.max_name_length else None,
        cas=compound.cas,
        smiles=chem().MolToSmiles(molecule),
        formula=formula,
        atoms=atoms,
        heavy_atoms=molecule.GetNumHeavyAtoms(),
        rings=rdMolDescriptors.CalcNumRings(molecule),
        aromatic_rings=rdMolDescriptors.CalcNumAromaticRings(molecule),
        mass=round(rdMolDescriptors._CalcMolWt(molecule), 3),
        groups=groups_of(molecule),
        cluster=cluster_of(molecule),
    )


def cluster_of(molecule: Any) -> str:
    """What may not be torn apart by a split: scaffold, or skeleton of a molecule without rings."""
    from rdkit.Chem import rdMolDescriptors
    from rdkit.Chem.Scaffolds import MurckoScaffold

    rdkit_chem = chem()
    if rdMolDescriptors.CalcNumRings(molecule):
        scaffold = MurckoScaffold.GetScaffoldForMol(molecule)
        return str(rdkit_chem.MolToSmiles(scaffold, isomericSmiles=False))
    skeleton = rdkit_chem.RWMol()
    for _ in range(molecule.GetNumAtoms()):
        skeleton.AddAtom(rdkit_chem.Atom(0))
    for bond in molecule.GetBonds():
        skeleton.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), rdkit_chem.BondType.SINGLE)
    return "acyclic:" + str(rdkit_chem.MolToSmiles(skeleton)).replace("*", "C")


def _check_name(name: str, selection: Selection) -> None:
    if not _is_name(name):
        raise _Dropped("no readable name")
    if len(name) > selection.max_name_length:
        raise _Dropped("name too long")


def _is_name(text: str) -> bool:
    """A name has letters, is printable ASCII without angle brackets and is not a number of a catalogue."""
    return (
        bool(re.search(r"[a-z]{3}", text))
        and text.isascii()
        and text.isprintable()
        and not set(text) & set("<>$|{}\"'*=")
        and _CAS.fullmatch(text) is None
        and _CODE.fullmatch(text) is None
    )


def _check_structure(molecule: Any, compound: Compound, selection: Selection) -> None:
    _check_composition(count_atoms(molecule), selection)
    if selection.connected and "." in compound.smiles:
        raise _Dropped("several molecules")
    if selection.neutral and not _is_neutral(molecule):
        raise _Dropped("charged")
    if selection.plain and not _is_plain(molecule, compound.smiles):
        raise _Dropped("isotope, radical or stereochemistry")


def _check_composition(atoms: Mapping[str, int], selection: Selection) -> None:
    heavy = sum(count for element, count in atoms.items() if element != "H")
    if not selection.min_heavy_atoms <= heavy <= selection.max_heavy_atoms:
        raise _Dropped("size outside the selection")
    if selection.elements is not None and not set(atoms) <= set(selection.elements):
        raise _Dropped("element outside the selection")
    if selection.carbon and "C" not in atoms:
        raise _Dropped("no carbon")


def _is_neutral(molecule: Any) -> bool:
    """Charges only as neighbours that cancel: nitro groups, N-oxides, isocyanides, azides, diazo compounds."""
    charges = {atom.GetIdx(): atom.GetFormalCharge() for atom in molecule.GetAtoms() if atom.GetFormalCharge()}
    if sum(charges.values()):
        return False
    return all(
        any(charges.get(other.GetIdx(), 0) * charge < 0 for other in molecule.GetAtomWithIdx(index).GetNeighbors())
        for index, charge in charges.items()
    )


def _is_plain(molecule: Any, smiles: str) -> bool:
    if any(mark in smiles for mark in "@/\\"):
        return False
    return not any(atom.GetIsotope() or atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())


def count_atoms(molecule: Any) -> dict[str, int]:
    """Atoms per element of an RDKit molecule, hydrogen included, by alphabet."""
    counts: Counter[str] = Counter()
    for atom in molecule.GetAtoms():
        counts[atom.GetSymbol()] += 1
        counts["H"] += atom.GetTotalNumHs()
    return {element: count for element, count in sorted(counts.items()) if count}


def _rank(seed: int, cas: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{cas}".encode(), digest_size=8).digest()


def _cas_order(molecule: Molecule) -> tuple[int, str]:
    return (int(molecule.cas.replace("-", "") or 0) if _CAS.fullmatch(molecule.cas) else 10**12, molecule.cas)


def _unique_names(molecules: Iterable[Molecule], dropped: Counter[str]) -> list[Molecule]:
    """One molecule per name; synonyms only where they belong to one molecule. Sorted by CAS number."""
    by_name: dict[str, Molecule] = {}
    for molecule in sorted(molecules, key=_cas_order):
        if molecule.name in by_name:
            dropped["same name as another record"] += 1
        else:
            by_name[molecule.name] = molecule
    bearers = Counter(m.synonym for m in by_name.values() if m.synonym)
    return [
        m if m.synonym is None or (bearers[m.synonym] == 1 and m.synonym not in by_name) else _without_synonym(m)
        for m in by_name.values()
    ]


def _without_synonym(molecule: Molecule) -> Molecule:
    return dataclasses.replace(molecule, synonym=None)
