"""Finding molecules and sequences in plain text.

Inside tags such as `<SMILES>…</SMILES>` the science vocabularies are used anyway. This module finds what stands
untagged, in the order and with the limits of the release (spec 1.7):

1. SMILES: at least 10 units (bracket atoms, element symbols, digits, bonds, parentheses), not touching an ASCII letter,
   at least 5 letters, and confirmed, by rules or by RDKit;
2. protein: at least 27 capital letters, unless all of them are A, T, C, G or U;
3. nucleic acid: at least 27 of these five.

`detector="rules"` judges brackets, bonds and ring closures and needs nothing; `detector="rdkit"` asks RDKit, which also
knows valences. They differ in about 0.16 % of real molecules, so a model uses the one that it was trained with.
A candidate that is refused is skipped whole, as upstream does: `(CCO…)` with its parentheses is no molecule for RDKit,
although what stands between them is.

Ordinary text hardly ever holds a candidate, and searching for one costs more than encoding the text. So there is a
quicker question, are there ten characters in a row that can stand in an accepted SMILES (a bracket atom counting as
one), five of them letters, or 27 capitals? `find` asks it of a whole text first, by `bytes.translate` and a substring
search. `is_doubtful` asks it of one word with the white space before it, so that the answer can be remembered with the
word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

from s1pro.science.rdkit_access import chem

Detector = Literal["rules", "rdkit"]
DETECTORS: tuple[Detector, ...] = ("rules", "rdkit")
Kind = Literal["SMILES", "PROT", "XNA"]

MIN_UNITS = 10
MIN_LETTERS = 5
MIN_SEQUENCE = 27
# Ring perception in RDKit grows with the square of the length and worse; nothing longer is called a molecule.
MAX_RDKIT_LENGTH = 2000

# Element symbols, then everything else that may stand in a SMILES. Atomic: a symbol once read is never taken apart.
_TWO_LETTERS = (
    "A[cglmrstu]|B[aehikr]|C[adeflmnorsu]|D[bsy]|E[rsu]|F[elmr]|G[ade]|H[efgos]|I[nr]|Kr|L[airuv]|M[cdgnot]|N[abdehiop]"
    "|O[gs]|P[abdmortu]|R[abefghnu]|S[bcegimnr]|T[abcehilms]|Xe|Yb|Z[nr]"
)
_SINGLE = rf"{_TWO_LETTERS}|[BCFHIKNOPSUVWYbcnops().=\-#@0-9$%*:+/\\]"
_UNIT = rf"(?>\[[^\]]+\]|{_SINGLE})"
_SMILES = re.compile(rf"(?![:.=]){_UNIT}{{{MIN_UNITS},}}(?<![:.=])")
_SINGLE_UNIT = re.compile(_SINGLE)
_NOT_AT_THE_ENDS = frozenset(":.=")
_BRACKET_WORK = 64  # characters that may be looked at in search of a `]`, per character of the text
_CAPITALS = re.compile(rf"[A-Z]{{{MIN_SEQUENCE},}}")
_NUCLEOTIDES = re.compile(rf"[ATCGU]{{{MIN_SEQUENCE},}}")

_BONDS = frozenset("-=#:/\\.$")
# What may stand outside brackets; `[` is what is left of a bracket atom there.
_OUTSIDE_UNIT = re.compile(r"%[0-9]{2}|[0-9]|Cl|Br|[BCNOPSFIbcnosp]|[-=#:/\\.$]|[()\[]")
_ELEMENT_START = re.compile(rf"[bcnosp]|{_TWO_LETTERS}|[BCFHIKNOPSUVWY]")
_WORD = re.compile(r"[A-GI-Za-z]{3}|\d{4}")
_BRACKET = re.compile(r"\[([^\[\]]+)\]")
_DIGITS = re.compile(r"\d+")


def _table(groups: Mapping[str, str]) -> bytes:
    """A translation of bytes to the sign of the group that they are in, or to a space."""
    table = bytearray(b" " * 256)
    for sign, members in groups.items():
        for member in members:
            table[ord(member)] = ord(sign)
    return bytes(table)


# What may stand in an accepted SMILES: letters outside brackets, bracket atoms (written as a zero byte), other signs.
_LETTERS = "BCNOPSFIbcnosplr"
_LETTER = _table({"C": _LETTERS, "\0": "\0"})
_OTHER_SIGNS = "0123456789()=-#:/\\.$%*"
_SIGN = _table({"x": _LETTERS + "\0" + _OTHER_SIGNS})
_SIGN_CLASS = f"[{re.escape(_LETTERS + _OTHER_SIGNS)}]".encode()
_TEN_SIGNS = b"x" * MIN_UNITS
_BRACKET_ENDS = re.compile(rb"[^\[\]]*\](?:S{3}|S{0,2}\[)".replace(b"S", _SIGN_CLASS))
_BRACKET_BEGINS = re.compile(rb"(?:S{3}|\]S{0,2})\[[^\[\]]*\Z".replace(b"S", _SIGN_CLASS))
_CAPITAL = _table({"A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
_INNER_BRACKET = re.compile(rb"\[[^\[\]]+\]")


class Span(NamedTuple):
    """`text[start:end]` is of this kind."""

    start: int
    end: int
    kind: Kind


def detector_check(detector: Detector) -> Callable[[str], bool]:
    """The function that confirms a SMILES candidate.

    Raises:
        MissingExtraError: `detector="rdkit"` without RDKit.
        ValueError: another name.
    """
    if detector == "rules":
        return passes_rules
    if detector == "rdkit":
        chem()
        return parses_in_rdkit
    raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {detector!r}")


def find(text: str, confirm: Callable[[str], bool], kinds: frozenset[str]) -> list[Span]:
    """Spans in `text`, in order, without overlap. Only the given kinds are looked for."""
    octets = text.encode("utf-8", "surrogatepass")
    spans: list[Span] = []
    if "SMILES" in kinds and _may_hold_smiles(octets):
        spans = [Span(start, end, "SMILES") for start, end in _smiles(text, confirm)]
    if not kinds.isdisjoint(("PROT", "XNA")) and b"A" * MIN_SEQUENCE in octets.translate(_CAPITAL):
        gaps = zip([0, *(s.end for s in spans)], [*(s.start for s in spans), len(text)], strict=True)
        spans += [span for start, end in list(gaps) for span in _sequences(text, start, end) if span.kind in kinds]
        spans.sort()
    return spans


def is_doubtful(word: str) -> bool:
    """False only if `find` can find nothing that lies in or reaches into this word.

    A word is text without white space but at its ends. Only a bracket atom can reach over white space, `CCCC[C H]CCCC`
    for the rules. A candidate with one such atom has nine other units, so three on one of its sides; a candidate with
    more has a word in which one ends and another begins.
    """
    if len(word) < MIN_UNITS and "[" not in word and "]" not in word:
        return False
    octets = word.encode("utf-8", "surrogatepass")
    if _may_hold_smiles(octets) or b"A" * MIN_SEQUENCE in octets.translate(_CAPITAL):
        return True
    return _BRACKET_ENDS.match(octets) is not None or _BRACKET_BEGINS.search(octets) is not None


def _may_hold_smiles(octets: bytes) -> bool:
    """False only if no candidate in the text could be accepted. A molecule may itself stand in square brackets."""
    return _has_long_run(octets) or (b"[" in octets and _has_long_run(_INNER_BRACKET.sub(b"\0", octets)))


def _has_long_run(octets: bytes) -> bool:
    """Whether ten signs that a SMILES may hold follow each other, five of them letters or one a bracket atom."""
    if _TEN_SIGNS not in octets.translate(_SIGN):
        return False
    octets = octets.replace(b"--", b"  ")  # two bonds in a row are never accepted, and many texts draw lines
    signs = octets.translate(_SIGN)
    start = signs.find(_TEN_SIGNS)
    while start >= 0:
        end = signs.find(b" ", start)
        run = octets[start : end if end >= 0 else None].translate(_LETTER)
        if run.count(b"C") >= MIN_LETTERS or b"\0" in run:
            return True
        start = signs.find(_TEN_SIGNS, start + len(run))
    return False


def _smiles(text: str, confirm: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    for start, end in _candidates(text):
        if _is_letter(text[start - 1 : start]) or _is_letter(text[end : end + 1]):
            continue
        candidate = text[start:end]
        if sum(map(_is_letter, candidate)) >= MIN_LETTERS and confirm(candidate):
            yield start, end


def _candidates(text: str) -> Iterator[tuple[int, int]]:
    """Where `_SMILES` matches. At every `[` it looks for the next `]`, so a flood of `[` would take quadratic time."""
    work = sum(part.count("[") * len(part) for part in text.split("]"))
    if work <= _BRACKET_WORK * len(text):
        yield from (match.span() for match in _SMILES.finditer(text))
    else:
        yield from _scan(text)


def _scan(text: str) -> Iterator[tuple[int, int]]:
    """The matches of `_SMILES` in linear time: slower than the regular expression on everything but floods of `[`.

    A start fails after nine units, or if all units after the ninth may not end a molecule and so may not begin one
    either; hence few characters are passed more than ten times.
    """
    unit_ends = _unit_ends(text)
    position, size = 0, len(text)
    while position < size:
        ends: list[int] = []
        end = position if text[position] not in _NOT_AT_THE_ENDS else size
        while end < size and unit_ends[end]:
            end = unit_ends[end]
            ends.append(end)
        while len(ends) >= MIN_UNITS and text[ends[-1] - 1] in _NOT_AT_THE_ENDS:
            ends.pop()
        if len(ends) >= MIN_UNITS:
            yield position, ends[-1]
            position = ends[-1]
        else:
            position += 1


def _unit_ends(text: str) -> list[int]:
    """For every position the end of the unit that begins there, or 0."""
    unit_ends = [0] * len(text)
    close = -1
    for position in range(len(text) - 1, -1, -1):
        if text[position] == "[":
            unit_ends[position] = close + 1 if close > position + 1 else 0
        elif text[position] == "]":
            close = position
        elif (match := _SINGLE_UNIT.match(text, position)) is not None:
            unit_ends[position] = match.end()
    return unit_ends


def _sequences(text: str, start: int, end: int) -> Iterator[Span]:
    """Proteins and nucleic acids in `text[start:end]`: a run of capitals is one or the other as a whole."""
    for match in _CAPITALS.finditer(text, start, end):
        yield Span(match.start(), match.end(), "XNA" if _NUCLEOTIDES.fullmatch(match.group()) else "PROT")


def parses_in_rdkit(candidate: str) -> bool:
    """What RDKit says; candidates of more than MAX_RDKIT_LENGTH characters are refused unasked."""
    return len(candidate) <= MAX_RDKIT_LENGTH and chem().MolFromSmiles(candidate) is not None


def passes_rules(candidate: str) -> bool:
    """Whether brackets, bonds and ring closures are consistent and all atoms outside brackets may stand there.

    The checks and their limits are those of the release, its leniency included: an open `(` at the end passes, and
    charges, masses and long names are looked at in the first bracket only.
    """
    if candidate[0] in _BONDS or candidate[-1] in _BONDS:
        return False
    if any(a in _BONDS and b in _BONDS for a, b in pairwise(candidate)):
        return False
    if not _brackets_close(candidate) or not _brackets_hold_atoms(candidate):
        return False
    numbers = _ring_numbers(candidate)
    if numbers is None or any(count % 2 for count in Counter(numbers).values()):
        return False
    # A word such as "nonconspon" is no molecule: it has neither capitals nor a ring.
    return len(numbers) >= 2 or any("A" <= sign <= "Z" for sign in candidate)


def _brackets_close(candidate: str) -> bool:
    """Square brackets are closed and not nested; no `)` comes before its `(`, within square brackets or not."""
    bracket, depth = False, 0
    for sign in candidate:
        if sign in "[]":
            if bracket == (sign == "["):
                return False
            bracket = not bracket
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth < 0:
                return False
    return not bracket


def _brackets_hold_atoms(candidate: str) -> bool:
    """The first bracket is no word or list of numbers; brackets up to the first element hold no parentheses."""
    for index, content in enumerate(_BRACKET.findall(candidate)):
        if index == 0 and (_WORD.search(content) or len(_DIGITS.findall(content)) > 2):
            return False
        if "(" in content or ")" in content:
            return False
        if _ELEMENT_START.match(content):
            return True
    return True


def _ring_numbers(candidate: str) -> list[str] | None:
    """The ring-closure numbers outside brackets; None if anything stands there that may not."""
    outside = _BRACKET.sub("[", candidate)
    units = _OUTSIDE_UNIT.findall(outside)
    if sum(map(len, units)) != len(outside):
        return None
    return [unit for unit in units if unit[-1] in "0123456789"]


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()
