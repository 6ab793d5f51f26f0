"""Molecules as records: what RDKit computes from a SMILES, grouped by scaffold.

Notations and counts are exact; log P is Crippen's and the polar surface Ertl's estimate, and the columns say so.
Groups are those of `science.molecules.cluster_of`: Murcko scaffold, or skeleton without rings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1pro.science.facts.schema import Column, Schema
from s1pro.science.molecules import cluster_of
from s1pro.science.rdkit_access import chem, read_smiles

COMPUTED: tuple[Column, ...] = (
    Column(name="formula", type="formula", words=("molecular formula", "formula")),
    Column(name="mass", unit="g/mol", decimals=1, words=("molar mass", "molecular mass"), also=("kg/mol",)),
    Column(name="heavy_atoms", type="count", noun="heavy atom"),
    Column(name="rings", type="count", noun="ring"),
    Column(name="donors", type="count", noun="hydrogen-bond donor"),
    Column(name="acceptors", type="count", noun="hydrogen-bond acceptor"),
    Column(name="rotatable", type="count", noun="rotatable bond"),
    Column(name="logp", decimals=2, words=("Crippen log P", "log P estimated by Crippen's method")),
    Column(name="tpsa", unit="Å^2", decimals=1, words=("topological polar surface area", "polar surface area")),
)
STRUCTURE = Column(name="smiles", type="smiles", role="structure", words=("SMILES",))


def molecule_schema(name: str = "molecules", extra: tuple[Column, ...] = (), noun: str = "molecule") -> Schema:
    """Name, structure and computed columns; columns of the user's file come last."""
    entity = Column(name="name", type="text", role="entity")
    own = {column.name for column in extra}
    columns = (entity, STRUCTURE, *(c for c in COMPUTED if c.name not in own), *extra)
    return Schema(name=name, domain="chemistry", noun=noun, columns=columns)


def molecule_row(smiles: str, name: str = "") -> tuple[dict[str, Any], str]:
    """The computed row, and its group.

    Raises:
        UnreadableSmiles: no molecule, or beyond the limits of `science.rdkit_access`.
    """
    from rdkit.Chem import rdMolDescriptors

    molecule = read_smiles(smiles)
    canonical = str(chem().MolToSmiles(molecule))
    row: Mapping[str, Any] = {
        "name": name or canonical,
        "smiles": canonical,
        "formula": _neutral_formula(rdMolDescriptors.CalcMolFormula(molecule)),
        "mass": rdMolDescriptors._CalcMolWt(molecule),
        "heavy_atoms": molecule.GetNumHeavyAtoms(),
        "rings": rdMolDescriptors.CalcNumRings(molecule),
        "donors": rdMolDescriptors.CalcNumHBD(molecule),
        "acceptors": rdMolDescriptors.CalcNumHBA(molecule),
        "rotatable": rdMolDescriptors.CalcNumRotatableBonds(molecule),
        "logp": rdMolDescriptors.CalcCrippenDescriptors(molecule)[0],
        "tpsa": rdMolDescriptors.CalcTPSA(molecule),
    }
    return dict(row), cluster_of(molecule)


def _neutral_formula(formula: str) -> str | None:
    """None for charged molecules: their formula has a sign."""
    return formula if formula.isalnum() else None
