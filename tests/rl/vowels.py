"""Tasks without torch, so that processes that score start at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from s1pro.base.records import Message
from s1pro.tasks.task import Item, Prompt, Score


class Vowels:
    """How many of the first letters of an answer are vowels."""

    def __init__(self, name: str = "vowels", size: int = 20) -> None:
        self.name, self._size = name, size

    def items(self) -> list[Item]:
        return [Item(id=f"{self.name}-{i}", asked={"n": i}) for i in range(self._size)]

    def prompt(self, item: Item) -> Prompt:
        return Prompt(messages=(Message(role="user", content=f"{self.name} {item.asked['n']}"),))

    async def score(self, item: Item, response: str) -> Score:
        vowels = sum(letter in "aeiouAEIOU" for letter in response)
        return Score(value=vowels / max(len(response), 1), valid=bool(response))

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


class Traps(Vowels):
    """Some answers hang, crash or raise."""

    async def score(self, item: Item, response: str) -> Score:
        kind = sum(map(ord, response)) % 12
        if kind == 0:
            time.sleep(3600)
        if kind == 1:
            os._exit(1)
        if kind == 2:
            raise ValueError(response)
        return await super().score(item, response)
