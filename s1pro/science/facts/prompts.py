"""Wordings of the eight forms: for every form and column a bank of prompts and one form of answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from s1pro.science.facts.grammar import Grammar, a_words, article, capital, words
from s1pro.science.facts.schema import NAME, Column
from s1pro.science.templates import Bank, SlotKind

Form = Literal["description", "qa", "mcq", "cloze", "comparison", "ranking", "inverse", "regression"]
FORMS: tuple[Form, ...] = get_args(Form)
LETTERS = "ABCD"
_DESCRIPTORS = 4


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


class Prompts:
    """Banks of one schema, made when they are first needed."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.schema = grammar.schema
        self._entity = self.schema.entity.slot
        self._prompts: dict[tuple[Form, str], Bank] = {}
        self._answers: dict[tuple[Form, str], Bank] = {}
        structures = self.schema.with_role("structure")
        self.structure = structures[0] if structures else None

    def descriptors(self, column: Column) -> list[Column]:
        """Numbers that a value is predicted from when there is no structure."""
        numbers = [c for c in self.schema.with_role("property") if c.type == "number"]
        return [c for c in numbers if c is not column][:_DESCRIPTORS]

    def prompt(self, form: Form, name: str) -> Bank:
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

    def answer(self, form: Form, name: str) -> Bank:
        key = (form, name)
        if key not in self._answers:
            column = self.schema.by_name[name]
            kinds = self.grammar.kinds | _EXTRA_KINDS | {"q": column.kind, "p": column.kind}
            wanted = (self.structure or self.schema.entity).slot
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
        pair = "(Compare {first} with {second}|Given {first} and {second})"
        yield f"{pair}: which has the {{direction}} {named}{at}?"

    def _ranking_sources(self, column: Column | None) -> Iterator[str]:
        _, _, named, at, _ = self._about(column)
        yield f"(Order|Sort|Rank) by {named}{at}, {{direction}} first: {{items}}."
        yield f"(Put|Bring) these in order of {named}{at}, beginning with the {{direction}}: {{items}}."

    def _inverse_sources(self, column: Column | None) -> Iterator[str]:
        noun = self.schema.noun
        assert column is not None
        shown = f" Answer with its {words(self.structure)}." if self.structure else ""
        wanted = a_words(column)
        yield f"(Name|Give|Propose|Find) {article(noun)} (with|that has) {wanted} between {{low}} and {{high}}.{shown}"
        yield f"Which {noun} has {wanted} from {{low}} to {{high}}?{shown}"

    def _regression_sources(self, column: Column | None) -> Iterator[str]:
        _, noun, named, at, unit = self._about(column)
        assert column is not None
        if self.structure is not None:
            yield f"(Predict|Estimate|Work out) the {named}{at}{unit} of {{{self.structure.slot}}}."
            yield f"{{{self.structure.slot}}}: (predict|estimate) the {named}{at}{unit}."
        else:
            given = "".join(f"[ {capital(words(c))} {{{c.slot}}}.]" for c in self.descriptors(column))
            yield f"(Predict|Estimate|Work out) the {named}{at}{unit} of {article(noun)}.{given}"


_PROMPTS: Mapping[Form, Callable[[Prompts, Column | None], Iterator[str]]] = {
    "description": Prompts._describe_sources,
    "qa": Prompts._qa_sources,
    "mcq": Prompts._mcq_sources,
    "cloze": Prompts._cloze_sources,
    "comparison": Prompts._comparison_sources,
    "ranking": Prompts._ranking_sources,
    "inverse": Prompts._inverse_sources,
    "regression": Prompts._regression_sources,
}
_EXTRA_KINDS: dict[str, SlotKind] = {
    "first": NAME,
    "second": NAME,
    "items": _list_kind(),
    "direction": _one_of("larger", "smaller", "largest", "smallest"),
    "letter": _one_of(*LETTERS),
}


def _units(column: Column) -> tuple[str, ...]:
    return tuple(unit for unit in (column.unit, *column.also) if unit) or ("none",)
