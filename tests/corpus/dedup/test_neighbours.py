"""Candidates against a comparison of all with all, in every way they are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from s1pro.corpus.dedup.neighbours import band_keys, band_width, pairs_across, pairs_within


def hashes(number: int = 400, seed: int = 0) -> np.ndarray:
    """Few centres with many bits changed around them, some of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (20, 256), dtype=np.uint8)
    bits = centres[rng.integers(0, 20, number)]
    for row in bits:
        row[rng.permutation(256)[: rng.integers(0, 30)]] ^= 1
    bits[5] = bits[6] = bits[7]
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def by_all(words: np.ndarray, radius: int, bands: int) -> set[tuple[int, int]]:
    """The definition, pair by pair."""
    keys, found = band_keys(words, bands), set()
    for i in range(len(words)):
        for j in range(i + 1, len(words)):
            distance = int(np.bitwise_count(words[i] ^ words[j]).sum())
            part = np.bitwise_count(keys[i] ^ keys[j]).min()
            if distance <= radius and part <= 1:
                found.add((i, j))
    return found


def as_set(pairs: np.ndarray) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in pairs}


@pytest.mark.parametrize("bands", [8, 11, 16])
def test_pairs_are_those_of_the_definition(bands: int) -> None:
    words = hashes(200)
    expected = by_all(words, 40, bands)
    assert len(expected) > 500
    assert as_set(pairs_within(words, radius=40, bands=bands, use_faiss=False)) == expected


@pytest.mark.parametrize("bands", [11, 16])
def test_faiss_finds_the_same_pairs(bands: int) -> None:
    pytest.importorskip("faiss")
    words = hashes()
    ours = pairs_within(words, radius=36, bands=bands, use_faiss=False)
    theirs = pairs_within(words, radius=36, bands=bands, use_faiss=True)
    assert len(ours) > 1000 and np.array_equal(ours, theirs)


def test_every_pair_up_to_the_guarantee_is_found() -> None:
    """31 changed bits spread as evenly as they can be over 16 parts."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, 2, 256, dtype=np.uint8)
    second = first.copy()
    for i in range(31):
        second[(i % 16) * band_width(16) + i // 16] ^= 1
    words = np.packbits(np.stack([first, second]), axis=1).view(">u8").astype(np.uint64)
    assert as_set(pairs_within(words, radius=31, bands=16, use_faiss=False)) == {(0, 1)}
    second[15 * band_width(16) + 5] ^= 1  # now every part has two wrong bits
    words = np.packbits(np.stack([first, second]), axis=1).view(">u8").astype(np.uint64)
    assert as_set(pairs_within(words, radius=40, bands=16, use_faiss=False)) == set()


def test_shards_give_the_same_pairs_as_the_whole() -> None:
    words = hashes()
    whole = as_set(pairs_within(words, radius=40, bands=16, use_faiss=False))
    borders = [0, 90, 91, 250, 400]
    parts = list(itertools.pairwise(borders))
    found = set()
    for k, (a, b) in enumerate(parts):
        found |= {(i + a, j + a) for i, j in as_set(pairs_within(words[a:b], radius=40, bands=16))}
        for c, d in parts[k + 1 :]:
            found |= {(i + a, j + c) for i, j in as_set(pairs_across(words[a:b], words[c:d], radius=40, bands=16))}
    assert found == whole


def test_order_does_not_matter_and_nothing_is_nothing() -> None:
    words = hashes(150)
    order = np.random.default_rng(3).permutation(150)
    again = pairs_within(words[order], radius=40, bands=16)
    renamed = {tuple(sorted((int(order[i]), int(order[j])))) for i, j in again}
    assert renamed == as_set(pairs_within(words, radius=40, bands=16))
    empty = np.empty((0, 4), dtype=np.uint64)
    assert pairs_within(empty, radius=40, bands=16, use_faiss=False).shape == (0, 2)
    assert pairs_across(empty, words, radius=40, bands=16).shape == (0, 2)
