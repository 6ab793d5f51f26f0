"""SciReasoner's two groups of generation: materials, RNA, proteins and molecules that a model makes up.

Conditional: a material of given elements, or of a given bulk modulus (data files). Unconditional: one prompt, asked
5,000, 5,000, 1,000 and 800 times; there are no data, so answers must be sampled (a temperature above 0).

    materials   "Na Cl <sg><sg225>" in a tag; SMACT says whether charges can balance        percent of all
    RNA         letters A, C, G, U in a tag; ViennaRNA's least free energy                  mean over valid, kcal/mol
    proteins    letters of the 20 amino acids in a tag                                      fraction of all
    molecules   SMILES in a tag, or anything in the reply that RDKit reads                  fraction of all

What compat hides: the same material, protein or molecule counts every time it is made; a longer RNA always scores
better; other characters are removed from proteins until only letters are left; an untagged word that happens to be
SMILES is a molecule. strict counts what is valid *and* new in the run, over all answers, and repeated RNA as 0.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import MissingExtraError
from s1pro.science.rdkit_access import chem
from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.spec import Metric, Pair, Profile, Record

CONDITIONAL: Mapping[str, tuple[str, ...]] = {
    "composition_material": (
        "conditional_generation/composition_material/test/data.json", "composition_material/test/data.json",
    ),
    "bulk_modulus_material": (
        "bulk_modulus_material/test/data.json", "conditional_generation/bulk_modulus_material/test/data.json",
    ),
}  # fmt: skip
UNCONDITIONAL: Mapping[str, tuple[int, str]] = {
    "material": (5000, "Produce a material that has any bulk modulus or composition"),
    "RNA": (5000, "Please generate a novel RNA sequence. <rna>"),
    "protein": (1000, "Generate a protein sequence with <protein> </protein>."),
    "molecule": (800, "Generate a molecule with <SMILES> "),
}
LARGEST_GROUP = 230
LONGEST_RNA = 3000
"""Folding takes the cube of the length; longer ones have no energy here."""
_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_ELEMENTS = r"([A-Z][a-z]?(?: [A-Z][a-z]?)*?)\s*"
_WITH_TAG = re.compile(_ELEMENTS + r"[<\u27e8]sg[>\u27e9]\s*[<\u27e8]sg(\d+)[>\u27e9]")
_TAG_OPTIONAL = re.compile(_ELEMENTS + r"(?:<sg>\s*)?<sg(\d+)>")
_TOKEN = re.compile(r"(?<!\*)([A-Za-z0-9\u2080-\u2089().+\-=#$:@*/%\\]{2,})(?!\*)")
_TAGGED_SMILES = re.compile(r"<SMILES> ([A-Za-z0-9()=#+@\\/.-]+) </SMILES>")


def tagged(text: str, name: str, *, last: bool = False) -> str:
    """What stands in a tag, the first or the last one; empty without one."""
    found = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL | re.IGNORECASE)
    return str(found[-1 if last else 0]).strip() if found else ""


# Materials


def formula_of(text: str, pattern: re.Pattern[str]) -> str | None:
    """Elements with their counts in order of the alphabet, of what begins like a material."""
    match = pattern.match(text)
    if match is None:
        return None
    return "".join(f"{element}{count}" for element, count in sorted(Counter(match[1].split()).items()))


def upstream_material(pattern: re.Pattern[str]) -> Callable[[str, Record], str | None]:
    return lambda response, record: formula_of(tagged(upstream_visible(response), "material"), pattern)


def strict_material(response: str, record: Record) -> str | None:
    """Known elements and one of the 230 space groups, in the last tag."""
    text = tagged(answer_part(response), "material", last=True)
    match = _TAG_OPTIONAL.fullmatch(text) or _WITH_TAG.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= LARGEST_GROUP or not all(map(_is_element, match[1].split())):
        return None
    return f"{formula_of(text, _TAG_OPTIONAL) or formula_of(text, _WITH_TAG)} {match[2]}"


def _is_element(symbol: str) -> bool:
    try:
        return bool(chem().GetPeriodicTable().GetAtomicNumber(symbol) > 0)
    except RuntimeError:
        return False


@functools.lru_cache(maxsize=100_000)
def charges_balance(material: str) -> float:
    """Whether SMACT takes a formula for possible; 0 for what it cannot read."""
    try:
        from smact.screening import smact_validity
    except ImportError as error:
        raise MissingExtraError("smact", "generation") from error
    try:
        return float(bool(smact_validity(material.split()[0])))
    except (ValueError, KeyError, TypeError, AttributeError, NameError):
        return 0.0


# RNA


def upstream_rna(response: str, record: Record) -> str | None:
    """The first tag, or the last letters before a closing one alone; T is U. Other letters make it invalid."""
    text = upstream_visible(response).replace("T", "U").replace("t", "u")
    found = re.search(r"<rna>(.*?)</rna>", text, re.DOTALL | re.IGNORECASE)
    sequence = found[1].strip() if found else ""
    if not found and (alone := re.search(r"^(.*?)</rna>", text, re.DOTALL | re.IGNORECASE)):
        letters = re.findall("[ACGU]+", alone[1], re.IGNORECASE)
        sequence = letters[-1] if letters else ""
    return _rna(sequence)


def strict_rna(response: str, record: Record) -> str | None:
    """The last tag, which may have been opened by the prompt."""
    text = answer_part(response)
    found = re.findall(r"(?:<rna>|\A)([^<>]*)</rna>", text, re.IGNORECASE)
    return _rna(re.sub(r"\s", "", found[-1]).upper().replace("T", "U")) if found else None


def _rna(sequence: str) -> str | None:
    sequence = sequence.strip().upper()
    return sequence if sequence and not set(sequence) - set("ACGU") else None


@functools.lru_cache(maxsize=100_000)
def free_energy(sequence: str) -> float:
    """kcal/mol of the best structure."""
    try:
        import RNA
    except ImportError as error:
        raise MissingExtraError("ViennaRNA", "generation") from error
    return float(RNA.fold(sequence)[1]) if len(sequence) <= LONGEST_RNA else 0.0


def mean_energy(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Over valid sequences, repeated ones again."""
    energies = [free_energy(p.prediction) for p in pairs if p.prediction is not None]
    return {"score": float(np.mean(energies)) if energies else 0.0, "valid": len(energies) / len(pairs)}


def mean_energy_of_new(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Over all answers: repeated and unreadable ones have none."""
    new = {p.prediction for p in pairs if p.prediction is not None}
    total = sum(free_energy(sequence) for sequence in new)
    length = sum(map(len, new))
    return {"score": total / len(pairs), "distinct": len(new) / len(pairs), "per_nucleotide": total / max(length, 1)}


# Proteins


def upstream_protein(response: str, record: Record) -> str | None:
    """The last tag, without whatever is no letter of an amino acid."""
    found = re.findall("<protein>(.*?)</protein>", upstream_visible(response), re.DOTALL)
    letters = "".join(letter for letter in found[-1].upper() if letter in f"{_RESIDUES}-") if found else ""
    return letters or None


def strict_protein(response: str, record: Record) -> str | None:
    """The last tag, if all of it is letters of amino acids; blanks and ends of lines do not matter."""
    text = re.sub(r"\s", "", tagged(answer_part(response), "protein", last=True))
    return text if text and not set(text) - set(_RESIDUES) else None


# Molecules


def upstream_molecule(response: str, record: Record) -> str | None:
    """Without a tag anywhere, the first token of four characters that RDKit reads at all; else the whole reply."""
    text = upstream_visible(response)
    if "<SMILES>" not in text:
        text = _TOKEN.sub(lambda match: f"<SMILES> {match[1]} </SMILES>" if _readable(match[1]) else match[1], text)
    found = _TAGGED_SMILES.search(text)
    smiles = (found[1] if found else text).strip()
    return smiles if smiles and chem().MolFromSmiles(smiles) is not None else None


def _readable(token: str) -> bool:
    return len(token) >= 4 and chem().MolFromSmiles(token, sanitize=False) is not None


def strict_molecule(response: str, record: Record) -> str | None:
    """Canonical SMILES of the last tag, or of a reply that is one word."""
    text = answer_part(response)
    smiles = tagged(text, "SMILES", last=True) or text
    if not smiles or re.search(r"\s", smiles):
        return None
    molecule = chem().MolFromSmiles(smiles)
    return str(chem().MolToSmiles(molecule)) if molecule is not None and molecule.GetNumAtoms() else None


# Metrics


def share(valid: Callable[[str], float], scale: float) -> Metric:
    """Valid ones over all answers, repeated ones again."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        right = sum(valid(p.prediction) for p in pairs if p.prediction is not None)
        return {"score": scale * right / len(pairs)}

    return metric


def share_of_new(valid: Callable[[str], float], scale: float) -> Metric:
    """Different valid ones over all answers."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        read = [p.prediction for p in pairs if p.prediction is not None]
        new = {prediction for prediction in read if valid(prediction)}
        all_valid = sum(bool(valid(prediction)) for prediction in read)
        return {"score": scale * len(new) / len(pairs), "valid": all_valid / len(pairs)}

    return metric


def _always(prediction: str) -> float:
    return 1.0


def _profiles(upstream: Any, strict: Any, valid: Callable[[str], float], scale: float) -> tuple[Profile, Profile]:
    def value(gold: Any, prediction: str) -> float:
        return valid(prediction)

    return (
        Profile(extract=upstream, value=value, metric=share(valid, scale)),
        Profile(extract=strict, value=value, metric=share_of_new(valid, scale)),
    )


def _folded(gold: Any, prediction: str) -> float:
    """Bounded for rewards: the stabler per nucleotide, the better; half a kcal/mol is 1."""
    return min(1.0, max(0.0, -2 * free_energy(prediction) / len(prediction)))


PROFILES: Mapping[str, tuple[Profile, Profile]] = {
    "composition_material": _profiles(upstream_material(_TAG_OPTIONAL), strict_material, charges_balance, 100.0),
    "bulk_modulus_material": _profiles(upstream_material(_TAG_OPTIONAL), strict_material, charges_balance, 100.0),
    "material": _profiles(upstream_material(_WITH_TAG), strict_material, charges_balance, 100.0),
    "RNA": (
        Profile(extract=upstream_rna, value=_folded, metric=mean_energy),
        Profile(extract=strict_rna, value=_folded, metric=mean_energy_of_new),
    ),
    "protein": _profiles(upstream_protein, strict_protein, _always, 1.0),
    "molecule": _profiles(upstream_molecule, strict_molecule, _always, 1.0),
}
DEFECTS: Mapping[str, tuple[str, ...]] = {
    "material": ("the same material counts every time it is made",),
    "composition_material": ("only balanced charges count, whether or not the material has the elements asked for",),
    "bulk_modulus_material": ("only balanced charges count, whatever the bulk modulus is",),
    "RNA": ("the mean energy over valid sequences: the longer, the better", "repeated sequences count again"),
    "protein": ("other characters are removed; the same protein counts every time it is made",),
    "molecule": ("any word of the reply that is SMILES by chance is a molecule, and counts every time it is made",),
}
