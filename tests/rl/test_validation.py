"""Scores of held-out items: who is asked what, with which seed."""

from __future__ import annotations

from typing import Any

import pytest

from s1pro.base.records import Completion, Message, Sampling
from s1pro.rl.validation import item_scores
from tests.rl.vowels import Vowels


class Noted:
    """Answers with one vowel in four, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, list[int | None]] = {}

    async def chat(self, messages: tuple[Message, ...], sampling: Sampling) -> Completion:
        self.asked.setdefault(str(messages[0].content), []).append(sampling.seed)
        return Completion(text="abcd", finish_reason="stop", token_ids=(1,))


def asked(draws: int, **sampling: Any) -> list[list[int | None]]:
    client = Noted()
    how = Sampling(max_new_tokens=4, **sampling)
    scores = item_scores({"vowels": Vowels(size=5)}, client, limit=5, sampling=how, draws=draws)  # type: ignore[arg-type]
    assert scores == {"vowels": [0.25] * 5}
    return list(client.asked.values())


@pytest.mark.parametrize("draws", [1, 3])
def test_every_draw_of_every_item_has_a_seed_of_its_own(draws: int) -> None:
    seeds = asked(draws, temperature=1.0, seed=7)
    assert [len(of_item) for of_item in seeds] == [draws] * 5
    assert len({seed for of_item in seeds for seed in of_item}) == 5 * draws
    assert asked(draws, temperature=1.0, seed=7) == seeds != asked(draws, temperature=1.0, seed=8)


def test_greedy_answers_need_none() -> None:
    assert asked(1, seed=7) == [[7]] * 5
    with pytest.raises(ValueError, match="draws=2 at temperature 0"):
        asked(2)
