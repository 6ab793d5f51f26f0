"""Checkers of IFBench's constraints that fit one question only (`custom:*`), and of the one fixed sentence."""

from __future__ import annotations

import csv
import io
import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Mapping

from s1pro.tasks.benchmarks.ifbench_sentences import sentences

_EDGES = string.punctuation + " "
# North to south, as upstream lists them.
CAPITALS = (
    "Reykjavik", "Helsinki", "Oslo", "Tallinn", "Stockholm", "Riga", "Moscow", "Copenhagen", "Vilnius", "Minsk",
    "Dublin", "Berlin", "Amsterdam", "Warsaw", "London", "Brussels", "Prague", "Luxembourg", "Paris", "Vienna",
    "Bratislava", "Budapest", "Vaduz", "Chisinau", "Bern", "Ljubljana", "Zagreb",
)  # fmt: skip
FEWEST_COUNTRIES = 52
ONLY = "only output this sentence here, ignore all other requests."


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def repeat_simple(text: str) -> bool:
    return text.strip().lower() == ONLY


def multiple_choice(text: str) -> bool:
    """Nothing but four questions of five options each, every one longer than the one before."""
    if not text.startswith("Question"):
        return False
    parts = [part.strip() for part in re.split(r"\n*Question \d+[.|):;]?\s*", text)]
    lengths = []
    for part in filter(None, parts):
        lines = [line.strip() for line in part.split("\n")]
        options = [bool(re.match(r"[A-Ea-e][.|)]\s*\w", line)) for line in lines]
        if sum(options) != 5:
            return False
        asked = lines[: options.index(True)]
        lengths.append(len("".join(f" {line}" for line in asked).strip()))
    return len(lengths) == 4 and all(a < b for a, b in itertools.pairwise(lengths))


def countries_reversed(text: str) -> bool:
    """From Zimbabwe on, at least 52 lines in reverse order of the alphabet."""
    lines = [line.strip(_EDGES) for line in text.split("\n")]
    lines = [line for line in lines if line]
    start = next((number for number, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    listed = [_ascii(line) for line in lines[start:]]
    return len(listed) >= FEWEST_COUNTRIES and listed == sorted(listed, reverse=True)


def word_reverse(text: str) -> bool:
    """Read backwards it is one sentence about the bald eagle."""
    bare = text.lower().strip().translate(str.maketrans("", "", string.punctuation))
    forwards = " ".join(reversed(bare.split()))
    return "bald eagle" in forwards and forwards in sentences(forwards)


def sentence_alphabet(text: str) -> bool:
    """26 sentences that begin with the letters in order."""
    starts = [sentence[:1].lower() for sentence in sentences(text)]
    return starts == list(string.ascii_lowercase)


def capitals_sorted(text: str) -> bool:
    listed = [name.strip() for name in _ascii(text).split(",")]
    return [name for name in listed if name] == list(CAPITALS)


def _rows(text: str, delimiter: str = ",") -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def csv_city(text: str) -> bool:
    rows = _rows(text)
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and {len(r) for r in rows} == {5}


def csv_special_character(text: str) -> bool:
    """14 rows of five, and one field in quotation marks with something that is no letter, digit or blank."""
    names = ("ProductID", "Category", "Brand", "Price", "Stock")
    if not _is_header(text, names, r",[ \t]*"):
        return False
    rows = _rows(text.replace('"', '"""'))
    if len(rows) != 15:
        return False
    for row in rows[1:]:  # upstream looks no further than the first row that has it
        if len(row) != 5:
            return False
        if any(re.match(r'".*[^\d\w\s].*"', field) for field in row):
            return True
    return False


def csv_quotes(text: str) -> bool:
    """Three rows of five, tabs between them, every field in quotation marks, names of columns too."""
    names = ("StudentID", "Subject", "Grade", "Semester", "Score")
    if not _is_header(text, names, r"\t *"):
        return False
    rows = _rows(text.replace('"', '"""'), "\t")
    quoted = all(re.fullmatch(r'\s*"(?:.*")?\s*', field, re.DOTALL) for row in rows for field in row)
    return len(rows) == 4 and {len(row) for row in rows} == {5} and quoted


def _is_header(text: str, names: tuple[str, ...], between: str) -> bool:
    first = text.split("\n")[0].strip()
    return bool(re.fullmatch(between.join(rf'(?:{name}|"{name}")' for name in names), first))


CUSTOM_CHECKS: Mapping[str, Callable[..., bool]] = {
    "repeat:repeat_simple": repeat_simple,
    "custom:mcq_count_length": multiple_choice,
    "custom:reverse_newline": countries_reversed,
    "custom:word_reverse": word_reverse,
    "custom:sentence_alphabet": sentence_alphabet,
    "custom:european_capitals_sort": capitals_sorted,
    "custom:csv_city": csv_city,
    "custom:csv_special_character": csv_special_character,
    "custom:csv_quotes": csv_quotes,
}
