"""A shuffled order without storing it: a seeded bijection of 0 .. n - 1, evaluated one index at a time.

A four-round Feistel network over the smallest even number of bits that covers n, with *cycle walking*: an image outside
the range is sent through again until it lands inside (fewer than four times on average). The position of a
reader is then a single integer, whatever the size of the source, and resuming costs nothing.
"""

from __future__ import annotations

import hashlib

ROUNDS = 4
MASK64 = (1 << 64) - 1


class Permutation:
    """`permutation[i]` for i in 0 .. size - 1 visits every index once. Equal keys give equal orders."""

    def __init__(self, size: int, *key: int | str) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, got size {size}")
        self.size = size
        self._half_bits = max((max(size - 1, 1).bit_length() + 1) // 2, 1)
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * ROUNDS).digest()
        self._round_keys = [int.from_bytes(digest[8 * r : 8 * r + 8], "little") for r in range(ROUNDS)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} outside 0 .. {self.size - 1}")
        value = self._encrypt(index)
        while value >= self.size:
            value = self._encrypt(value)
        return value

    def _encrypt(self, value: int) -> int:
        half, mask = self._half_bits, (1 << self._half_bits) - 1
        left, right = value >> half, value & mask
        for key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half) | right


def _mix(x: int) -> int:
    """A 64-bit finaliser with full avalanche (multiply and xor-shift twice)."""
    x &= MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)
