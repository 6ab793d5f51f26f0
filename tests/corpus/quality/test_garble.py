from __future__ import annotations

import pytest

from s1pro.corpus.quality.garble import FAMILIES, garble

TEXT = (
    "The algorithm recurses on the children of each copy. It terminates because the graph has no cycles, and the "
    "number of nodes is bounded. Memory grows with the depth of the tree but not with its width, as the second "
    "figure shows."
)
OTHERS = [
    "A histogram counts how many values fall into each interval. Its width is chosen so that the error stays small for "
    "all of the distributions that occur here. The last bin is closed on both sides.",
    "Solvers differ in what they need to know. Some want the matrix itself while others are content with its product "
    "with a vector, which is cheaper to compute.",
]


def test_there_are_fourteen() -> None:
    assert len(FAMILIES) == 14


@pytest.mark.parametrize("family", list(FAMILIES))
def test_damage_is_a_function_of_text_and_seed(family: str) -> None:
    made = [garble(TEXT, family, seed, OTHERS) for seed in range(12)]
    assert made == [garble(TEXT, family, seed, OTHERS) for seed in range(12)]
    assert all(text != TEXT for text in made) and len(set(made)) > 1


def test_what_some_families_do() -> None:
    assert sorted(garble(TEXT, "shuffled", 1, OTHERS).split()) == sorted(TEXT.split())
    assert garble(TEXT, "lost_spaces", 1, OTHERS).replace(" ", "") == TEXT.replace(" ", "")
    assert garble(TEXT, "broken_words", 1, OTHERS).replace("- ", "").replace(" ", "") == TEXT.replace(" ", "")
    mixed = set(garble(TEXT, "interleaved", 1, OTHERS).split())
    assert mixed - set(TEXT.split()) and mixed & set(TEXT.split())
    assert set(garble(TEXT, "word_soup", 1, OTHERS).split()) <= {word for text in OTHERS for word in text.split()}


def test_unknown_family() -> None:
    with pytest.raises(ValueError, match="'blurred' is not a family"):
        garble(TEXT, "blurred", 0, OTHERS)
