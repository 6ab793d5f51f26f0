r"""Invertible templates: a typed record becomes a sentence, and a parser gets every slot back.

    "[The compound ]{name} (has|shows) the formula {formula}[ and a molar mass of {mass}]."

    {slot}     a value of the record, written and read by the slot's kind (text, SMILES, formula, count, mass, ...)
    (a|b)      one of several wordings, chosen by the random generator
    [clause]   optional: left out when a value in it is missing, or by chance when nothing is lost (no slot in it)
    \          takes the next character as it is

A template is one grammar read in two directions: `render` walks the tree, `parse` matches the regular expression made
from the same tree. `render` parses its own output and refuses what does not come back exactly, so the round trip holds
for everything that is ever written. Numbers are decimal text of fixed precision: no float noise. A unit belongs to its
slot's kind: no number goes without it. A missing value outside an optional clause is an error: no empty-slot sentences.

Left out: agreement of number and person; word the template so that it is not needed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MAX_TEXT_LENGTH = 4000


@dataclass(frozen=True, kw_only=True)
class SlotKind:
    """How a type of value is written and read. `read(write(value)) == write's view of the value`, exactly.

    Attributes:
        pattern: regular expression without groups that matches every written value.
        write: value to text; raises `ValueError` for values that it cannot write.
        read: text to value.
    """

    pattern: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Slot:
    name: str


@dataclass(frozen=True)
class _Choice:
    options: tuple[_Node, ...]


@dataclass(frozen=True)
class _Optional:
    body: _Node


@dataclass(frozen=True)
class _Sequence:
    parts: tuple[_Node, ...]


_Node = _Text | _Slot | _Choice | _Optional | _Sequence


class Template:
    """One template over the slot kinds `kinds` (slot name to kind); syntax in the module docstring.

    Raises:
        ValueError: unbalanced brackets, or a slot that has no kind or occurs twice in one wording.
    """

    def __init__(self, source: str, kinds: Mapping[str, SlotKind]) -> None:
        self.source = source
        self._kinds = kinds
        self._tree, end = _parse_sequence(source, 0, "")
        assert end == len(source), source
        self.slots = tuple(dict.fromkeys(_slots(self._tree)))
        unknown = [slot for slot in self.slots if slot not in kinds]
        if unknown:
            raise ValueError(f"template {source!r}: no kind for the slots {', '.join(unknown)}")

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def render(self, record: Mapping[str, Any], random_generator: random.Random) -> str:
        """The sentence. Values that are None or absent count as missing.

        Raises:
            ValueError: a value outside optional clauses is missing, or the sentence would not be read back exactly.
        """
        text = self._write(self._tree, record, random_generator)
        found = self.parse(text)
        lost = [s for s, value in (found or {}).items() if value != self._seen(s, record)]
        if found is None or lost:
            raise ValueError(
                f"template {self.source!r} is not invertible for {dict(record)!r}: {text!r} gives {found!r}"
            )
        return text

    def parse(self, text: str) -> dict[str, Any] | None:
        """The values of all slots that the sentence has; None if it is no sentence of this template."""
        if len(text) > MAX_TEXT_LENGTH:
            return None
        match = self.regex.fullmatch(text)
        return None if match is None else self.values(match)

    def values(self, match: re.Match[str]) -> dict[str, Any]:
        """Typed values of a match of `regex`."""
        found: dict[str, Any] = {}
        for group, text in match.groupdict().items():
            if text is not None:
                slot = group.rpartition("_")[0]
                found[slot] = self._kinds[slot].read(text)
        return found

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches all sentences of the template."""
        return re.compile(self._pattern(self._tree, [0]))

    def _seen(self, slot: str, record: Mapping[str, Any]) -> Any:
        """The value as the text shows it: 46.069 as 46.07 where a kind writes two digits."""
        kind = self._kinds[slot]
        return kind.read(kind.write(record[slot]))

    def _write(self, node: _Node, record: Mapping[str, Any], random_generator: random.Random) -> str:
        match node:
            case _Text(text):
                return text
            case _Slot(name):
                if record.get(name) is None:
                    raise ValueError(f"template {self.source!r}: the record has no {name!r}: {dict(record)!r}")
                return self._kinds[name].write(record[name])
            case _Choice(options):
                return self._write(random_generator.choice(options), record, random_generator)
            case _Optional(body):
                slots = _slots(body)
                wanted = (
                    all(record.get(slot) is not None for slot in slots) if slots else random_generator.random() < 0.5
                )
                return self._write(body, record, random_generator) if wanted else ""
            case _Sequence(parts):
                return "".join(self._write(part, record, random_generator) for part in parts)

    def _pattern(self, node: _Node, counter: list[int]) -> str:
        match node:
            case _Text(text):
                return re.escape(text)
            case _Slot(name):
                counter[0] += 1  # one slot may stand in several wordings, a group name only once
                return f"(?P<{name}_{counter[0]}>{self._kinds[name].pattern})"
            case _Choice(options):
                return "(?:" + "|".join(self._pattern(option, counter) for option in options) + ")"
            case _Optional(body):
                return f"(?:{self._pattern(body, counter)})?"
            case _Sequence(parts):
                return "".join(self._pattern(part, counter) for part in parts)


class Bank:
    """Several templates for one thing to say. The held-out ones are never used for training data."""

    def __init__(self, kinds: Mapping[str, SlotKind], *sources: str, held_out: Sequence[str] = ()) -> None:
        if not sources:
            raise ValueError("a bank needs at least one template")
        self.training = tuple(Template(source, kinds) for source in sources)
        self.held_out = tuple(Template(source, kinds) for source in held_out)

    def render(self, record: Mapping[str, Any], random_generator: random.Random, *, held_out: bool = False) -> str:
        """A sentence of a random template. Raises `ValueError` as `Template.render` does."""
        return random_generator.choice(self.held_out if held_out else self.training).render(record, random_generator)

    def parse(self, text: str) -> dict[str, Any] | None:
        """The values of the first template, held-out ones included, that has this sentence."""
        for template in (*self.training, *self.held_out):
            found = template.parse(text)
            if found is not None:
                return found
        return None


def parse_document(text: str, banks: Sequence[Bank]) -> dict[str, Any] | None:
    """Values of a text made of sentences of several banks, each at most once, with one space or line break between.

    None if the text cannot be divided into such sentences, or if two sentences contradict each other.
    """
    if len(text) > MAX_TEXT_LENGTH:
        return None
    return _parse_rest(text, 0, tuple(banks), {})


def _parse_rest(text: str, start: int, banks: tuple[Bank, ...], found: dict[str, Any]) -> dict[str, Any] | None:
    for i, bank in enumerate(banks):
        for template in bank.training + bank.held_out:
            for end in _ends(template, text, start):
                match = template.regex.fullmatch(text, start, end)
                assert match is not None
                values = template.values(match)
                if any(found.get(slot, value) != value for slot, value in values.items()):
                    continue
                merged = {**found, **values}
                if end == len(text):
                    return merged
                rest = _parse_rest(text, end + 1, banks[:i] + banks[i + 1 :], merged)
                if rest is not None:
                    return rest
    return None


def _ends(template: Template, text: str, start: int) -> list[int]:
    """Where a sentence of the template that begins at `start` can end: before white space or at the end of the text."""
    if template.regex.match(text, start) is None:
        return []
    borders = [border.start() for border in re.finditer(r"(?<=[.!?])[ \n]", text[start:])]
    ends = [start + border for border in borders] + [len(text)]
    return [end for end in ends if template.regex.fullmatch(text, start, end) is not None]


def _slots(node: _Node) -> list[str]:
    match node:
        case _Slot(name):
            return [name]
        case _Choice(parts) | _Sequence(parts):
            return [slot for part in parts for slot in _slots(part)]
        case _Optional(body):
            return _slots(body)
        case _:
            return []


def _parse_sequence(source: str, position: int, closing: str) -> tuple[_Node, int]:
    """Reads up to one of the characters in `closing` or the end; gives the node and where it stopped."""
    parts: list[_Node] = []
    text: list[str] = []

    def flush() -> None:
        if text:
            parts.append(_Text("".join(text)))
            text.clear()

    while position < len(source) and source[position] not in closing:
        character = source[position]
        if character in "([{":
            flush()
            part, position = _OPENERS[character](source, position + 1)
            parts.append(part)
            continue
        if character in ")]}|":
            raise ValueError(f"template {source!r}: {character!r} at {position} closes nothing; write \\{character}")
        if character == "\\":
            position += 1
        text.append(source[position : position + 1])
        position += 1
    flush()
    return (parts[0] if len(parts) == 1 else _Sequence(tuple(parts))), position


def _parse_slot(source: str, position: int) -> tuple[_Node, int]:
    end = source.find("}", position)
    name = source[position:end]
    if end < 0 or not re.fullmatch(r"[a-z]+", name):
        raise ValueError(f"template {source!r}: a slot is a word of small letters in braces, at {position}")
    return _Slot(name), end + 1


def _parse_choice(source: str, position: int) -> tuple[_Node, int]:
    options: list[_Node] = []
    while True:
        option, position = _parse_sequence(source, position, "|)")
        options.append(option)
        if position >= len(source):
            raise ValueError(f"template {source!r}: a ( is not closed")
        position += 1
        if source[position - 1] == ")":
            return _Choice(tuple(options)), position


def _parse_optional(source: str, position: int) -> tuple[_Node, int]:
    body, position = _parse_sequence(source, position, "]")
    if position >= len(source):
        raise ValueError(f"template {source!r}: a [ is not closed")
    return _Optional(body), position + 1


_OPENERS: Mapping[str, Callable[[str, int], tuple[_Node, int]]] = {
    "(": _parse_choice,
    "[": _parse_optional,
    "{": _parse_slot,
}
