"""Pairs of hashes that are near, without comparing all with all.

A hash of 256 bits is cut into `bands` parts of equal length. Two hashes are **candidates** if some part agrees up to
one bit, and at most `radius` bits differ in all. If no part agreed up to one bit, every part would have two wrong bits
or more, so every pair with at most `2 * bands - 1` different bits is found; of those further apart nearly all are.

This is a property of the two hashes alone. It does not depend on which others are there, their order, or how they are
spread over machines: the pairs of a union are the pairs inside each part and those across (`pairs_within`,
`pairs_across`), or, as one shuffle, the groups of equal `(band, key)` over the keys of `probes`.

Two ways find the same pairs:

* numpy: per band the keys are sorted, and each key and its neighbours at one bit are looked up;
* faiss (`BinaryMultiHash` with as many tables as bands, one flip), when it is installed: its parts are the same bits.

Equal hashes are looked up once: a thousand copies of a logo are one key.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np

from s1pro.corpus.phash import BITS

_CHUNK = 2_000_000


def band_width(bands: int) -> int:
    """Bits of one part. Bits that are left over belong to no part; they count for the radius."""
    return BITS // bands


def band_keys(words: np.ndarray, bands: int) -> np.ndarray:
    """Keys of every part: `(number, bands)` int64 for hashes `(number, 4)` uint64.

    Part `i` is the bits from `i * width` on in the order of the bytes, lowest bit of a byte first (as faiss counts).
    """
    width = band_width(bands)
    octets = words.astype(">u8").view(np.uint8).reshape(len(words), BITS // 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, : bands * width].reshape(len(words), bands, width)
    return bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))


def pairs_within(words: np.ndarray, *, radius: int, bands: int, use_faiss: bool | None = None) -> np.ndarray:
    """All candidate pairs: `(pairs, 2)` int64 positions with first < second, sorted.

    Args:
        words: hashes `(number, 4)` uint64.
        use_faiss: None takes it if it is installed.
    """
    unique, inverse = np.unique(words, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    if use_faiss if use_faiss is not None else importlib.util.find_spec("faiss") is not None:
        found = _faiss_pairs(unique, radius, bands)
    else:
        found = _numpy_pairs(unique, radius, bands)
    return _expanded(found, inverse, len(unique))


def pairs_across(first: np.ndarray, second: np.ndarray, *, radius: int, bands: int) -> np.ndarray:
    """Candidate pairs between two shards: `(pairs, 2)` int64, positions in the first and in the second, sorted."""
    if not len(first) or not len(second):
        return np.empty((0, 2), dtype=np.int64)
    width = band_width(bands)
    keys_first, keys_second = band_keys(first, bands), band_keys(second, bands)
    found = []
    for band in range(bands):
        order = np.argsort(keys_second[:, band], kind="stable")
        ordered = keys_second[order, band]
        for flip in (0, *(1 << bit for bit in range(width))):
            for left, right in _matches(keys_first[:, band] ^ flip, ordered):
                near = _near(first, second, left, order[right], radius)
                found.append(np.stack([left[near], order[right][near]], axis=1))
    return _sorted_unique(found)


def _numpy_pairs(words: np.ndarray, radius: int, bands: int) -> np.ndarray:
    width = band_width(bands)
    keys = band_keys(words, bands)
    found = []
    for band in range(bands):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        for flip in (0, *(1 << bit for bit in range(width))):
            # each pair once: of two keys that differ in a bit, the one without it looks for the other
            asking = np.flatnonzero((ordered & flip) == 0)
            for left, right in _matches(ordered[asking] | flip, ordered):
                left = asking[left]
                if not flip:
                    later = right > left
                    left, right = left[later], right[later]
                left, right = order[left], order[right]
                near = _near(words, words, left, right, radius)
                found.append(np.sort(np.stack([left[near], right[near]], axis=1), axis=1))
    return _sorted_unique(found)


def _matches(wanted: np.ndarray, ordered: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of (position in `wanted`, position in `ordered`) with equal keys."""
    start = np.searchsorted(ordered, wanted, side="left")
    counts = np.searchsorted(ordered, wanted, side="right") - start
    ends = np.cumsum(counts)
    position = 0
    while position < len(wanted):
        done = ends[position - 1] if position else 0
        stop = max(position + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        some = counts[position:stop]
        left = np.repeat(np.arange(position, stop), some)
        within = np.arange(len(left)) - np.repeat(np.cumsum(some) - some, some)
        if len(left):
            yield left, np.repeat(start[position:stop], some) + within
        position = stop


def _near(first: np.ndarray, second: np.ndarray, left: np.ndarray, right: np.ndarray, radius: int) -> np.ndarray:
    """Positions of the pairs within the radius; half of the bits first, because most pairs fail there."""
    half = np.bitwise_count(first[left, 0] ^ second[right, 0]) + np.bitwise_count(first[left, 1] ^ second[right, 1])
    kept = np.flatnonzero(half <= radius)
    left, right, half = left[kept], right[kept], half[kept].astype(np.int64)
    rest = np.bitwise_count(first[left, 2] ^ second[right, 2]).astype(np.int64) + np.bitwise_count(
        first[left, 3] ^ second[right, 3]
    )
    return kept[half + rest <= radius]


def _faiss_pairs(words: np.ndarray, radius: int, bands: int) -> np.ndarray:
    import faiss

    octets = np.ascontiguousarray(words.astype(">u8").view(np.uint8).reshape(len(words), BITS // 8))
    index = faiss.IndexBinaryMultiHash(BITS, bands, band_width(bands))
    index.nflip = 1
    index.add(octets)
    found = []
    for start in range(0, len(words), 65536):
        limits, _, labels = index.range_search(octets[start : start + 65536], radius + 1)
        left = np.repeat(np.arange(start, start + len(limits) - 1), np.diff(limits.astype(np.int64)))
        later = labels > left
        found.append(np.stack([left[later], labels[later]], axis=1))
    return _sorted_unique(found)


def _expanded(pairs: np.ndarray, inverse: np.ndarray, num_unique: int) -> np.ndarray:
    """Pairs of different hashes become pairs of their owners; owners of one hash are pairs too."""
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(num_unique + 1))
    sizes = np.diff(starts)
    found = [np.empty((0, 2), dtype=np.int64)]
    simple = (sizes[pairs[:, 0]] == 1) & (sizes[pairs[:, 1]] == 1) if len(pairs) else np.empty(0, dtype=bool)
    single = pairs[simple]
    found.append(np.stack([order[starts[single[:, 0]]], order[starts[single[:, 1]]]], axis=1))
    for a, b in pairs[~simple]:
        first, second = order[starts[a] : starts[a + 1]], order[starts[b] : starts[b + 1]]
        found.append(np.stack([np.repeat(first, len(second)), np.tile(second, len(first))], axis=1))
    for a in np.flatnonzero(sizes > 1):
        owners = order[starts[a] : starts[a + 1]]
        left, right = np.triu_indices(len(owners), 1)
        found.append(np.stack([owners[left], owners[right]], axis=1))
    return _sorted_unique([np.sort(each, axis=1) for each in found])


def _sorted_unique(found: list[np.ndarray]) -> np.ndarray:
    pairs = np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2).astype(np.int64)
