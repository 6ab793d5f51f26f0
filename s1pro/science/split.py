"""Which split a molecule belongs to, from its cluster alone: the same in every run, whatever else is loaded.

A hash of the cluster (scaffold, or skeleton of a molecule without rings; `science.molecules`) decides, so all molecules
of a cluster are in one split, and neither order nor size of the data has any influence. Benzene is the scaffold of more
than a quarter of all small molecules: as a test set it would be lopsided, so it always trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from s1pro.science.molecules import Molecule

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ALWAYS_TRAIN = ("c1ccccc1",)
VALIDATION_SHARE = 0.05
TEST_SHARE = 0.10


def split_of(cluster: str) -> Split:
    """The split of a cluster."""
    if cluster in ALWAYS_TRAIN:
        return "train"
    place = int.from_bytes(hashlib.blake2b(cluster.encode(), digest_size=8).digest()) / 2**64
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


def select(molecules: Iterable[Molecule], split: Split) -> list[Molecule]:
    """The molecules of one split, in their order."""
    return [molecule for molecule in molecules if split_of(molecule.cluster) == split]
