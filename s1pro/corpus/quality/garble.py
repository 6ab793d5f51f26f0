"""Fourteen ways in which text from papers and models goes wrong, applied to good text.

The quality model learns from good passages and from the same kind of passages damaged in one of these ways. A family is
a function `(text, rng, others) -> text`; `others` are more good passages, for the families that mix. Every result is a
function of text and seed. How bad the damage is varies: from a few per cent of the letters to all of them.

    surface      ocr_noise mojibake lost_glyphs lost_spaces spaced_letters broken_words
    order        shuffled interleaved word_soup reversed
    content      loop other_languages table_debris refusal
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Garbler = Callable[[str, np.random.Generator, Sequence[str]], str]

_CONFUSIONS = {
    "l": "1I|", "o": "0c", "e": "c", "a": "o", "i": "l1", "s": "5", "n": "ri", "m": "rn", "h": "b", "t": "f", "u": "ii",
    "d": "cl", "g": "q9", "b": "6", "c": "e", "r": "t", "f": "t", "y": "v", "w": "vv",
}  # fmt: skip
_FOREIGN = [
    "und", "der", "die", "nicht", "werden", "Messung", "Verfahren", "wurde", "zwischen", "Ergebnis", "durch",
    "Spannung", "Temperatur", "auch", "eine", "haben", "les", "des", "une", "dans", "pour", "avec", "sont", "cette",
    "mesure", "résultats", "entre", "plus", "température", "énergie", "être", "ainsi", "lorsque", "los", "las", "una",
    "para", "con", "por", "entre", "resultados", "temperatura", "energía", "como", "más", "cuando", "según", "este",
    "también", "della", "sono", "nella", "con", "risultati", "tra", "misura", "questo", "molto", "anche",
    "temperatura", "quando", "een", "van", "het", "niet", "zijn", "voor", "quae", "autem", "esse", "enim", "tamen",
    "inter", "omnia",
]  # fmt: skip
_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I am unable to view images.",
    "I cannot see the image you are referring to.",
    "Sure! Here is the caption you asked for:",
    "I'm unable to provide a description of this figure.",
    "Describe the figure in detail. Do not mention the authors.",
    "Here's a detailed description of the image as requested:",
    "As a large language model, I don't have access to the picture.",
    "Please provide the image so that I can describe it.",
    "Unfortunately, I am not able to process this request.",
)


def garble(text: str, family: str, seed: int, others: Sequence[str]) -> str:
    """The text damaged in the way of a family.

    Raises:
        ValueError: no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is not a family of damage; there are {', '.join(FAMILIES)}")
    return FAMILIES[family](text, np.random.default_rng([list(FAMILIES).index(family), seed]), others)


def _ocr_noise(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    rate = rng.uniform(0.04, 0.15)
    found = []
    for character, chance in zip(text, rng.random(len(text)), strict=True):
        options = _CONFUSIONS.get(character)
        found.append(str(rng.choice(list(options))) if options and chance < rate else character)
    return "".join(found)


def _mojibake(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """UTF-8 read as Windows-1252: typographic quotes, dashes, spaces and accents become two or three letters."""
    fancy = text.replace("'", "’").replace("-", "–").replace('"', "”")
    rate = rng.uniform(0.03, 0.15)
    pairs = {"a": "á", "e": "é", "o": "ö", "u": "ü", "i": "ï", "n": "ñ", "c": "ç", " ": "\u202f", ",": "‚", ".": "…"}
    chances = rng.random(len(fancy))
    fancy = "".join(pairs.get(c, c) if p < rate else c for c, p in zip(fancy, chances, strict=True))
    return fancy.encode("utf-8", "replace").decode("cp1252", "replace")


def _lost_glyphs(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """What an extractor writes for a font without a map to Unicode."""
    rate, style = rng.uniform(0.02, 0.25), rng.integers(0, 3)
    found = []
    for character, chance in zip(text, rng.random(len(text)), strict=True):
        if character.isspace() or chance >= rate:
            found.append(character)
        elif style == 0:
            found.append(f"(cid:{rng.integers(1, 300)})")
        else:
            found.append(chr(rng.integers(0xE000, 0xE100)) if style == 1 else "\ufffd")
    return "".join(found)


def _lost_spaces(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    rate = rng.uniform(0.2, 0.8)
    return "".join(c for c, p in zip(text, rng.random(len(text)), strict=True) if c != " " or p > rate)


def _spaced_letters(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    rate = rng.uniform(0.2, 0.7)
    return " ".join(" ".join(word) if rng.random() < rate else word for word in text.split())


def _broken_words(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Hyphens of line ends left in, or words cut without one."""
    rate, hyphen = rng.uniform(0.2, 0.6), "- " if rng.random() < 0.5 else " "
    found = []
    for word in text.split():
        if len(word) > 5 and rng.random() < rate:
            at = int(rng.integers(2, len(word) - 2))
            word = word[:at] + hyphen + word[at:]
        found.append(word)
    return " ".join(found)


def _shuffled(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """The words of every sentence in any order, or of the whole text."""
    parts = re.split(r"(?<=[.!?])\s+", text) if rng.random() < 0.6 else [text]
    return " ".join(" ".join(rng.permutation(part.split())) for part in parts if part.split())


def _interleaved(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Lines of two columns read across."""
    width = int(rng.integers(5, 12))
    other = str(others[int(rng.integers(0, len(others)))])
    lines = [_lines(each, width, rng) for each in (text, other)]
    mixed = [line for pair in zip(*lines, strict=False) for line in pair]
    words = " ".join(mixed).split()
    return " ".join(words[: max(30, len(text.split()))])


def _lines(text: str, width: int, rng: np.random.Generator) -> list[str]:
    words, lines = text.split(), []
    while words:
        size = max(3, width + int(rng.integers(-1, 2)))
        lines.append(" ".join(words[:size]))
        words = words[size:]
    return lines


def _word_soup(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """As many words as before, drawn from many passages."""
    pool = " ".join(str(others[int(i)]) for i in rng.integers(0, len(others), 20)).split()
    return " ".join(str(word) for word in rng.choice(pool, max(1, len(text.split()))))


def _reversed(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Right to left: the letters of words, the words, or both."""
    style, words = rng.integers(0, 3), text.split()
    if style == 0:
        return " ".join(word[::-1] for word in words)
    return text[::-1] if style == 1 else " ".join(words[::-1])


def _loop(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """A model that cannot stop: a phrase again and again, sometimes with a number that changes."""
    words = text.split()
    keep, size = max(8, int(len(words) * rng.uniform(0.15, 0.7))), int(rng.integers(2, 16))
    phrase, counts = words[keep - size : keep], rng.random() < 0.3
    found = words[:keep]
    for turn in range(int(rng.integers(4, 20))):
        found += [*phrase[:-1], str(turn)] if counts else phrase
    return " ".join(found)


def _other_languages(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    rate = rng.uniform(0.2, 0.6)
    return " ".join(str(rng.choice(_FOREIGN)) if rng.random() < rate else word for word in text.split())


def _table_debris(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """Cells, rules and markup of a table between the words."""
    rate = rng.uniform(0.25, 0.7)
    debris = (
        "|", "&", "\\\\", "\\hline", "<td>", "</tr>", "---", "0.00", "\\multicolumn{2}{c}", "n/a", "±", "*", "{", "$",
    )  # fmt: skip
    found = []
    for word in text.split():
        while rng.random() < rate:
            found.append(
                f"{rng.normal(0, 50):.{rng.integers(0, 4)}f}" if rng.random() < 0.5 else str(rng.choice(debris))
            )
        found.append(word)
    return " ".join(found)


def _refusal(text: str, rng: np.random.Generator, others: Sequence[str]) -> str:
    """A refusal, or the request itself, before or instead of the text."""
    said = str(rng.choice(_REFUSALS))
    words = text.split()
    rest = " ".join(words[: int(len(words) * rng.uniform(0.0, 1.0))])
    return f"{said} {rest}" if rng.random() < 0.7 else f"{rest} {said}"


FAMILIES: Mapping[str, Garbler] = {
    "ocr_noise": _ocr_noise,
    "mojibake": _mojibake,
    "lost_glyphs": _lost_glyphs,
    "lost_spaces": _lost_spaces,
    "spaced_letters": _spaced_letters,
    "broken_words": _broken_words,
    "shuffled": _shuffled,
    "interleaved": _interleaved,
    "word_soup": _word_soup,
    "reversed": _reversed,
    "loop": _loop,
    "other_languages": _other_languages,
    "table_debris": _table_debris,
    "refusal": _refusal,
}
