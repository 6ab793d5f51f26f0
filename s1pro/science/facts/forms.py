"""Eight forms of one table: from the records of one split, tasks whose prompt and answer can be read back.

| form | asked | answer |
|---|---|---|
| `description` | the entity | a text of `grammar` |
| `qa` | one value, with its conditions, perhaps in a given unit | `312 MPa` |
| `mcq` | the same with four options | `C` |
| `cloze` | a sentence with a gap | `312 MPa` |
| `comparison` | which of two has the larger or smaller value | the entity, with both values |
| `ranking` | three to five entities by a value | the entities in order |
| `inverse` | an entity with a value in a range (and a category) | structure or entity; `accepted` has all that fit |
| `regression` | a value from the structure or from other values | `312 MPa` |

Distractors of a choice are values of the records nearest in rank, so that they cannot be told by their size. Values
that print alike are never compared, and only records with equal conditions are. All entities of a task come from the
records that are given, which are those of one split.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from s1pro.science.facts.grammar import Grammar, in_some_unit
from s1pro.science.facts.prompts import FORMS, LETTERS, Form, Prompts
from s1pro.science.facts.quantities import Quantity
from s1pro.science.facts.schema import Column, Record

__all__ = ["FORMS", "LETTERS", "Form", "Forms", "Task"]
_NEAREST = 12


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question with its answer.

    Attributes:
        asked, answered: slot values of prompt and answer.
        gold: the value that an answer is checked against: a `Quantity`, text, or a tuple of texts.
        accepted: other answers that are right too (inverse design).
        entities: all that it is about; `groups` are theirs.
    """

    form: Form
    column: str
    prompt: str
    answer: str
    asked: Mapping[str, Any]
    answered: Mapping[str, Any]
    gold: Any
    entities: tuple[str, ...]
    groups: tuple[str, ...]
    accepted: tuple[str, ...] = ()


class Forms:
    """Question and answer banks of one schema, and the tasks made with them."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.schema = grammar.schema
        self.prompts = Prompts(grammar)
        self._entity = self.schema.entity.slot
        self._structure = self.prompts.structure

    @cached_property
    def asked(self) -> list[Column]:
        """Columns that questions are about."""
        return [c for c in self.schema.columns if c.role == "property"]

    def make(
        self, form: Form, records: Sequence[Record], count: int, random_generator: random.Random
    ) -> Iterator[Task]:
        """Up to `count` different tasks of one form; fewer if the records do not allow more."""
        seen: set[tuple[Any, ...]] = set()
        missed = 0
        pools = _Pools(self.asked, self.grammar, records)
        while len(seen) < count and missed < 4 * count + 40 and records:
            task = self._MAKERS[form](self, pools, random_generator)
            key = () if task is None else (task.column, task.entities, task.answer, *map(str, task.asked.values()))
            if task is None or key in seen:
                missed += 1
                continue
            seen.add(key)
            yield task

    def parse(self, form: Form, column: str, prompt: str) -> dict[str, Any] | None:
        """Slot values of a prompt of `make`."""
        return self.prompts.prompt(form, column).parse(prompt)

    def parse_answer(self, form: Form, column: str, answer: str) -> dict[str, Any] | None:
        """Slot values of an answer of `make`; descriptions by column."""
        return self.grammar.parse(answer) if form == "description" else self.prompts.answer(form, column).parse(answer)

    # ---- makers

    def _description(self, pools: _Pools, rng: random.Random) -> Task | None:
        record = rng.choice(pools.records)
        described = self.grammar.describe(record, rng)
        asked = {self._entity: record.entity}
        prompt = self.prompts.prompt("description", "").render(asked, rng)
        return Task(
            form="description", column="", prompt=prompt, answer=described.text, asked=asked,
            answered=described.shown, gold=described.text, entities=(record.entity,), groups=(record.group,),
        )  # fmt: skip

    def _qa(self, pools: _Pools, rng: random.Random) -> Task | None:
        column, record = pools.draw(rng)
        if column is None:
            return None
        value = in_some_unit(column, record.values[column.name], rng)
        asked = self._conditions(record) | {self._entity: record.entity}
        if column.type == "number" and (column.also or rng.random() < 0.2):
            asked["unit"] = value.unit or None
        return self._task("qa", column, asked, {column.slot: value}, value, (record,), rng)

    def _mcq(self, pools: _Pools, rng: random.Random) -> Task | None:
        column, record = pools.draw(rng)
        if column is None:
            return None
        value = record.values[column.name]
        others = pools.near(column, record, rng)
        if len(others) < len(LETTERS) - 1 or column.type == "flag":
            return None
        options = [value, *rng.sample(others, len(LETTERS) - 1)]
        rng.shuffle(options)
        letter = LETTERS[options.index(value)]
        asked = self._conditions(record) | {self._entity: record.entity}
        asked |= {f"option{name.lower()}": option for name, option in zip(LETTERS, options, strict=True)}
        return self._task("mcq", column, asked, {"letter": letter}, letter, (record,), rng)

    def _cloze(self, pools: _Pools, rng: random.Random) -> Task | None:
        column, record = pools.draw(rng)
        if column is None:
            return None
        value = record.values[column.name]
        asked = self._conditions(record) | {self._entity: record.entity}
        return self._task("cloze", column, asked, {column.slot: value}, value, (record,), rng)

    def _comparison(self, pools: _Pools, rng: random.Random) -> Task | None:
        drawn = pools.comparable(rng, 2)
        if drawn is None:
            return None
        column, pair = drawn
        direction = rng.choice(("larger", "smaller"))
        ordered = sorted(pair, key=lambda r: _size(r.values[column.name]), reverse=direction == "larger")
        asked = self._conditions(pair[0])
        asked |= {"first": pair[0].entity, "second": pair[1].entity, "direction": direction}
        values = [record.values[column.name] for record in ordered]
        answered = {"first": ordered[0].entity, "q": values[0], "p": values[1]}
        return self._task("comparison", column, asked, answered, ordered[0].entity, tuple(pair), rng)

    def _ranking(self, pools: _Pools, rng: random.Random) -> Task | None:
        drawn = pools.comparable(rng, rng.randint(3, 5))
        if drawn is None:
            return None
        column, chosen = drawn
        direction = rng.choice(("largest", "smallest"))
        ordered = sorted(chosen, key=lambda r: _size(r.values[column.name]), reverse=direction == "largest")
        names = tuple(record.entity for record in ordered)
        asked = self._conditions(chosen[0]) | {"items": tuple(r.entity for r in chosen), "direction": direction}
        return self._task("ranking", column, asked, {"items": names}, names, tuple(chosen), rng)

    def _inverse(self, pools: _Pools, rng: random.Random) -> Task | None:
        column, record = pools.draw(rng, numbers=True)
        if column is None:
            return None
        spread = pools.sorted_values(column)
        place = spread.index(record.values[column.name])
        low = spread[max(0, place - rng.randint(0, 3))]
        high = spread[min(len(spread) - 1, place + rng.randint(0, 3))]
        if low == high:
            return None
        wanted = self._structure or self.schema.entity
        fits = [r for r in pools.records if _between(low, r.values.get(column.name), high)]
        answers = tuple(dict.fromkeys(r.values[wanted.name] for r in fits if r.values[wanted.name] is not None))
        answer = record.values[wanted.name]
        if answer is None:
            return None
        asked = {"low": low, "high": high}
        task = self._task("inverse", column, asked, {wanted.slot: answer}, answer, (record,), rng)
        return None if task is None else Task(**{**vars(task), "accepted": answers})

    def _regression(self, pools: _Pools, rng: random.Random) -> Task | None:
        column, record = pools.draw(rng, numbers=True)
        if column is None:
            return None
        value = record.values[column.name]
        asked = self._conditions(record)
        if self._structure is not None:
            if record.values[self._structure.name] is None:
                return None
            asked[self._structure.slot] = record.values[self._structure.name]
        else:
            given = [c for c in self.prompts.descriptors(column) if record.values[c.name] is not None]
            if len(given) < 2:
                return None
            asked |= {c.slot: record.values[c.name] for c in given}
        asked["unit"] = value.unit or None
        return self._task("regression", column, asked, {column.slot: value}, value, (record,), rng)

    _MAKERS: Mapping[Form, Callable[[Forms, _Pools, random.Random], Task | None]] = {
        "description": _description, "qa": _qa, "mcq": _mcq, "cloze": _cloze, "comparison": _comparison,
        "ranking": _ranking, "inverse": _inverse, "regression": _regression,
    }  # fmt: skip

    def _task(
        self,
        form: Form,
        column: Column,
        asked: Mapping[str, Any],
        answered: Mapping[str, Any],
        gold: Any,
        records: tuple[Record, ...],
        rng: random.Random,
    ) -> Task | None:
        """Renders both sides and reads them back; None if the wording drawn is ambiguous for these names."""
        asked = {slot: value for slot, value in asked.items() if value is not None}
        try:
            prompt = self.prompts.prompt(form, column.name).render(asked, rng)
            answer = self.prompts.answer(form, column.name).render(answered, rng)
        except ValueError as error:
            if "not invertible" in str(error):
                return None
            raise
        if self.parse(form, column.name, prompt) != asked or self.parse_answer(form, column.name, answer) != answered:
            return None
        return Task(
            form=form, column=column.name, prompt=prompt, answer=answer, asked=asked, answered=dict(answered),
            gold=gold, entities=tuple(r.entity for r in records), groups=tuple(r.group for r in records),
        )  # fmt: skip

    def _conditions(self, record: Record) -> dict[str, Any]:
        return {c.slot: record.values[c.name] for c in self.grammar.conditions if record.values[c.name] is not None}


class _Pools:
    """Records of one split, arranged for drawing."""

    def __init__(self, columns: Sequence[Column], grammar: Grammar, records: Sequence[Record]) -> None:
        self.records = list(records)
        self._columns = columns
        self._conditions = grammar.conditions
        self._having = {c.name: [r for r in records if r.values.get(c.name) is not None] for c in columns}
        self._sorted: dict[str, list[Any]] = {}

    def draw(self, rng: random.Random, *, numbers: bool = False) -> tuple[Any, Any]:
        """A column and a record that has it; (None, None) if there is none."""
        usable = [c for c in self._columns if self._having[c.name] and (not numbers or c.type == "number")]
        if not usable:
            return None, None
        column = rng.choice(usable)
        return column, rng.choice(self._having[column.name])

    def sorted_values(self, column: Column) -> list[Any]:
        """Different values of a column, small to large."""
        if column.name not in self._sorted:
            values = {_size(r.values[column.name]): r.values[column.name] for r in self._having[column.name]}
            self._sorted[column.name] = [values[size] for size in sorted(values)]
        return self._sorted[column.name]

    def near(self, column: Column, record: Record, rng: random.Random) -> list[Any]:
        """Other values, nearest in rank first."""
        spread, own = self.sorted_values(column), record.values[column.name]
        place = next(i for i, value in enumerate(spread) if _size(value) == _size(own))
        order = sorted((i for i in range(len(spread)) if i != place), key=lambda i: abs(i - place))
        return [spread[i] for i in order[:_NEAREST]]

    def comparable(self, rng: random.Random, count: int) -> tuple[Column, list[Record]] | None:
        """A column and records of different entities with different values of it and equal conditions."""
        usable = [c for c in self._columns if c.type in ("number", "count") and len(self._having[c.name]) >= count]
        if not usable:
            return None
        column = rng.choice(usable)
        by_condition: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        for record in self._having[column.name]:
            by_condition[tuple(str(record.values[c.name]) for c in self._conditions)].append(record)
        pool = rng.choice(sorted(by_condition.items()))[1]
        chosen: list[Record] = []
        for record in rng.sample(pool, min(len(pool), 4 * count)):
            sizes = [_size(other.values[column.name]) for other in chosen]
            if record.entity not in {r.entity for r in chosen} and _size(record.values[column.name]) not in sizes:
                chosen.append(record)
        return (column, chosen[:count]) if len(chosen) >= count else None


def _size(value: Any) -> Any:
    """What values are ordered by."""
    return value.number if isinstance(value, Quantity) else value


def _between(low: Quantity, value: Quantity | None, high: Quantity) -> bool:
    return value is not None and low.number <= value.number <= high.number
