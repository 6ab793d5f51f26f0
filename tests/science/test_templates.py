from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.science import slots
from s1pro.science.groups import NAMES
from s1pro.science.templates import Bank, Template, parse_document

KINDS = {
    "name": slots.TEXT,
    "smiles": slots.SMILES,
    "formula": slots.FORMULA,
    "mass": slots.MASS,
    "rings": slots.counted("ring"),
    "groups": slots.GROUPS,
    "checks": slots.CHECKS,
    "feature": slots.FEATURE,
}
SOURCES = (
    "[The compound ]{name} (has|shows) the formula {formula}[ and a molar mass of {mass}].",
    "{name}, also written {smiles}, contains {groups}[; it has {rings}].",
    r"{rings}(,| and) {mass}: {name}[ \({checks}\)].",
    "(How many|Count) {feature} in {smiles}(?|.)",
)
printable = string.printable.strip().replace("<", "").replace(">", "")
names = st.text(alphabet=printable + " ", min_size=1, max_size=30).filter(lambda text: text == text.strip())
elements = st.sampled_from(["C", "H", "N", "O", "Cl", "Br"])
formulas = st.lists(st.tuples(elements, st.integers(1, 40)), min_size=1, max_size=5).map(
    lambda parts: "".join(e + (str(n) if n > 1 else "") for e, n in parts)
)
groups = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True).map(tuple)
records = st.fixed_dictionaries(
    {
        "name": names,
        "smiles": st.text(alphabet="CNOc1()=#[]+-", min_size=1, max_size=20),
        "formula": formulas,
        "rings": st.integers(0, 30),
        "groups": groups,
        "feature": st.sampled_from(sorted(slots.FEATURES)),
    },
    optional={
        "mass": st.floats(0.1, 5000) | st.none(),
        "checks": st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=4).map(tuple),
    },
)


@settings(max_examples=150, deadline=None)
@given(record=records, seed=st.integers(0, 1000), source=st.sampled_from(SOURCES))
def test_every_slot_comes_back(record: dict[str, object], seed: int, source: str) -> None:
    """A sentence is either refused (a name that reads like the template) or read back exactly."""
    template = Template(source, KINDS)
    try:
        text = template.render(record, random.Random(seed))
    except ValueError as error:
        assert "not invertible" in str(error) or ("no 'mass'" in str(error) and record.get("mass") is None)
        return
    found = template.parse(text)
    assert found is not None
    shown = {slot for slot in template.slots if record.get(slot) is not None}
    assert set(found) == shown
    for slot in shown:
        kind = KINDS[slot]
        assert found[slot] == kind.read(kind.write(record[slot]))
        if slot != "mass":
            assert found[slot] == record[slot]


@settings(max_examples=300, deadline=None)
@given(mass=st.floats(0.1, 9e5))
def test_masses_have_one_decimal_and_no_float_noise(mass: float) -> None:
    text = slots.MASS.write(mass)
    number, _, unit = text.partition(" ")
    assert unit == "g/mol" and len(number.partition(".")[2]) == 1
    assert abs(slots.MASS.read(text) - mass) <= 0.05000001


def test_optional_clauses_go_with_their_values() -> None:
    template = Template(SOURCES[0], KINDS)
    full = template.render({"name": "ethanol", "formula": "C2H6O", "mass": 46.069}, random.Random(1))
    short = template.render({"name": "ethanol", "formula": "C2H6O", "mass": None}, random.Random(1))
    assert "46.1 g/mol" in full and "mass" not in short
    assert template.parse(short) == {"name": "ethanol", "formula": "C2H6O"}


def test_no_sentence_with_an_empty_slot() -> None:
    with pytest.raises(ValueError, match="no 'formula'"):
        Template("{name} is {formula}.", KINDS).render({"name": "ethanol", "formula": None}, random.Random(0))
    for kind, value in (
        (slots.TEXT, ""),
        (slots.SMILES, ""),
        (slots.FORMULA, "C0"),
        (slots.COUNT, -1),
        (slots.MASS, 0.0),
    ):
        with pytest.raises(ValueError):
            kind.write(value)


def test_ambiguous_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not invertible"):
        Template("{name} is {smiles}[ and {formula}].", {**KINDS, "smiles": slots.TEXT}).render(
            {"name": "a", "smiles": "b is c"}, random.Random(0)
        )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{name", "slot"),
        ("(a|b", "not closed"),
        ("[a", "not closed"),
        ("a)", "closes nothing"),
        ("{unknown}", "no kind"),
    ],
)
def test_bad_templates_are_named(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template(source, KINDS)


def test_wordings_vary_and_escapes_stay() -> None:
    template = Template(r"(a|b)\(c\)[d]", KINDS)
    found = {template.render({}, random.Random(seed)) for seed in range(40)}
    assert found == {"a(c)", "b(c)", "a(c)d", "b(c)d"}


def test_held_out_wordings_are_never_drawn_for_training() -> None:
    bank = Bank(KINDS, "{name}.", "The {name}.", held_out=("Some {name}.",))
    drawn = {bank.render({"name": "x"}, random.Random(seed)) for seed in range(30)}
    assert drawn == {"x.", "The x."}
    assert bank.render({"name": "x"}, random.Random(0), held_out=True) == "Some x."
    assert bank.parse("Some x.") == {"name": "Some x"}  # the first template that fits
    assert bank.parse("nothing to read here") is None


def test_documents_of_several_banks() -> None:
    first, second = Bank(KINDS, "{name} weighs {mass}."), Bank(KINDS, "Formula: {formula}.")
    text = "n. n-diethylamine weighs 73.1 g/mol. Formula: C4H11N."
    assert parse_document(text, [second, first]) == {"name": "n. n-diethylamine", "mass": 73.1, "formula": "C4H11N"}
    assert parse_document(text + " And more.", [first, second]) is None
    third = Bank(KINDS, "It is {formula}.")
    assert parse_document("Formula: C. It is N.", [second, third]) is None  # contradiction
