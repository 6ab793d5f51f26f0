"""The SmolInstruct group of SciReasoner, in the original scorer's way.

* the first tag counts; where there is none, compat takes the last number, formula or word of yes or no that stands in
  the reply
* molecules: equal as sets of InChIs, parts at full stops or semicolons; USPTO_50K: the last tag, equal as canonical
  SMILES without atom maps
* formulas by element counts, names at semicolons in any order, booleans right over all
* numbers: the true root of the mean square over readable replies; strict lets unreadable ones err at worst
* captions: METEOR without synonyms
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from s1pro.science.rdkit_access import chem
from s1pro.tasks.benchmarks import smolinstruct as smol
from s1pro.tasks.benchmarks.extract import answer_part, final_number, final_yes_no, upstream_visible
from s1pro.tasks.benchmarks.formulas import strict_formula_match, upstream_formula_match
from s1pro.tasks.benchmarks.metrics import accuracy, equality, errors_with_penalty, mean_of
from s1pro.tasks.benchmarks.molecules import same_molecules, upstream_molecule
from s1pro.tasks.benchmarks.spec import Pair, Profile, Record

Read = Callable[[str, Record], str | None]
DEFECT = "the first tag counts, not the last; without one the last number, formula, yes or no in the reply"
_ATOM = r"[A-Z][a-z]?\d*"
_GROUP = r"\([^)]+\)\d*|\[[^\]]+\]\d*"
_FORMULA = rf"[\[(]?{_ATOM}(?:\([A-Za-z0-9]+\)\d*)?[\])]?(?:{_ATOM}|{_GROUP})*[+-]{{0,2}}(?:\xb7\d*{_ATOM})*"
_LAST: Mapping[str, re.Pattern[str]] = {
    "BOOLEAN": re.compile(r"\b(?:yes|true|no|false)\b", re.IGNORECASE),
    "NUMBER": re.compile(r"-?\d*\.\d+|-?\d+"),
    "MOLFORMULA": re.compile(_FORMULA),
}
_WORDS: Mapping[str, bool] = {"yes": True, "no": False}


def first_tag(tag: str) -> Read:
    """From the first opening tag to the first closing one, else the last thing that looks like an answer (`_LAST`)."""

    def read(response: str, record: Record) -> str | None:
        text = upstream_visible(response)
        start, end = text.find(f"<{tag}>"), text.find(f"</{tag}>")
        found = text[start + len(tag) + 2 : end].strip() if start >= 0 and end >= 0 else ""
        if tag == "SMILES":
            return found.replace(";", ".") or None
        if found or tag not in _LAST:
            return found or None
        text = re.sub(r"<SMILES>.*?</SMILES>", "", text, flags=re.DOTALL) if tag == "NUMBER" else text
        last = next(reversed(_LAST[tag].findall(text)), None)
        return {"true": "yes", "false": "no"}.get(last.lower(), last) if last and tag == "BOOLEAN" else last

    return read


def last_smiles(response: str, record: Record) -> str | None:
    """Content of the last tag."""
    found = re.findall(r"<SMILES>(.*?)</SMILES>", upstream_visible(response), re.DOTALL)
    return str(found[-1]).strip() or None if found else None


def same_canonical(gold: str, prediction: str) -> float:
    """1 if both are one SMILES once canonical and without atom maps."""
    wanted = _canonical(gold)
    return float(wanted is not None and wanted == _canonical(prediction))


@lru_cache(maxsize=20_000)
def _canonical(text: str) -> str | None:
    molecule = upstream_molecule(text)
    if molecule is None:
        return None
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    return str(chem().MolToSmiles(molecule))


def python_number(text: str | None) -> float | None:
    """What Python takes for one, if it is finite."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def split_match(gold: str, prediction: str) -> float:
    """Names at semicolons, in any order, blanks and all."""
    return float(sorted(gold.split(";")) == sorted(prediction.split(";")))


def read_rmse(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Root of the mean square over readable replies; as large as the penalty where none is."""
    penalty = errors_with_penalty(root=True)
    read = [p for p in pairs if p.prediction is not None]
    return {"score": penalty(read or pairs)["score"]}


def profiles(task: str) -> tuple[tuple[Profile, Profile], Any]:
    """Of a task of the group, and its gold."""
    kind = task.rpartition("-")[2]
    if kind in ("esol", "lipo"):
        near, number = smol.nearness(4.0 if kind == "esol" else 2.0), first_tag("NUMBER")
        return (
            Profile(extract=lambda r, record: python_number(number(r, record)), value=near, metric=read_rmse),
            Profile(extract=lambda r, _: final_number(r), value=near, metric=errors_with_penalty(root=True)),
        ), smol.gold_number
    if kind in ("bbbp", "clintox", "hiv", "sider"):
        word = first_tag("BOOLEAN")
        return (
            Profile(
                extract=lambda r, record: _WORDS.get((word(r, record) or "").lower()), value=equality, metric=accuracy()
            ),
            Profile(extract=lambda r, _: final_yes_no(r), value=equality, metric=accuracy()),
        ), smol.gold_boolean
    if kind == "molecule_captioning":
        return (
            Profile(
                extract=lambda r, _: upstream_visible(r), value=smol.words_meteor, metric=mean_of(smol.words_meteor)
            ),
            Profile(
                extract=lambda r, _: answer_part(r) or None, value=smol.words_meteor, metric=mean_of(smol.words_meteor)
            ),
        ), smol.gold_tag
    upstream, strict, read = {
        "i2f": (upstream_formula_match, strict_formula_match, first_tag("MOLFORMULA")),
        "s2f": (upstream_formula_match, strict_formula_match, first_tag("MOLFORMULA")),
        "s2i": (split_match, smol.same_name, first_tag("IUPAC")),
        "USPTO_50K": (same_canonical, same_molecules, last_smiles),
    }.get(kind, (same_molecules, same_molecules, first_tag("SMILES")))
    return (
        Profile(extract=read, value=upstream, metric=mean_of(upstream, scale=100.0)),
        Profile(extract=smol.strict_tag, value=strict, metric=mean_of(strict, scale=100.0)),
    ), smol.gold_tag
