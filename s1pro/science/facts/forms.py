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

Distractors of a choice are values of the records nearest in rank, so that they cannot be told by their size. Values that
print alike are never compared. Only records with equal conditions are compared. All entities of a task come from the
records that are given, which are those of one split.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from s1pro.science.facts.grammar import Grammar, a_words, article, capital, in_some_unit, words
from s1pro.science.facts.quantities import Quantity
from s1pro.science.facts.schema import NAME, Column, Record
from s1pro.science.templates import Bank, SlotKind

Form = Literal["description", "qa", "mcq", "cloze", "comparison", "ranking", "inverse", "regression"]
FORMS: tuple[Form, ...] = get_args(Form)
LETTERS = "ABCD"
_NEAREST = 12
_DESCRIPTORS = 4


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


def _list_kind() -> SlotKind:
    def write(value: Sequence[str]) -> str:
        return "; ".join(NAME.write(item) for item in value)

    return SlotKind(
        pattern=rf"{NAME.pattern}(?:; {NAME.pattern})+", write=write, read=lambda text: tuple(text.split("; "))
    )


def _one_of(*options: str) -> SlotKind:
    def write(value: str) -> str:
        if value not in options:
            raise ValueError(f"expected one of {', '.join(options)}, got {value!r}")
        return value

    pattern = "|".join(re.escape(option) for option in sorted(options, key=len, reverse=True))
    return SlotKind(pattern=f"(?:{pattern})", write=write, read=str)


class Forms:
    """Question and answer banks of one schema, and the tasks made with them."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.schema = grammar.schema
        self._entity = self.schema.entity.slot
        self._prompts: dict[tuple[Form, str], Bank] = {}
        self._answers: dict[tuple[Form, str], Bank] = {}
        structures = self.schema.with_role("structure")
        self._structure = structures[0] if structures else None

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
        return self._prompt_bank(form, column).parse(prompt)

    def parse_answer(self, form: Form, column: str, answer: str) -> dict[str, Any] | None:
        """Slot values of an answer of `make`; descriptions by column."""
        return self.grammar.parse(answer) if form == "description" else self._answer_bank(form, column).parse(answer)

    # ---- makers

    def _description(self, pools: _Pools, rng: random.Random) -> Task | None:
        record = rng.choice(pools.records)
        described = self.grammar.describe(record, rng)
        asked = {self._entity: record.entity}
        prompt = self._prompt_bank("description", "").render(asked, rng)
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
        if self._structure is not None and record.values[self._structure.name] is not None:
            asked[self._structure.slot] = record.values[self._structure.name]
        else:
            others = [c for c in self.asked if c is not column and c.type == "number" and record.values[c.name] is not None]
            if len(others) < 2:
                return None
            chosen = [c for c in others if c in self._descriptors(column)]
            asked |= {c.slot: record.values[c.name] for c in chosen}
            if len(chosen) < 2:
                return None
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
            prompt = self._prompt_bank(form, column.name).render(asked, rng)
            answer = self._answer_bank(form, column.name).render(answered, rng)
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

    def _descriptors(self, column: Column) -> list[Column]:
        return [c for c in self.asked if c is not column and c.type == "number"][:_DESCRIPTORS]

    # ---- banks

    def _prompt_bank(self, form: Form, name: str) -> Bank:
        key = (form, name)
        if key not in self._prompts:
            column = self.schema.by_name.get(name)
            kinds = self.grammar.kinds | _EXTRA_KINDS
            if column is not None:
                options = {f"option{letter.lower()}": column.kind for letter in LETTERS}
                kinds |= {**options, "low": column.kind, "high": column.kind}
                if column.type == "number":
                    kinds["unit"] = _one_of(*_units(column))
            self._prompts[key] = Bank(kinds, *_PROMPTS[form](self, column))
        return self._prompts[key]

    def _answer_bank(self, form: Form, name: str) -> Bank:
        key = (form, name)
        if key not in self._answers:
            column = self.schema.by_name[name]
            kinds = self.grammar.kinds | _EXTRA_KINDS | {"q": column.kind, "p": column.kind}
            wanted = (self._structure or self.schema.entity).slot
            source = {
                "mcq": "{letter}",
                "comparison": "{first} ({q} against {p})".replace("(", "\\(").replace(")", "\\)"),
                "ranking": "{items}",
                "inverse": f"{{{wanted}}}",
            }.get(form, f"{{{column.slot}}}")
            self._answers[key] = Bank(kinds, source)
        return self._answers[key]

    def _about(self, column: Column | None) -> tuple[str, str, str, str, str]:
        """Entity slot, noun, words, conditions, unit clause."""
        assert column is not None
        unit = "[ in {unit}]" if column.type == "number" and column.unit else ""
        at = self.grammar.at() if column.type == "number" else ""
        return f"{{{self._entity}}}", self.schema.noun, words(column), at, unit

    def _describe_sources(self, column: Column | None) -> Iterator[str]:
        e, noun = f"{{{self._entity}}}", self.schema.noun
        yield f"(Describe|Summarise|Characterise|Present) the {noun} {e}."
        yield f"(Tell me|Say|Write down) what is known about the {noun} {e}."
        yield f"What is (known|recorded) about {e}, {article(noun)}?"

    def _qa_sources(self, column: Column | None) -> Iterator[str]:
        e, noun, named, at, unit = self._about(column)
        yield f"What is the {named} of (the {noun} |){e}{at}{unit}?"
        yield f"(Give|State|Report|Look up) the {named} of (the {noun} |){e}{at}{unit}."
        yield f"(The {noun} |){e}: {named}{at}{unit}?"

    def _mcq_sources(self, column: Column | None) -> Iterator[str]:
        options = "\nA. {optiona}\nB. {optionb}\nC. {optionc}\nD. {optiond}"
        e, noun, named, at, _ = self._about(column)
        yield f"What is the {named} of the {noun} {e}{at}?{options}"
        yield f"(Choose|Pick|Select) the {named} of {e}{at}.{options}"

    def _cloze_sources(self, column: Column | None) -> Iterator[str]:
        e, noun, named, at, _ = self._about(column)
        assert column is not None
        of = f"{a_words(column)} of _____" if column.type == "number" else f"_____ as its {named}"
        yield f"(Fill in the gap|Complete the sentence|What is missing?): The {noun} {e} has {of}{at}."
        yield f"(Fill in|Complete): {capital(named)} of {e}{at}: _____."

    def _comparison_sources(self, column: Column | None) -> Iterator[str]:
        _, noun, named, at, _ = self._about(column)
        yield f"Which {noun} has the {{direction}} {named}{at}, {{first}} or {{second}}?"
        yield f"(Compare|Given) {{first}} (and|with) {{second}}: which has the {{direction}} {named}{at}?"

    def _ranking_sources(self, column: Column | None) -> Iterator[str]:
        _, noun, named, at, _ = self._about(column)
        yield f"(Order|Sort|Rank) by {named}{at}, {{direction}} first: {{items}}."
        yield f"(Put|Bring) these in order of {named}{at}, beginning with the {{direction}}: {{items}}."

    def _inverse_sources(self, column: Column | None) -> Iterator[str]:
        _, noun, named, _, _ = self._about(column)
        assert column is not None
        shown = f" Answer with its {words(self._structure)}." if self._structure else ""
        yield f"(Name|Give|Propose|Find) {article(noun)} (with|that has) {a_words(column)} between {{low}} and {{high}}.{shown}"
        yield f"Which {noun} has {a_words(column)} from {{low}} to {{high}}?{shown}"

    def _regression_sources(self, column: Column | None) -> Iterator[str]:
        _, noun, named, at, unit = self._about(column)
        assert column is not None
        if self._structure is not None:
            yield f"(Predict|Estimate|Work out) the {named}{at}{unit} of {{{self._structure.slot}}}."
            yield f"{{{self._structure.slot}}}: (predict|estimate) the {named}{at}{unit}."
        else:
            given = "".join(f"[ {capital(words(c))} {{{c.slot}}}.]" for c in self._descriptors(column))
            yield f"(Predict|Estimate|Work out) the {named}{at}{unit} of {article(noun)}.{given}"


_PROMPTS: Mapping[Form, Callable[[Forms, Column | None], Iterator[str]]] = {
    "description": Forms._describe_sources,
    "qa": Forms._qa_sources,
    "mcq": Forms._mcq_sources,
    "cloze": Forms._cloze_sources,
    "comparison": Forms._comparison_sources,
    "ranking": Forms._ranking_sources,
    "inverse": Forms._inverse_sources,
    "regression": Forms._regression_sources,
}
_EXTRA_KINDS: Mapping[str, SlotKind] = {
    "first": NAME,
    "second": NAME,
    "items": _list_kind(),
    "direction": _one_of("larger", "smaller", "largest", "smallest"),
    "letter": _one_of(*LETTERS),
}


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


def _units(column: Column) -> tuple[str, ...]:
    return tuple(unit for unit in (column.unit, *column.also) if unit) or ("none",)
