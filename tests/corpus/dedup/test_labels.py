from __future__ import annotations

import pytest

from s1pro.corpus.dedup.labels import texts_agree, tokens_of

AXES = "0.0 0.5 1.0 1.5 2.0 −10 −5 0 5 10 Energy (eV) Intensity (a.u.) sample A"


def test_tokens_are_folded() -> None:
    assert tokens_of("−10 ﬁeld, (eV) Ｔ 5%") == tuple(sorted(["-10", "field", "ev", "t", "5%"]))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (AXES, True),
        ("", True),  # a scan: the pixels decide
        (AXES.replace("−", "-").upper(), True),
        (AXES.replace("0.5", "0.6"), False),  # one tick
        (AXES.replace("Energy", "Enthalpy"), False),
        (AXES.replace("−10 −5 ", ""), True),  # lost at the edge of a crop
        (AXES.replace("Intensity", "ensity"), True),  # cut in the middle
        (AXES + " a legend with ten more words than the other one had", False),
        ("0 . 0 0 . 5 1 . 0 1 . 5 2 . 0 −10 −5 0 5 10 Energy ( eV ) Intensity (a.u.) sample A", True),
        ("7 8 9", False),
    ],
)
def test_what_speaks_against_a_copy(other: str, same: bool) -> None:
    first, second = tokens_of(AXES), tokens_of(other)
    assert texts_agree(first, second) is same
    assert texts_agree(second, first) is same
