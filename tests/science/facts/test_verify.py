from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.science.facts.quantities import Quantity, quantity
from s1pro.science.facts.verify import Rules, final_answer, read_quantity, states_answer_first, verify

STRENGTH = quantity(312.4, "MPa", 4)


@pytest.mark.parametrize(
    "answer",
    [
        "312.4 MPa", "0.3124 GPa", "312 MPa", "3.124e2 MPa", "3.124 × 10^2 MPa", "about 312.4 MPa.", "312,400 kPa",
        r"$312.4~\mathrm{MPa}$", r"3.124 \times 10^{2}\,\text{MPa}", "312.4 MPa (at 300 K)", "312.4 N/mm^2",
        "= 313 MPa",
    ],
)  # fmt: skip
def test_right_in_many_spellings(answer: str) -> None:
    assert verify(f"Some steps.\nAnswer: {answer}", STRENGTH).right, verify(f"Answer: {answer}", STRENGTH)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("320 MPa", "value_wrong"),
        ("312.4", "unit_missing"),
        ("312.4 K", "unit_wrong"),
        ("312.4 zorks", "unit_unknown"),
        ("0.3 GPa", "value_wrong"),
        ("-312.4 MPa", "value_wrong"),
        ("312.4 GPa", "value_wrong"),
        ("strong", "no_number"),
        ("3e99999 MPa", "no_number"),
    ],
)
def test_wrong_for_a_reason(answer: str, reason: str) -> None:
    verdict = verify(f"Answer: {answer}", STRENGTH)
    assert not verdict.right and verdict.reason == reason


def test_too_few_digits() -> None:
    rough = Rules(relative_tolerance=0.05)
    assert verify("Answer: 300 MPa", STRENGTH, rough).right  # three digits as it is written
    assert verify("Answer: 3.1e2 MPa", STRENGTH, rough).reason == "too_few_digits"
    assert verify("Answer: 3.1e2 MPa", STRENGTH, Rules(relative_tolerance=0.05, digits_missing=2)).right
    assert verify("Answer: 312.4", STRENGTH, Rules(unit_needed=False)).right


@settings(max_examples=500, deadline=None)
@given(
    value=st.floats(1e-6, 1e9),
    digits=st.integers(2, 6),
    change=st.floats(0.0102, 5.0) | st.floats(-0.95, -0.0102),
)
def test_perturbed_numbers_are_never_accepted(value: float, digits: int, change: float) -> None:
    gold = quantity(value, "eV", digits)
    ulp = Decimal(1).scaleb(gold.number.as_tuple().exponent)  # type: ignore[arg-type]
    wrong = quantity(float(gold.number) * (1 + change), "eV", 9)
    assert verify(f"Answer: {gold}", gold).right
    if abs(wrong.number - gold.number) > ulp:
        assert verify(f"Answer: {wrong}", gold).reason == "value_wrong"


def test_temperatures_are_converted_with_their_zero() -> None:
    gold = quantity(300.0, "K", 4)
    assert verify("Answer: 26.85 °C", gold).right and not verify("Answer: 300 °C", gold).right


def test_where_the_answer_stands() -> None:
    assert final_answer("x\nAnswer: 3 eV\nAnswer: 4 eV") == "4 eV"
    assert final_answer(r"so \boxed{\text{3 eV}} it is") == r"\text{3 eV}"
    assert final_answer("The final answer is 5 eV") == "5 eV"
    assert final_answer("one\ntwo eV\n\n") == "two eV" and final_answer(" \n") == ""
    assert verify("", STRENGTH).reason == "no_answer"


def test_options_names_and_orders() -> None:
    assert (
        verify("Answer: B", "B").right and verify("Answer: (B) 3 eV", "B").right and verify("Answer: B. x", "B").right
    )
    assert verify("Answer: C", "B").reason == "choice_wrong" and not verify("Answer: Because", "B").right
    assert verify("Answer: X-1 (3 eV against 2 eV)", "X-1").right and not verify("Answer: X-11", "X-1").right
    assert verify("Answer: <SMILES>CCO</SMILES>", "CCO").right
    assert not verify("Answer: C1CCCCC1", "c1ccccc1").right  # case means something in a SMILES
    assert verify("Answer: Copper", "copper").right and verify("Answer: iron", "copper", accepted=("iron",)).right
    assert verify("Answer: a; b; c", ("a", "b", "c")).right and verify("Answer: a > b > c", ("a", "b", "c")).right
    assert verify("Answer: a; c; b", ("a", "b", "c")).reason == "order_wrong"
    assert verify("Answer: yes", True).right and not verify("Answer: yes", False).right
    assert verify("Answer: 3 rings", 3).right and not verify("Answer: 4", 3).right


@pytest.mark.parametrize("gold", [None, "", " ", (), ("a", ""), 3.5, {"x": 1}])
def test_a_gold_that_cannot_be_compared_is_an_error(gold: object) -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        verify("Answer: 3", gold)


def test_answers_before_their_derivation_are_found() -> None:
    long = " We look at the composition, and weigh every atom in turn." * 6
    assert states_answer_first("It is 312.4 MPa." + long, STRENGTH)
    assert states_answer_first("The value 0312.40 fits." + long, STRENGTH)
    assert not states_answer_first(long + " So it is 312.4 MPa.", STRENGTH)
    assert not states_answer_first("Between 100 and 400, so we compute." + long, STRENGTH)
    assert states_answer_first("The answer is B, because" + long, "B") and not states_answer_first(
        "Both A and B" + long, "B"
    )
    assert states_answer_first("The answer must be copper." + long, "copper")
    assert not states_answer_first("We compare copper and iron." + long, "copper")
    assert states_answer_first("a; b; c is the order." + long, ("a", "b", "c"))


def test_numbers_in_text() -> None:
    assert read_quantity("roughly −1,200.5 kJ/mol, or so") == (Decimal("-1200.5"), "kJ/mol", 5)
    assert read_quantity("5 W/(m*K) of it") == (Decimal(5), "W/(m*K)", 1)
    assert read_quantity("5 kJ per mol") == (Decimal(5), "kJ per mol", 1) and read_quantity("none") is None
    assert Quantity(Decimal("5"), "kJ/mol") == Quantity(Decimal("5.0"), "kJ/mol")
