"""What the columns of a table mean: types, units, significant digits, roles, words. Records are checked against it.

A schema is written by hand for a table of one's own (JSON), or comes with a domain (`science.crystals`,
`science.sequences`, `science.series`, `science.molecule_facts`):

    {"name": "alloys", "domain": "materials", "noun": "alloy", "description": "Castings measured in 2021.",
     "columns": {
        "alloy":     {"role": "entity", "type": "text"},
        "family":    {"role": "group", "type": "category", "words": ["family"]},
        "yield":     {"type": "number", "unit": "MPa", "digits": 3, "words": ["yield strength", "yield stress"],
                      "also": ["GPa"]},
        "temp":      {"role": "condition", "type": "number", "unit": "K", "digits": 3, "words": ["temperature"]},
        "phases":    {"type": "count", "noun": "phase", "words": ["number of phases"]},
        "magnetic":  {"type": "flag", "words": ["magnetic"]}}}

| role | meaning |
|---|---|
| entity | what the record is about; exactly one column |
| group | decides the split: all entities of a group are in one; without it every entity is its own group |
| structure | a notation that stands for the entity: SMILES, sequence, formula; regression and design use it |
| condition | under which the properties were found |
| property | what is told and asked (the default) |

| type | value | written |
|---|---|---|
| number | float | `Quantity` with `digits` significant digits, or `decimals` decimals, in `unit` or one of `also` |
| count | int | `3 phases` |
| text, category | str | as it is; printable, no angle brackets |
| flag | bool | yes, no |
| smiles, protein, dna, rna, formula | str | in the tags of the tokenizer's vocabularies; formulas plain |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from s1pro.base.errors import InputError
from s1pro.science import slots
from s1pro.science.facts.quantities import Quantity, check_unit, quantity, quantity_kind, same_dimension
from s1pro.science.system_prompts import group_of_domain
from s1pro.science.templates import SlotKind

Role = Literal["entity", "group", "structure", "condition", "property"]
Type = Literal["number", "count", "text", "category", "flag", "smiles", "protein", "dna", "rna", "formula"]
_SEQUENCE = {"protein": r"[A-Z*]+", "dna": r"[A-Z]+", "rna": r"[A-Z]+"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; see the module docstring. `low` and `high` are the values that are possible at all."""

    name: str
    type: Type = "number"
    role: Role = "property"
    unit: str = ""
    also: tuple[str, ...] = ()
    digits: int = 3
    decimals: int | None = None
    words: tuple[str, ...] = ()
    noun: str = ""
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.type == "number":
            for unit in (self.unit, *self.also):
                check_unit(unit)
            wrong = [unit for unit in self.also if not same_dimension(self.unit, unit)]
            if wrong:
                raise InputError(f"column {self.name!r}: also: {wrong[0]!r} is of another dimension than {self.unit!r}")
            if not 1 <= self.digits <= 15:
                raise InputError(f"column {self.name!r}: digits: expected 1 to 15, got {self.digits}")
        elif self.unit or self.also or self.decimals is not None:
            raise InputError(f"column {self.name!r}: unit, also and decimals belong to numbers, not to {self.type}")
        if self.type == "count" and not re.fullmatch(r"[A-Za-z][A-Za-z -]*", self.noun):
            raise InputError(
                f"column {self.name!r}: noun: a count needs the singular of what is counted, got {self.noun!r}"
            )
        for word in self.words:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9 '/+.,-]*", word):
                raise InputError(f"column {self.name!r}: words: expected plain words, got {word!r}")

    @cached_property
    def slot(self) -> str:
        """The name of the column in templates: small letters only."""
        digits = dict(zip("0123456789", "abcdefghij", strict=True))
        return "c" + "".join(digits.get(c, c) for c in self.name.lower() if c.isascii() and c.isalnum())

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Words for it; the column's own name, or the number of what is counted, if none are given."""
        if self.type == "count" and not self.words:
            return (f"number of {self.noun}s",)
        return self.words or (re.sub(r"[^A-Za-z0-9]+", " ", self.name).strip() or "value",)

    @cached_property
    def kind(self) -> SlotKind:
        """How its values are written and read."""
        if self.type == "number":
            return quantity_kind((self.unit, *self.also))
        if self.type == "count":
            return slots.counted(self.noun)
        if self.type in _SEQUENCE:
            return _tagged(self.type, _SEQUENCE[self.type])
        return {"flag": _FLAG, "smiles": slots.SMILES, "formula": FORMULA}.get(self.type, NAME)

    def value(self, raw: Any) -> Any:
        """The typed value of a cell; None if it is empty.

        Raises:
            ValueError: the cell does not fit the type, or lies outside `low` to `high`.
        """
        if raw is None or (
            isinstance(raw, str) and raw.strip().lower() in ("", "na", "n/a", "nan", "null", "none", "-")
        ):
            return None
        if self.type == "number":
            return self._number(raw)
        if self.type == "count":
            number = float(raw)
            if not number.is_integer() or not max(self.low, 0) <= number <= self.high:
                raise ValueError(f"expected a count, got {raw!r}")
            return int(number)
        if self.type == "flag":
            return _flag(raw)
        text = str(raw).strip()
        self.kind.write(text)
        return text

    def _number(self, raw: Any) -> Quantity | None:
        number = float(raw)
        if math.isnan(number):
            return None
        if not math.isfinite(number) or not self.low <= number <= self.high:
            raise ValueError(f"expected a number from {self.low:g} to {self.high:g}, got {raw!r}")
        return quantity(number, self.unit, self.digits, decimals=self.decimals)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Typed values of one row. `group` decides the split."""

    entity: str
    group: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Columns and words of a table. `sentences` are further templates in the syntax of `science.templates`."""

    name: str
    domain: str
    noun: str
    columns: tuple[Column, ...]
    description: str = ""
    sentences: tuple[str, ...] = ()
    by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            group_of_domain(self.domain)
        except ValueError as error:
            raise InputError(f"schema {self.name!r}: domain: {error}") from error
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})
        entities = self.with_role("entity")
        if len(entities) != 1:
            raise InputError(f"schema {self.name!r}: exactly one column has the role entity, not {len(entities)}")
        if len(self.with_role("group")) > 1:
            raise InputError(f"schema {self.name!r}: at most one column has the role group")
        if not self.with_role("property"):
            raise InputError(f"schema {self.name!r}: no column has the role property")
        slots_ = [column.slot for column in self.columns]
        if len(set(slots_)) < len(slots_):
            raise InputError(f"schema {self.name!r}: column names must differ in letters and digits")
        if not re.fullmatch(r"[A-Za-z][A-Za-z -]*", self.noun):
            raise InputError(f"schema {self.name!r}: noun: expected plain words, got {self.noun!r}")

    def with_role(self, *roles: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role in roles)

    @cached_property
    def entity(self) -> Column:
        return self.with_role("entity")[0]

    def record(self, row: Mapping[str, Any], where: str, *, group: str | None = None) -> Record:
        """A checked record of a row.

        Raises:
            InputError: `where`, the column and the value, if a cell does not fit.
        """
        values: dict[str, Any] = {}
        for column in self.columns:
            try:
                values[column.name] = column.value(row.get(column.name))
            except (ValueError, TypeError) as error:
                raise InputError(f"{where}, column {column.name!r}: {error}") from error
        entity = values[self.entity.name]
        if entity is None:
            raise InputError(f"{where}, column {self.entity.name!r}: the entity is missing")
        groups = self.with_role("group")
        own = str(values[groups[0].name]) if groups and values[groups[0].name] is not None else str(entity)
        return Record(entity=str(entity), group=own if group is None else group, values=values)


def schema_from_json(value: Any, where: str) -> Schema:
    """A schema from JSON; unknown fields are errors. Raises `InputError` naming `where` and the field."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: a schema is a JSON object")
    known = {"name", "domain", "noun", "columns", "description", "sentences"}
    _only(value, known, where)
    columns = value.get("columns")
    if not isinstance(columns, Mapping) or not columns:
        raise InputError(f"{where}: columns: expected an object of columns")
    try:
        return Schema(
            name=str(value["name"]),
            domain=str(value["domain"]),
            noun=str(value["noun"]),
            description=str(value.get("description", "")),
            sentences=tuple(map(str, value.get("sentences", ()))),
            columns=tuple(_column(str(name), entry, where) for name, entry in columns.items()),
        )
    except KeyError as error:
        raise InputError(f"{where}: the field {error} is missing") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


_COLUMN_FIELDS = {"type", "role", "unit", "also", "digits", "decimals", "words", "noun", "low", "high"}


def _column(name: str, entry: Any, where: str) -> Column:
    if not isinstance(entry, Mapping):
        raise InputError(f"column {name!r}: expected an object")
    _only(entry, _COLUMN_FIELDS, f"{where}: column {name!r}")
    for field_, allowed in (("type", get_args(Type)), ("role", get_args(Role))):
        if entry.get(field_, allowed[0]) not in allowed:
            raise InputError(f"column {name!r}: {field_}: expected one of {', '.join(allowed)}, got {entry[field_]!r}")
    lists = {key: tuple(map(str, entry[key])) for key in ("also", "words") if key in entry}
    default = "text" if entry.get("role") == "entity" else "number"
    return Column(**{"type": default, **entry, **lists, "name": name})


def _only(value: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")


def _flag(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    text = str(raw).strip().lower()
    if text not in ("yes", "no", "true", "false", "1", "0"):
        raise ValueError(f"expected yes or no, got {raw!r}")
    return text in ("yes", "true", "1")


def _tagged(tag: str, letters: str) -> SlotKind:
    def write(value: str) -> str:
        if not re.fullmatch(letters, value):
            raise ValueError(f"not a {tag} sequence: {value[:60]!r}")
        return f"<{tag}>{value}</{tag}>"

    return SlotKind(
        pattern=f"<{tag}>{letters}</{tag}>", write=write, read=lambda text: text[len(tag) + 2 : -len(tag) - 3]
    )


def _write_name(value: str) -> str:
    if not re.compile(_NAME).fullmatch(f" {value}", 1):
        raise ValueError(
            f"not a text that can stand in a sentence: {value!r} (no angle brackets, semicolons, braces or line "
            "breaks, and no '. ' as between sentences)"
        )
    return value


# Letters of any script, as species and minerals have them; no angle brackets, no line breaks, no semicolon (lists). A
# full stop before a space only after a single letter, as in E. coli: else a name could swallow sentences.
_EDGE = r"[^\s<>;{}|]"
_INNER = r"(?:[^\n\r\t\v\f<>;{}|.!?]|[.!?](?! )|(?<=\s[A-Za-z])[.] )"
_NAME = rf"{_EDGE}(?:{_INNER}{{0,200}}?{_EDGE})?"
NAME = SlotKind(pattern=_NAME, write=_write_name, read=str)
_FORMULA = r"(?:[A-Z][a-z]?(?:\d+(?:\.\d+)?)?|[()]\d*)+"


def _write_formula(value: str) -> str:
    if not re.fullmatch(_FORMULA, value):
        raise ValueError(f"not a formula: {value!r}")
    return value


FORMULA = SlotKind(pattern=_FORMULA, write=_write_formula, read=str)
_FLAG = SlotKind(pattern="(?:yes|no)", write=lambda value: "yes" if value else "no", read=lambda text: text == "yes")
