"""Round trip of every slot, and no faults in units and digits, over all wordings."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.science.facts.grammar import Grammar, agrees, article, same_value
from s1pro.science.facts.lint import lint_text, lint_values
from s1pro.science.facts.quantities import Quantity, quantity
from s1pro.science.facts.schema import schema_from_json
from tests.science.facts.alloys import ALLOYS, alloy_records, alloy_schema

SCHEMA = alloy_schema()
GRAMMAR = Grammar(SCHEMA)
names = st.text(alphabet="abcXYZ0189 -.'()/αβµé", min_size=1, max_size=20).filter(lambda t: t == t.strip())


def test_every_slot_comes_back_without_a_fault() -> None:
    rng = random.Random(1)
    units: set[str] = set()
    for record in alloy_records(60) * 5:
        told = GRAMMAR.describe(record, rng)
        found = GRAMMAR.parse(told.text)
        assert found is not None and agrees(found, told.shown) and len(found) > 5
        assert lint_text(told.text) == [] and lint_values(found, SCHEMA) == []
        for name, value in found.items():
            assert same_value(value, record.values[name]), (name, value, record.values[name])
            if isinstance(value, Quantity):
                units.add(value.unit)
    assert units == {"MPa", "GPa", "eV", "g/cm^3", "kg/m^3", "K", "°C"}


@settings(max_examples=150, deadline=None)
@given(
    name=names,
    strength=st.floats(1e-6, 1e9),
    gap=st.none() | st.floats(0, 50),
    temp=st.none() | st.floats(1, 5000),
    phases=st.integers(0, 9),
    seed=st.integers(0, 10_000),
)
def test_any_record_comes_back(
    name: str, strength: float, gap: float | None, temp: float | None, phases: int, seed: int
) -> None:
    row = {"alloy": name, "family": "F", "yield": strength, "gap": gap, "temp": temp, "phases": phases, "magnetic": 1}
    try:
        record = SCHEMA.record(row, "here")
    except InputError as error:
        assert "stand in a sentence" in str(error) or "entity is missing" in str(error)
        assert ". " in name or name.lower() in ("-", "na", "n/a")
        return
    try:
        told = GRAMMAR.describe(record, random.Random(seed))
    except ValueError as error:
        assert "can be read back" in str(error)  # a name that reads like a sentence: refused, not garbled
        assert not name.isalnum()
        return
    found = GRAMMAR.parse(told.text)
    assert found == told.shown and lint_values(found, SCHEMA) == []
    for column, value in found.items():
        assert same_value(value, record.values[column])


def test_wordings_vary() -> None:
    record = alloy_records(1)[0]
    texts = {GRAMMAR.describe(record, random.Random(seed)).text for seed in range(60)}
    assert len(texts) == 60 and len({text.split()[0] for text in texts}) > 5
    assert any("yield stress" in text for text in texts) and any("yield strength" in text for text in texts)
    assert len({text.find("density") > text.find("yield") for text in texts}) == 2  # the order varies


def test_other_texts_are_not_read() -> None:
    record = alloy_records(1)[0]
    text = GRAMMAR.describe(record, random.Random(0)).text
    assert GRAMMAR.parse(text + " And more of this.") is None and GRAMMAR.parse("") is None
    assert GRAMMAR.parse(text.replace("MPa", "furlongs").replace("GPa", "furlongs")) is None


def test_the_same_value_in_another_unit() -> None:
    true = quantity(312.4, "MPa", 3)
    assert same_value(true.to("GPa"), true) and same_value(quantity(312.4, "MPa", 3), true)
    assert not same_value(quantity(0.314, "GPa", 3), true) and not same_value(quantity(313, "MPa", 3), true)


def test_lint_finds_what_it_shall_find() -> None:
    assert lint_text("It is 0.30000000000000004 eV.")[0].startswith("float_noise")
    assert lint_text("It is 2.9999999999999996 eV.")[0].startswith("float_noise")
    for empty in ("The gap is .", "Its  gap is 3 eV.", "It has {gap}.", "The gap is None.", "A gap of nan eV.", ""):
        assert any(fault.startswith("empty_slot") for fault in lint_text(empty)), empty
    assert lint_values({"gap": quantity(1.2345, "eV", 5)}, SCHEMA)[0].startswith("digits")
    assert lint_values({"gap": quantity(1.23, "K", 3)}, SCHEMA)[0].startswith("unit_missing")
    assert lint_values({"gap": 1.23}, SCHEMA)[0].startswith("unit_missing")
    assert lint_text("<SMILES>C1CC{</SMILES> is 3.00 eV.") == []


def test_articles() -> None:
    assert [article(word) for word in ("alloy", "unit cell", "gap", "energy")] == [
        "an alloy", "a unit cell", "a gap", "an energy",
    ]  # fmt: skip


# ---- schemas


def changed(**columns: Any) -> dict[str, Any]:
    value = copy.deepcopy(ALLOYS)
    value["columns"].update(columns)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "a schema is a JSON object"),
        ({**ALLOYS, "colour": 1}, "unknown field 'colour'"),
        ({**ALLOYS, "domain": "cooking"}, "no such domain: 'cooking'"),
        ({k: v for k, v in ALLOYS.items() if k != "noun"}, "'noun' is missing"),
        (changed(gap={"unit": "eVV"}), "no unit that pint knows"),
        (changed(gap={"unit": "eV", "also": ["K"]}), "'K' is of another dimension than 'eV'"),
        (changed(gap={"digits": 0}), "digits: expected 1 to 15"),
        (changed(gap={"type": "colour"}), "type: expected one of"),
        (changed(gap={"role": "boss"}), "role: expected one of"),
        (changed(gap={"typ": "number"}), "unknown field 'typ'"),
        (changed(gap={"words": ["a (b"]}), "expected plain words"),
        (changed(phases={"type": "count"}), "needs the singular"),
        (changed(system={"type": "category", "unit": "K"}), "belong to numbers"),
        (changed(other={"role": "entity", "type": "text"}), "exactly one column has the role entity, not 2"),
        (changed(Gap={"unit": "eV"}), "must differ in letters and digits"),
    ],
)
def test_wrong_schemas_are_named(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=r"s\.json") as error:
        schema_from_json(value, "s.json")
    assert message in str(error.value)


def test_wrong_cells_are_named() -> None:
    row = {"alloy": "X", "yield": "12"}
    assert SCHEMA.record(row, "l").values["yield"] == quantity(12, "MPa", 3)
    for change, message in (
        ({"yield": "much"}, "line 3, column 'yield'"),
        ({"yield": "inf"}, "column 'yield': expected a number"),
        ({"phases": "1.5"}, "column 'phases': expected a count"),
        ({"magnetic": "maybe"}, "column 'magnetic': expected yes or no"),
        ({"alloy": ""}, "column 'alloy': the entity is missing"),
        ({"alloy": "a<b>"}, "column 'alloy': not a text"),
    ):
        with pytest.raises(InputError, match="line 3") as error:
            SCHEMA.record({**row, **change}, "line 3")
        assert message in str(error.value)
    bare = SCHEMA.record({**row, "gap": "NA", "density": None, "family": " "}, "l")
    assert bare.values["gap"] is None and bare.values["density"] is None and bare.group == "X"
