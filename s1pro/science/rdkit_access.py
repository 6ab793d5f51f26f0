"""RDKit, loaded when it is first needed, silent and bounded.

RDKit writes a line to the error stream for every SMILES it cannot read, and a hostile string can keep it busy for
long. Everything that reads SMILES in this project comes through `read_smiles`: too long or too large is refused
before the expensive steps, what RDKit refuses comes back as a reason, and nothing is printed.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from s1pro.base.errors import MissingExtraError

MAX_SMILES_LENGTH = 400
MAX_ATOMS = 200
# Ring perception and canonical ranking grow quickly with the number of ring closures (fullerenes have 32 rings).
MAX_RING_CLOSURES = 40


class UnreadableSmiles(ValueError):
    """A text that is not the SMILES of a molecule within the limits. `reason` is one of a few words."""

    def __init__(self, reason: str, smiles: str) -> None:
        super().__init__(f"{reason}: {smiles[:80]!r}")
        self.reason = reason


@functools.cache
def chem() -> ModuleType:
    """`rdkit.Chem`, with RDKit's messages switched off.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MissingExtraError("rdkit", "science") from error
    rdBase.DisableLog("rdApp.*")
    return Chem


def read_smiles(smiles: str) -> Any:
    """The RDKit molecule of a SMILES.

    Raises:
        UnreadableSmiles: empty, too long, not parsed, wrong valence, or too large.
    """
    rdkit_chem = chem()
    if not smiles or any(character.isspace() for character in smiles) or not smiles.isascii():
        raise UnreadableSmiles("not a SMILES", smiles)
    if len(smiles) > MAX_SMILES_LENGTH:
        raise UnreadableSmiles("SMILES too long", smiles)
    molecule = rdkit_chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None:
        raise UnreadableSmiles("not a SMILES", smiles)
    atoms = molecule.GetNumAtoms()
    if atoms == 0:
        raise UnreadableSmiles("no atoms", smiles)
    if atoms > MAX_ATOMS or molecule.GetNumBonds() - atoms > MAX_RING_CLOSURES:
        raise UnreadableSmiles("molecule too large", smiles)
    problem = rdkit_chem.SanitizeMol(molecule, catchErrors=True)
    if problem != rdkit_chem.SanitizeFlags.SANITIZE_NONE:
        raise UnreadableSmiles("impossible valence or aromaticity", smiles)
    rdkit_chem.AssignStereochemistry(molecule, cleanIt=True)
    return molecule


def canonical_smiles(smiles: str) -> str:
    """RDKit's canonical spelling. Raises `UnreadableSmiles` as `read_smiles` does."""
    return str(chem().MolToSmiles(read_smiles(smiles)))
