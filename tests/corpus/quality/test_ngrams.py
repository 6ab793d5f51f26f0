"""The counted models against their formulas by dictionary, and what they notice."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from s1pro.corpus.quality.ngrams import NgramModel, count, tokens_of

TEXTS = [
    "the cat sat on the mat and the dog sat on the rug",
    "a dog sat on the mat while the cat ran to the door",
    "the door of the house is open and the cat is on the mat",
] * 3


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return count(TEXTS, num_words=50)


def test_the_interpolation_is_that_of_the_formula(model: NgramModel) -> None:
    units = model.units(tokens_of(TEXTS[0]))
    gains, surprisal = model.gains(units)
    start = model.units([])  # nothing
    assert start.size == 0
    rows = [[-1, -1, *model.units(tokens_of(text)).tolist()] for text in TEXTS]
    triples = Counter((r[i], r[i + 1], r[i + 2]) for r in rows for i in range(len(r) - 2))
    pairs = Counter((r[i + 1], r[i + 2]) for r in rows for i in range(len(r) - 2))
    d = 0.7

    def mixed(count_of: int, total: int, kinds: int, lower: float) -> float:
        return max(count_of - d, 0) / total + d * kinds / total * lower if total else lower

    u, v, w = (int(x) for x in units[4:7])
    alone = math.exp(model.unigram[w])
    two = mixed(pairs[v, w], sum(c for k, c in pairs.items() if k[0] == v), len([k for k in pairs if k[0] == v]), alone)
    three = mixed(
        triples[u, v, w],
        sum(c for k, c in triples.items() if k[:2] == (u, v)),
        len([k for k in triples if k[:2] == (u, v)]),
        two,
    )
    assert surprisal[6] == pytest.approx(-math.log(three), abs=1e-9)
    assert gains[6] == pytest.approx(math.log(three) - math.log(alone), abs=1e-9)


def test_order_is_noticed(model: NgramModel) -> None:
    units = model.units(tokens_of("the cat sat on the mat and the dog ran to the door"))
    shuffled = np.random.default_rng(0).permutation(units)
    assert model.gains(units)[0].mean() > model.gains(shuffled)[0].mean() + 0.5
    assert model.surprise_of_pairs(units) < model.surprise_of_pairs(shuffled)


def test_letters_sum_to_one_and_odd_words_surprise(model: NgramModel) -> None:
    assert np.allclose(np.exp(model.letters.astype(float)).sum(-1), 1, atol=1e-3)
    usual, odd = model.letter_surprisal(["house", "hqzxe"])
    assert odd > usual + 1


def test_unseen_words_have_a_shape(model: NgramModel) -> None:
    units = model.units(["walking", "DNA", "Paris", "3.5", "pH", "q", "→"])
    assert len(set(units.tolist())) == 7 and units.min() >= len(model.words)


def test_file_and_back(model: NgramModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.npz")
    again = NgramModel.load(tmp_path / "m.npz")
    units = model.units(tokens_of(TEXTS[1]))
    assert np.allclose(model.gains(units)[0], again.gains(units)[0], atol=1e-5)
    assert again.lexicon == model.lexicon and again.small == model.small
    assert np.allclose(model.letters, again.letters, atol=1 / 32 + 1e-6)
