"""Molecules in answers: fingerprints, identity, SELFIES; upstream's rules and ours.

**A trap of RDKit.** Whatever follows the first blank of a SMILES is its name, so "I cannot tell" is iodine. Upstream
scorers fall into it; `strict_molecule` takes a string without white space only.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.science.rdkit_access import chem

MAX_LETTERS = 5000


def upstream_molecule(text: str) -> Any:
    """What RDKit makes of any text; None if nothing."""
    if len(text) > MAX_LETTERS:
        return None
    return chem().MolFromSmiles(text)


def strict_molecule(text: str) -> Any:
    """A molecule with at least one atom, of a string without white space."""
    text = text.strip()
    if not text or re.search(r"\s", text):
        return None
    molecule = upstream_molecule(text)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


def tanimoto(a: Any, b: Any) -> float:
    """Of binary Morgan fingerprints, radius 2, 2048 bits; 0 to 1."""
    from rdkit import DataStructs

    generator = _morgan()
    return float(DataStructs.TanimotoSimilarity(generator.GetFingerprint(a), generator.GetFingerprint(b)))


def inchi_parts(text: str) -> frozenset[str] | None:
    """InChIs of the parts of a SMILES; None if any part is no molecule."""
    parts = []
    for part in text.strip().split("."):
        molecule = strict_molecule(part)
        if molecule is None:
            return None
        parts.append(_inchi(molecule))
    return frozenset(parts)


def same_molecules(gold: str, prediction: str) -> float:
    """1 if both are the same set of molecules."""
    wanted, found = inchi_parts(gold), inchi_parts(prediction)
    return float(wanted is not None and wanted == found)


def selfies_to_smiles(text: str) -> str | None:
    """None for what is no SELFIES."""
    try:
        import selfies
    except ImportError as error:
        raise MissingExtraError("selfies", "eval") from error
    if len(text) > MAX_LETTERS:
        return None
    try:
        return str(selfies.decoder(text))
    except (selfies.DecoderError, ValueError, KeyError, IndexError, TypeError):
        return None


@lru_cache(maxsize=20_000)
def flat_smiles(text: str) -> str | None:
    """Canonical, without stereochemistry, of what RDKit makes of any text; None for no molecule, or one that SELFIES
    cannot say."""
    molecule = upstream_molecule(text)
    if molecule is None:
        return None
    try:
        import selfies
    except ImportError as error:
        raise MissingExtraError("selfies", "eval") from error
    smiles = str(chem().MolToSmiles(molecule, isomericSmiles=False))
    try:
        selfies.encoder(smiles)
    except selfies.EncoderError:
        return None
    return smiles


@lru_cache(maxsize=20_000)
def flat_inchi(smiles: str) -> str:
    """Of what `flat_smiles` gave; empty for no molecule."""
    molecule = upstream_molecule(smiles)
    return "" if molecule is None else _inchi(molecule)


@lru_cache(maxsize=1)
def _morgan() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


def _inchi(molecule: Any) -> str:
    from rdkit.Chem import inchi

    return str(inchi.MolToInchi(molecule, options="-W"))
