"""Choosing between ways to say one thing, and the small words: counts, lists, quotes, readings.

A choice is a function of a seed and of how often was chosen before, so the same facts and seed give the same text.
Counts are written as words: a digit in a description is always one that is printed on the page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from s1pro.corpus.describe.facts import Reading

_SMALL = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


class Choice:
    """Deterministic choices: `choice(a, b, c)`."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.made = 0

    def __call__(self, *options: str) -> str:
        self.made += 1
        digest = hashlib.blake2b(f"{self.seed}|{self.made}".encode(), digest_size=8).digest()
        return options[int.from_bytes(digest, "big") % len(options)]


def count(number: int) -> str:
    """A number in words."""
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")
    return "more than a hundred"


def counted(number: int, noun: str, plural: str = "") -> str:
    """ "three panels", "one panel"."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def quote(text: str) -> str:
    return f"“{text}”"


def listed(items: Sequence[str], last: str = "and") -> str:
    """ "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def near(reading: Reading) -> str:
    """ "near 40" or "between 40 and 60"."""
    if len(reading) == 2:
        return f"between {reading[0]} and {reading[1]}"
    return f"near {reading[0]}"


def at(reading: Reading) -> str:
    """For places along a horizontal axis: "at 40", "between 40 and 60", for categories "at “A”"."""
    if len(reading) == 2:
        return f"between {reading[0]} and {reading[1]}"
    return f"at {reading[0] if reading[0][:1].isdigit() or reading[0][:1] in '−-+.' else quote(reading[0])}"


def sentence(text: str) -> str:
    """Upper case at the beginning, a full stop at the end."""
    text = text.strip()
    for i, character in enumerate(text):
        if character.isalpha():
            text = text[:i] + character.upper() + text[i + 1 :] if i <= 1 and text[0] != "“" else text
            break
    return text if text.endswith((".", "!", "?", ":")) else text + "."
