"""Mixture, permutation and length policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.permutation import Permutation
from s1pro.data.sequence import TokenSequence


class FakeSource:
    """Samples of given lengths (rows); token k of sample i is a number that names both."""

    def __init__(self, name: str, rows: Sequence[int], conversation: bool = False) -> None:
        self.name, self._rows, self._conversation = name, rows, conversation

    def __len__(self) -> int:
        return len(self._rows)

    def num_rows(self, index: int) -> int:
        return self._rows[index]

    def is_conversation(self, index: int) -> bool:
        return self._conversation

    def has_media(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        n = self._rows[index] + 1
        ids = np.arange(n, dtype=np.int32) + 1000 * index
        return TokenSequence(token_ids=ids, loss_weights=np.ones(n, dtype=np.float32), prompt_group="science")


@given(st.integers(1, 3000), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_permutation_is_a_bijection(size: int, seed: int) -> None:
    order = Permutation(size, seed, "x")
    assert sorted(order[i] for i in range(size)) == list(range(size))


def test_permutation_depends_on_every_part_of_the_key_and_looks_random() -> None:
    orders = {
        tuple(Permutation(50, *key)[i] for i in range(50))
        for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(orders) == 4
    order = np.asarray([Permutation(1000, 3)[i] for i in range(1000)])
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.1
    huge = Permutation(10**15, 1)
    assert 0 <= huge[10**15 - 1] < 10**15


def test_shares_are_those_of_rows_whatever_the_lengths() -> None:
    sources = [FakeSource("short", [3] * 10), FakeSource("long", [40, 30]), FakeSource("mid", list(range(5, 15)))]
    mixture = Mixture(sources, [1, 2, 1], policy=LengthPolicy(max_length=64))
    rows: Counter[int] = Counter()
    for _ in range(3000):
        draw = mixture.next()
        assert draw is not None
        rows[draw.source] += draw.num_rows
    total = sum(rows.values())
    assert [rows[i] / total for i in range(3)] == pytest.approx([0.25, 0.5, 0.25], abs=0.005)


def test_every_epoch_visits_each_sample_once_in_another_order() -> None:
    mixture = Mixture([FakeSource("a", [2] * 20)], [1], policy=LengthPolicy(max_length=4), seed=5)
    epochs = [[draw.index for _ in range(20) if (draw := mixture.next())] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20)) and epochs[0] != epochs[1]
    assert mixture.epochs() == {"a": 2.0}


def test_without_repetition_each_sample_comes_once_in_order() -> None:
    mixture = Mixture(
        [FakeSource("a", [2] * 3), FakeSource("b", [1] * 2)],
        [1, 1],
        policy=LengthPolicy(max_length=4),
        repeat=False,
        shuffle=False,
    )
    drawn = []
    while (draw := mixture.next()) is not None:
        drawn.append((draw.source, draw.index))
    assert [i for s, i in drawn if s == 0] == [0, 1, 2] and [i for s, i in drawn if s == 1] == [0, 1]
    assert mixture.next() is None


def test_length_policy() -> None:
    def mixture(conversation: bool, **policy: object) -> Mixture:
        source = FakeSource("a", [9, 2, 0], conversation)
        return Mixture([source], [1], policy=LengthPolicy(max_length=4, **policy), shuffle=False)  # type: ignore[arg-type]

    split = mixture(False)
    assert [split.next().num_rows for _ in range(3)] == [9, 2, 9]  # type: ignore[union-attr]
    assert split.dropped() == {"a": 1}
    with pytest.raises(InputError, match="conversation 0 has 10 tokens, more than max_length=4"):
        mixture(True).next()
    dropping = mixture(True, long_conversations="drop")
    assert [dropping.next().num_rows for _ in range(2)] == [2, 2]  # type: ignore[union-attr]
    assert dropping.dropped() == {"a": 3}
    with pytest.raises(InputError, match="all 1 samples are empty or longer than 4"):
        Mixture([FakeSource("z", [0])], [1], policy=LengthPolicy(max_length=4)).next()


def test_state_refuses_other_data() -> None:
    policy = LengthPolicy(max_length=4)
    state = Mixture([FakeSource("a", [2] * 3)], [1], policy=policy).state_dict()
    with pytest.raises(InputError, match="belongs to other data"):
        Mixture([FakeSource("a", [2] * 4)], [1], policy=policy).load_state_dict(state)
    with pytest.raises(InputError, match="belongs to other data"):
        Mixture([FakeSource("a", [2] * 3)], [1], policy=policy, seed=1).load_state_dict(state)


@pytest.mark.parametrize("weights", [[0.0], [-1.0], [float("nan")], [float("inf")], []])
def test_weights_must_be_positive(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weight"):
        Mixture([FakeSource("a", [2])], weights, policy=LengthPolicy(max_length=4))
