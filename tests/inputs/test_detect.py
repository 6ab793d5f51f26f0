from __future__ import annotations

import random
import re
import time
from itertools import pairwise

import pytest

from s1pro.base.errors import MissingExtraError
from s1pro.inputs import detect
from s1pro.inputs.detect import Span, find, passes_rules

ALL = frozenset(("SMILES", "PROT", "XNA"))
ASPIRIN = "CC(=O)OC1=CC=CC=C1C(=O)O"


def by_rules(text: str) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.kind) for s in find(text, passes_rules, ALL)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"see {ASPIRIN}.", [(ASPIRIN, "SMILES")]),
        (f"分子{ASPIRIN}是", [(ASPIRIN, "SMILES")]),
        (f"x{ASPIRIN}", []),
        (f"{ASPIRIN}x", []),
        ("CC(=O)O", []),
        ("----------------", []),
        ("0.123456789012", []),
        ("nonconspon scoop", []),
        ("CN(C)CCN(C)C--CCCC", []),
        ("CCCCC[C H]CCCCC", [("CCCCC[C H]CCCCC", "SMILES")]),
        ("M" * 26, []),
        ("M" * 27, [("M" * 27, "PROT")]),
        ("ATGC" * 7, [("ATGC" * 7, "XNA")]),
        ("ATGC" * 7 + "M", [("ATGC" * 7 + "M", "PROT")]),
        ("C" * 30, [("C" * 30, "SMILES")]),
        (f"smiles = [{ASPIRIN}]", [(ASPIRIN, "SMILES")]),
        (f"[{ASPIRIN}, {ASPIRIN}[NH2]]", [(ASPIRIN, "SMILES"), (ASPIRIN + "[NH2]", "SMILES")]),
    ],
)
def test_what_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert by_rules(text) == expected


@pytest.mark.parametrize(
    ("candidate", "accepted"),
    [
        (ASPIRIN, True),
        ("[Na+].[Cl-].[K+]CCCCC", True),
        ("C1CCCCCCCC", False),
        ("C1CCCCCCC1", True),
        ("C%12CCCCC%12", True),
        ("C%1CCCCCCC%1", False),
        ("CCCCC)CCCC(", False),
        ("CCCCC(CCCCC", True),
        ("CCC==CCCCCC", False),
        ("-CCCCCCCCCC", False),
        ("CCCCCSiCCCC", False),
        ("CCHCCCCCCCC", False),
        ("CCCC[abcd]CCCC", False),
        ("CCCC[12345C]CCCC", False),
        ("CCCC[(C)]CCCC", False),
        ("CCCC[C]CC[abcd]", True),
    ],
)
def test_rules(candidate: str, accepted: bool) -> None:
    assert passes_rules(candidate) is accepted


def test_only_wanted_kinds() -> None:
    text = f"{ASPIRIN} {'M' * 30} {'ATGC' * 8}"
    assert [s.kind for s in find(text, passes_rules, frozenset(("XNA",)))] == ["XNA"]
    assert find(text, passes_rules, frozenset()) == []


def test_spans_are_in_order_and_apart() -> None:
    text = f"{'M' * 30} {ASPIRIN} {'ATGC' * 8} {ASPIRIN}"
    spans = find(text, passes_rules, ALL)
    assert [s.kind for s in spans] == ["PROT", "SMILES", "XNA", "SMILES"]
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert isinstance(spans[0], Span)


def test_the_quick_question_misses_nothing() -> None:
    """Whatever the full search accepts, the quick test lets through."""
    units = [
        "C",
        "c",
        "N",
        "O",
        "Cl",
        "Br",
        "1",
        "1",
        "(",
        ")",
        "=",
        "[Na+]",
        "[nH]",
        "%12",
        "S",
        "-",
        "[C H]",
        " ",
        "[",
        "]",
        "a",
        "--",
    ]
    generator, found = random.Random(0), 0
    for _ in range(20_000):
        text = "".join(generator.choices(units, [10, 5] + [2] * 6 + [1] * 14, k=generator.randrange(10, 24)))
        if list(detect._smiles(text, passes_rules)):
            found += 1
            assert detect._may_hold_smiles(text.encode()), text
    assert found > 300


def test_scanning_agrees_with_the_regular_expression() -> None:
    units = ["C", "c", "N", "Cl", "Si", "1", "(", ")", "=", ".", ":", "%", "[Na+]", "[", "]", "[]", "[[", " ", "é", "x"]
    generator, found = random.Random(0), 0
    for _ in range(20_000):
        text = "".join(generator.choices(units, [12, 6] + [2] * 11 + [1] * 7, k=generator.randrange(40)))
        expected = [match.span() for match in detect._SMILES.finditer(text)]
        assert list(detect._scan(text)) == expected, text
        found += len(expected)
    assert found > 3000


@pytest.mark.parametrize("flood", ["[", "[x", "C[", "C[C", "[[C", "CCCCC[ ", "(", "C.", "--C", "[C]"])
@pytest.mark.parametrize("after", ["", "]", "]CCCCCCCCCC"])
def test_floods_take_linear_time(flood: str, after: str) -> None:
    text = "CCCCCCCCCC" + flood * (100_000 // len(flood)) + after
    start = time.process_time()
    find(text, passes_rules, ALL)
    detect.is_doubtful(text)
    assert time.process_time() - start < 3


def words_of(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


def test_no_word_of_a_found_molecule_is_ordinary() -> None:
    units = [
        "C",
        "c",
        "N",
        "O",
        "1",
        "(",
        ")",
        "=",
        "[Na+]",
        "[nH]",
        "S",
        "[C H]",
        "[C\n\tH]",
        " ",
        "[",
        "]",
        "a",
        "M" * 27,
    ]
    generator, found = random.Random(0), 0
    for _ in range(40_000):
        text = "".join(
            generator.choices(units, [14, 6] + [2] * 6 + [1, 1, 2, 4, 2, 1, 1, 1, 1, 0.1], k=generator.randrange(3, 30))
        )
        if find(text, passes_rules, ALL):
            found += 1
            assert any(map(detect.is_doubtful, words_of(text))), text
    assert found > 2000


def test_ordinary_words_are_ordinary() -> None:
    for word in (
        " the",
        " array([1,",
        " 2])",
        " x[0,",
        "\n\n----------",
        " 3.14159265358979",
        " [ABC",
    ):
        assert not detect.is_doubtful(word), word


def test_rdkit_refuses_valences_and_the_bracketed_molecule() -> None:
    pytest.importorskip("rdkit")
    check = detect.detector_check("rdkit")
    pentavalent = "C(C)(C)(C)(C)CCCCC"
    assert passes_rules(pentavalent)
    assert not check(pentavalent)
    text = "see (CN1CCC[C@H]1c1cccnc1) here"
    assert find(text, check, ALL) == []
    assert len(find(text, passes_rules, ALL)) == 1


def test_rdkit_is_not_asked_about_giants() -> None:
    pytest.importorskip("rdkit")
    check = detect.detector_check("rdkit")
    assert check("C" * detect.MAX_RDKIT_LENGTH)
    assert not check("C" * (detect.MAX_RDKIT_LENGTH + 1))


def test_rdkit_must_be_installed_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("rdkit", "science")

    monkeypatch.setattr(detect, "chem", missing)
    with pytest.raises(MissingExtraError, match=re.escape("s1pro[science]")):
        detect.detector_check("rdkit")
    with pytest.raises(ValueError, match="guess"):
        detect.detector_check("guess")  # type: ignore[arg-type]
