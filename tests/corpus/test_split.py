from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.split import check_disjoint, split_molecules
from s1pro.science.molecules import Molecule
from s1pro.science.split import SPLITS


def test_nothing_is_in_two_splits(molecules: Sequence[Molecule]) -> None:
    parts, report = split_molecules(molecules)
    assert sum(report.molecules.values()) == len(molecules)
    names = {split: {text for m in parts[split] for text in (m.name, m.synonym) if text} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not {m.smiles for m in parts[one]} & {m.smiles for m in parts[other]}
        assert not {m.cluster for m in parts[one]} & {m.cluster for m in parts[other]}
        assert not names[one] & names[other]
    assert report.molecules["train"] > 5 * report.molecules["test"] > 0
    assert report.clusters["test"] > 10


def test_the_order_does_not_matter(molecules: Sequence[Molecule]) -> None:
    shuffled = random.Random(4).sample(molecules, len(molecules))
    (one, first), (other, second) = split_molecules(molecules), split_molecules(shuffled)
    assert first == second
    assert all({m.smiles for m in one[split]} == {m.smiles for m in other[split]} for split in SPLITS)


def test_a_held_out_name_leaves_the_training_synonyms(molecules: Sequence[Molecule]) -> None:
    parts, _ = split_molecules(molecules)
    leak = replace(parts["train"][0], synonym=parts["test"][0].name)
    again, report = split_molecules([leak, *parts["train"][1:], *parts["validation"], *parts["test"]])
    assert report.synonyms_removed == 1 and again["train"][0].synonym is None


def test_leaks_and_empty_splits_are_named(molecules: Sequence[Molecule]) -> None:
    parts, _ = split_molecules(molecules)
    with pytest.raises(InputError, match=r"the smiles .+ is in the splits"):
        check_disjoint({"train": parts["train"], "test": [*parts["test"], parts["train"][3]]})
    with pytest.raises(InputError, match="no molecule falls into"):
        split_molecules(parts["train"][:10])
