"""What is read out of replies: upstream's way with its defects, and ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.tasks.benchmarks import extract
from s1pro.tasks.benchmarks.registry import BENCHMARKS


@pytest.mark.parametrize(
    ("response", "upstream", "strict"),
    [
        ("plain", "plain", "plain"),
        ("thought</think> answer", "answer", "answer"),
        ("a</think>b</think> c", "c", "c"),
        ("Start<think>x</think> End", "Start End", "End"),
        ("<think>never closed \\boxed{1}", "<think>never closed \\boxed{1}", ""),
        ("<think>a</think>b</think>c", "b</think>c", "c"),
        ("", "", ""),
    ],
)
def test_reasoning(response: str, upstream: str, strict: str) -> None:
    assert extract.upstream_visible(response) == upstream
    assert extract.answer_part(response) == strict


@pytest.mark.parametrize(
    ("response", "upstream", "strict"),
    [
        ("\\boxed{-1.5}", [-1.5], -1.5),
        ("<NUMBER> 2 </NUMBER> then \\boxed{3}", [2.0, 3.0], 3.0),
        ("<NUMBER>4}", [4.0], 4.0),
        ("\\boxed{1e-3}", [], 1e-3),
        ("\\boxed{+2}", [], 2.0),
        ("\\boxed{5.}", [], 5.0),
        ("\\boxed{2,000}", [], 2000.0),
        ("\\boxed{1400 MPa}", [], 1400.0),
        ("\\boxed{-.5}", [-0.5], -0.5),
        ("\\boxed{1.2 \\times 10^{-3}}", [], 1.2e-3),
        ("between 3 and 7 MPa", [], 7.0),
        ("\N{MINUS SIGN}0.25 eV", [], -0.25),
        ("logS = -3.2 \N{PLUS-MINUS SIGN} 0.1", [], -3.2),
        ("about 10^3 K", [], 1000.0),
        ("3 x 10^5", [], 3e5),
        ("C12H22", [], None),
        ("no number", [], None),
        ("", [], None),
    ],
)
def test_numbers(response: str, upstream: list[float], strict: float | None) -> None:
    assert extract.upstream_numbers(response) == upstream
    found = extract.final_number(response)
    assert found is None if strict is None else found == pytest.approx(strict)


def test_numbers_are_never_infinite() -> None:
    huge = "9" * 400
    assert extract.upstream_numbers(f"\\boxed{{{huge}}}") == [extract.LARGEST]
    assert extract.final_number(huge) == extract.LARGEST
    assert extract.final_number("1e999") == extract.LARGEST


def test_boxes() -> None:
    assert extract.boxed("\\boxed{a{b{c}}} \\boxed{d") == ["a{b{c}}"]
    assert extract.upstream_boxed("\\boxed{a{b}} and \\boxed{a{b{c}}}") == ["a{b}"]


@pytest.mark.parametrize(
    ("response", "meant"),
    [
        ("Yes", True),
        ("**No**.", False),
        ("casino", None),
        ("I cannot say yes or no", None),
        ("No toxicity?\nFinal: yes", True),
        ("<BOOLEAN> No </BOOLEAN> yes", False),
        ("yes</think>no", False),
        ("\\boxed{\\text{Yes}}", True),
        ("", None),
    ],
)
def test_clear_yes_and_no(response: str, meant: bool | None) -> None:
    assert extract.final_yes_no(response) is meant


MARKS = (
    "<think>", "</think>", "\\boxed{", "}", "{", "<SMILES>", "</SMILES>", "<NUMBER>", "</NUMBER>", "1e", "-", "9" * 50,
    "x=1, y=..", "[C]", "{'hk': 1}", "{'hk': 1, 'dev': [2]}", "Answer: A", "$", "(", "[1, 2, 3, 4]", "\n",
    "FINAL ANSWER:", "\x00", "\N{LATIN SMALL LETTER E WITH ACUTE}", "yes", "no", " ",
)  # fmt: skip
PIECES = st.sampled_from(MARKS)
REPLIES = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map("".join)
RECORD = {
    "ground_truth": {"hk": 1.0, "dev": 2.0}, "options": ["x", "y"], "A": "x", "B": "y", "width": 10, "height": 10,
    "Correct Answer": "a", "gt_ts": {"values": [1.0]}, **{f"Incorrect Answer {i}": str(i) for i in (1, 2, 3)},
    "question_type": "mcq", "answer": "A", "Short Answer": "3", "cases": [], "function": "", "category": "math QA en",
    "eval": None, "answers": ["3"],
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(REPLIES)
def test_no_extractor_raises(response: str) -> None:
    for benchmark in BENCHMARKS.values():
        for subtask in {id(s.compat.extract): s for s in benchmark.subtasks}.values():
            subtask.compat.extract(response, RECORD)
            subtask.strict.extract(response, RECORD)
