"""The grammar of a schema: sentences about its records, in many wordings, and the parser that gets every value back.

    lead      what it is about, perhaps with one property      The alloy X-7 has a yield strength of 312 MPa.
    condition under which everything holds                     All values are for a temperature of 300 K.
    property  one sentence each, in random order               Its yield stress comes to 0.312 GPa.
    own       the schema's own sentences

Wordings, synonyms (`words`), optional clauses, order, choice of columns and units vary with the random generator. A
text is parsed with the whole grammar before it is given out; if it does not give back exactly what was put in, other
wordings are tried, and a text that no wording saves is an error, never a silent loss.

Values in another unit come back converted, equal within half of their last digit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from s1pro.science.facts.quantities import Quantity, convert
from s1pro.science.facts.schema import Column, Record, Schema
from s1pro.science.templates import Bank, SlotKind, parse_document

OTHER_UNIT_SHARE = 0.25
_TRIES = 12


@dataclass(frozen=True, kw_only=True)
class Described:
    """A text and the values that it shows, by column name."""

    text: str
    shown: Mapping[str, Any]


class Grammar:
    """Sentences of one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.kinds: dict[str, SlotKind] = {column.slot: column.kind for column in schema.columns}
        self.told = [c for c in schema.columns if c.role in ("property", "structure", "group")]
        self.conditions = schema.with_role("condition")
        e, noun = schema.entity.slot, schema.noun
        self.lead = Bank(
            self.kinds,
            f"{{{e}}} is {article(noun)}.",
            f"(This is|Here is|Consider|Take|We look at) the {noun} {{{e}}}.",
            f"(The|One) {noun} is (called|named) {{{e}}}.",
            f"{capital(noun)}: {{{e}}}.",
        )
        self.leads = {column.name: Bank(self.kinds, *self._lead_sources(column)) for column in self.told}
        self.sentences = {column.name: Bank(self.kinds, *self._sources(column)) for column in self.told}
        self.own = [Bank(self.kinds, source) for source in schema.sentences]

    @cached_property
    def condition_bank(self) -> Bank:
        """One sentence for all conditions."""
        told = " and ".join(f"a {words(c)} of {{{c.slot}}}" for c in self.conditions)
        return Bank(self.kinds, f"(All|These) values (are for|hold at|were found at) {told}.", f"Conditions: {told}.")

    def at(self) -> str:
        """Optional clauses with the conditions, for the end of a sentence."""
        return "".join(f"[ at {a_words(column)} of {{{column.slot}}}]" for column in self.conditions)

    def describe(self, record: Record, random_generator: random.Random, *, max_sentences: int = 8) -> Described:
        """A text about a record.

        Raises:
            ValueError: no wording of it can be read back.
        """
        text = ""
        for _ in range(_TRIES):
            try:
                text, shown = self._attempt(record, random_generator, max_sentences)
            except ValueError as error:
                if "not invertible" not in str(error):
                    raise
                continue
            found = self.parse(text)
            if found is not None and agrees(found, shown):
                return Described(text=text, shown=shown)
        raise ValueError(f"no wording about {record.entity!r} can be read back, the last was {text!r}")

    def parse(self, text: str) -> dict[str, Any] | None:
        """The values in a text, by column name; None for other texts and for texts that contradict themselves."""
        found = parse_document(text, self._all_banks)
        return None if found is None else self.by_column(found)

    def by_column(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Values by column name instead of slot."""
        names = {column.slot: column.name for column in self.schema.columns}
        return {names[slot]: value for slot, value in found.items() if slot in names}

    def values(self, record: Record, random_generator: random.Random) -> dict[str, Any]:
        """Slot values of a record; some quantities in another of their units."""
        return {
            column.slot: in_some_unit(column, record.values.get(column.name), random_generator)
            for column in self.schema.columns
        }

    @cached_property
    def _all_banks(self) -> Sequence[Bank]:
        banks = [self.lead, *self.leads.values(), *self.own, *self.sentences.values()]
        return [*banks, self.condition_bank] if self.conditions else banks

    def _attempt(
        self, record: Record, random_generator: random.Random, max_sentences: int
    ) -> tuple[str, dict[str, Any]]:
        values = self.values(record, random_generator)
        told = [c for c in self.told if values[c.slot] is not None]
        told = random_generator.sample(told, min(len(told), max_sentences))
        apart = bool(self.conditions) and random_generator.random() < 0.5
        apart = apart and all(values[c.slot] is not None for c in self.conditions)
        rest = {k: v for k, v in values.items() if not apart or k not in {c.slot for c in self.conditions}}
        first = told[0] if told and random_generator.random() < 0.5 else None
        sentences = [(self.leads[first.name] if first else self.lead, rest)]
        body = [(self.sentences[c.name], rest) for c in told if c is not first]
        if apart:
            body.append((self.condition_bank, values))
        slots = {c.slot: values[c.slot] for c in told}
        for bank in self.own:
            if all(slots.get(s) is not None for s in bank.training[0].slots) and random_generator.random() < 0.5:
                body.append((bank, values))
        random_generator.shuffle(body)
        text = " ".join(bank.render(v, random_generator) for bank, v in [*sentences, *body])
        shown = [self.schema.entity, *told, *(self.conditions if told or apart else ())]
        if told and not apart and all(c.type not in _WITH_CONDITIONS for c in told):
            shown = [self.schema.entity, *told]
        return text, {c.name: values[c.slot] for c in shown if values[c.slot] is not None}

    def _lead_sources(self, column: Column) -> Iterable[str]:
        e, noun, slot = self.schema.entity.slot, self.schema.noun, column.slot
        if column.type in _WITH_CONDITIONS:
            yield f"The {noun} {{{e}}} (has|shows|possesses) {a_words(column)} of {{{slot}}}{self.at()}."
            is_ = f"the {words(column)} (is|amounts to) {{{slot}}}{self.at()}"
            yield f"(For|In the case of) {{{e}}}, {article(noun)}, {is_}."
        elif column.type == "count":
            yield f"The {noun} {{{e}}} (has|shows|comes with) {{{slot}}}."
        elif column.type == "flag":
            yield f"Is the {noun} {{{e}}} {words(column)}? {{{slot}}}."
            yield f"(Asked|The question is) whether the {noun} {{{e}}} is {words(column)}: {{{slot}}}."
        else:
            verb = "(belongs to|is of)" if column.role == "group" else "(has|comes with)"
            yield f"The {noun} {{{e}}} {verb} the {words(column)} {{{slot}}}."
            yield f"{{{e}}} is {article(noun)} (with|of) the {words(column)} {{{slot}}}."

    def _sources(self, column: Column) -> Iterable[str]:
        slot, named = column.slot, words(column)
        if column.type in _WITH_CONDITIONS:
            yield f"(Its|The) {named} (is|equals|amounts to|comes to) {{{slot}}}{self.at()}."
            yield f"(It has|It shows|One finds|Reported is) {a_words(column)} of {{{slot}}}{self.at()}."
            yield f"{capital(named)}: {{{slot}}}{self.at()}."
            yield f"{{{slot}}} is (its|the) {named}{self.at()}."
        elif column.type == "count":
            yield f"(It has|One counts|It contains|There are in all) {{{slot}}}."
            yield f"(Counted|Number|In all): {{{slot}}}."
        elif column.type == "flag":
            yield f"{capital(named)}: {{{slot}}}."
            yield f"(Is it|Would one call it) {named}? {{{slot}}}."
        else:
            yield f"(Its|The) {named} is {{{slot}}}."
            yield f"{capital(named)}: {{{slot}}}."
            yield f"(As for the|Concerning the|About the) {named}, (it is|we read|one finds) {{{slot}}}."


_WITH_CONDITIONS = ("number",)


def words(column: Column) -> str:
    """All words for a column as a choice."""
    return _choice([escaped(word) for word in column.called])


def a_words(column: Column) -> str:
    """The same with articles: `(a band gap|an energy gap)`."""
    return _choice([article(escaped(word)) for word in column.called])


def article(noun: str) -> str:
    """`a unit`, `an alloy`, by the sound of the first letters."""
    vowel = noun[:1].lower() in "aeiou" and not noun.lower().startswith(("uni", "use", "eu", "one"))
    return f"{'an' if vowel else 'a'} {noun}"


def capital(source: str) -> str:
    """The first letter large, in every option of a choice."""
    if source.startswith("("):
        return "(" + "|".join(option[:1].upper() + option[1:] for option in source[1:-1].split("|")) + ")"
    return source[:1].upper() + source[1:]


def escaped(text: str) -> str:
    """Plain words as template source."""
    return "".join(f"\\{c}" if c in "()[]{}|\\" else c for c in text)


def _choice(options: Sequence[str]) -> str:
    ordered = sorted(options, key=len, reverse=True)  # "space group symbol" is tried before "space group"
    return ordered[0] if len(ordered) == 1 else f"({'|'.join(ordered)})"


def in_some_unit(column: Column, value: Any, random_generator: random.Random) -> Any:
    """A quantity in its own unit, or now and then in another one that the schema allows."""
    if column.type != "number" or value is None or not column.also or random_generator.random() >= OTHER_UNIT_SHARE:
        return value
    return value.to(random_generator.choice(column.also))


def agrees(found: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Whether a parse has exactly the shown values."""
    return found.keys() == shown.keys() and all(found[name] == value for name, value in shown.items())


def same_value(found: Any, true: Any) -> bool:
    """Whether a value that was read is the true one, in whatever unit it was written: within half of its last digit.

    The last digit of a whole number is the last one that is not zero: 1010 may have three significant digits.
    """
    if not isinstance(true, Quantity):
        return bool(found == true)
    if found.unit == true.unit:
        return bool(found.number == true.number)
    last = found.number.normalize().as_tuple().exponent if found.number else 0
    exponent = found.number.as_tuple().exponent
    assert isinstance(exponent, int) and isinstance(last, int)
    half = Decimal(1).scaleb(exponent if exponent < 0 else max(exponent, last)) / 2
    low, back, high = (convert(float(found.number + k * half), found.unit, true.unit) for k in (-1, 0, 1))
    slack = abs(high - low) / 2 * 1.000001 + 1e-12 * abs(back)
    return abs(back - float(true.number)) <= slack
