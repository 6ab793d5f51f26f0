"""Reading an answer out of a response, without trusting its form.

Models wrap answers in words. The rules are few and fixed, so that a score can be explained:

* Everything up to the last `</think>` is reasoning and is ignored; of what follows the last 2,000 characters count.
* formula: the whole response if it is a formula; else the last word that is a formula with a digit in it.
* whole number: the last one, in digits or as a word up to twenty.
* mass: the last number with the unit g/mol, g or Da; without any, the last number that stands alone.
* yes or no: the first of these words.
* one of several labels: the whole response, or the only label in it; a response that names two of them has chosen none.
* reading: the last number that stands alone or before a unit.
* SMILES: what the last `<SMILES>` tag holds; without a tag, the last word.

Nothing here raises: what cannot be read is None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from s1pro.science.formula import ELEMENTS, parse_formula

MAX_RESPONSE = 2000
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBER_WORDS = _WORDS.split()
_WHOLE = re.compile(r"(?<![\w.])\d{1,6}(?![\w]|\.\d)|\b(?:" + "|".join(_NUMBER_WORDS) + r")\b", re.IGNORECASE)
_NUMBER = r"(?<![\w.])\d{1,9}(?:\.\d{1,9})?"
_WITH_UNIT = re.compile(_NUMBER + r"(?= ?(?:g/mol|g mol|g\b|Da\b|u\b))")
_ALONE = re.compile(_NUMBER + r"(?![\w])")
_READING = re.compile(r"(?<![\w.])[-+\N{MINUS SIGN}]?\d{1,12}(?:\.\d{1,12})?(?:[eE][-+]?\d{1,2})?(?![\w.]*\d)")
_TAGGED = re.compile(r"<SMILES>\s*([^<>\s]*)\s*</SMILES>")


def last_part(response: str) -> str:
    """What counts of a response: after the reasoning, and not endless."""
    return response.rpartition("</think>")[2][-MAX_RESPONSE:].strip()


def formula_in(response: str) -> dict[str, int] | None:
    """Counts per element."""
    text = last_part(response)
    whole = _atoms(text.rstrip("."))
    if whole is not None:
        return whole
    for word in reversed(text.split()):
        atoms = _atoms(word.strip(".,;:!?()*`\"'"))
        if atoms is not None and any(character.isdigit() for character in word):
            return atoms
    return None


def whole_number_in(response: str) -> int | None:
    """A count."""
    found = _WHOLE.findall(last_part(response))
    if not found:
        return None
    last = found[-1].lower()
    return int(last) if last.isdigit() else _NUMBER_WORDS.index(last)


def mass_in(response: str) -> float | None:
    """Grams per mole."""
    text = last_part(response)
    found = _WITH_UNIT.findall(text) or _ALONE.findall(text)
    return float(found[-1]) if found else None


def yes_or_no_in(response: str) -> bool | None:
    """A decision."""
    found = re.search(r"\b(yes|no)\b", last_part(response), re.IGNORECASE)
    return None if found is None else found.group(1).lower() == "yes"


def label_in(response: str, labels: Sequence[str]) -> str | None:
    """One of `labels`, spelled as there."""
    text = " ".join(last_part(response).lower().rstrip(".!").split())
    found = set()
    for label in sorted(labels, key=len, reverse=True):  # longer ones first: "no arrival" contains "no"
        pattern = rf"(?<![\w-]){re.escape(label.lower())}(?![\w-])"
        text, times = re.subn(pattern, "|", text)
        if times:
            found.add(label)
    return found.pop() if len(found) == 1 else None


def reading_in(response: str) -> float | None:
    """A number with sign, decimals and exponent, whatever its unit."""
    found = _READING.findall(last_part(response))
    return float(found[-1].replace("\N{MINUS SIGN}", "-")) if found else None


def smiles_in(response: str) -> str | None:
    """A structure, not checked."""
    text = last_part(response)
    tagged = _TAGGED.findall(text)
    words = tagged or text.split()
    return words[-1] or None if words else None


def _atoms(text: str) -> dict[str, int] | None:
    atoms = parse_formula(text)
    return atoms if atoms is not None and set(atoms) <= ELEMENTS else None
