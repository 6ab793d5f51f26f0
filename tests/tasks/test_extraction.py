from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1pro.science.formula import hill
from s1pro.tasks import extraction


@pytest.mark.parametrize(
    ("response", "formula"),
    [
        ("C2H6O", "C2H6O"),
        (" C2H6O.\n", "C2H6O"),
        ("HCl", "HCl" if False else "ClH"),
        ("The formula of ethanol is C2H6O.", "C2H6O"),
        ("CH4? No: **C2H6O**", "C2H6O"),
        ("<think>maybe CH4</think>C2H6O", "C2H6O"),
        ("I do not know", None),
        ("Xq2", None),
        ("", None),
    ],
)
def test_formulas(response: str, formula: str | None) -> None:
    found = extraction.formula_in(response)
    assert (None if found is None else hill(found)) == formula


@pytest.mark.parametrize(
    ("response", "count"),
    [
        ("7", 7),
        ("There are 7 carbon atoms.", 7),
        ("first 3, then 12", 12),
        ("Seven", 7),
        ("C8H10O2", None),
        ("7.5", None),
        ("", None),
    ],
)
def test_counts(response: str, count: int | None) -> None:
    assert extraction.whole_number_in(response) == count


@pytest.mark.parametrize(
    ("response", "mass"),
    [
        ("C8H10O2, 138.2 g/mol", 138.2),
        ("about 138", 138.0),
        ("138.2 g/mol, from 8 carbon atoms", 138.2),
        ("138.2 Da", 138.2),
        ("C8H10O2", None),
        ("heavy", None),
    ],
)
def test_masses(response: str, mass: float | None) -> None:
    assert extraction.mass_in(response) == mass


@pytest.mark.parametrize(
    ("response", "truth"), [("amine: yes", True), ("No, it has none", False), ("nothing", None), ("", None)]
)
def test_decisions(response: str, truth: bool | None) -> None:
    assert extraction.yes_or_no_in(response) is truth


@pytest.mark.parametrize(
    ("response", "smiles"),
    [
        ("<SMILES>CCO</SMILES>", "CCO"),
        ("<SMILES>C</SMILES> or <SMILES>CCO</SMILES>?", "CCO"),
        ("it is CCO", "CCO"),
        ("<SMILES></SMILES>", None),
        ("", None),
    ],
)
def test_structures(response: str, smiles: str | None) -> None:
    assert extraction.smiles_in(response) == smiles


@given(st.text(max_size=200))
def test_nothing_raises(response: str) -> None:
    for read in (
        extraction.formula_in,
        extraction.whole_number_in,
        extraction.mass_in,
        extraction.yes_or_no_in,
        extraction.smiles_in,
    ):
        read(response)


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("rises", "rises"),
        ("It rises, then falls.", "rises, then falls"),
        ("RISES,  then\nfalls", "rises, then falls"),
        ("the curve falls", "falls"),
        ("rises or falls", None),
        ("it arises", None),
        ("<think>falls</think>rises", "rises"),
        ("non-falls", None),
        ("", None),
    ],
)
def test_labels(response: str, label: str | None) -> None:
    assert extraction.label_in(response, ("rises", "falls", "rises, then falls")) == label


def test_labels_with_signs() -> None:
    units = ("kPa", "J/(mol K)", "kg/m3")
    assert extraction.label_in("The unit is J/(mol K).", units) == "J/(mol K)"
    assert extraction.label_in("kpa", units) == "kPa"
    assert extraction.label_in("clockwise", ("clockwise", "counter-clockwise")) == "clockwise"
    assert extraction.label_in("counter-clockwise", ("clockwise", "counter-clockwise")) == "counter-clockwise"


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("2.35 g/cm3", 2.35),
        ("at 300 K it is -1.5e-3", -0.0015),
        ("\N{MINUS SIGN}4 degC", -4.0),
        ("7.", 7.0),
        ("v2", None),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_readings(response: str, value: float | None) -> None:
    assert extraction.reading_in(response) == value
