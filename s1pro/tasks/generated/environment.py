"""Environments that make problems and check answers, as tasks.

    case = environment.case_generator()            a problem, JSON-able
    environment.prompt_func(case)                  what is asked
    environment.verify_score(output, case)         how right an answer is, 0 to 1

That is the shape of InternBootcamp's environments and of many others. Those of this package (`generated/*.py`) also
take their random numbers from outside, read an answer (`read`), and know a right one (`answer`). Environments of others
run behind walls (`generated/foreign.py`).

A case belongs to one split, by the hash of its JSON text: questions that are learned from are never asked in an
examination, however many are made.
"""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.science.split import Split
from s1pro.science.system_prompts import SYSTEM_PROMPTS
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

Case = dict[str, Any]
_SHARES: Mapping[Split, range] = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
_TRIES = 60  # per item that is wanted


class Environment(Protocol):
    """See the module docstring; `Case` is a JSON object here."""

    def case_generator(self) -> Case: ...

    def prompt_func(self, case: Case) -> str: ...

    def verify_score(self, output: str, case: Case) -> float: ...

    def read(self, output: str) -> Any:
        """What an answer says; None if there is nothing of the right form."""
        ...

    def answer(self, case: Case) -> str:
        """A right answer."""
        ...


class Exact(ABC):
    """What environments of one right value have in common: almost right is no reward."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    @abstractmethod
    def read(self, output: str) -> Any:
        """As in `Environment`."""

    @abstractmethod
    def value(self, case: Case) -> Any:
        """The right one, as `read` gives it."""

    def answer(self, case: Case) -> str:
        return str(self.value(case))

    def verify_score(self, output: str, case: Case) -> float:
        return float(self.read(output) == self.value(case))


class GeneratedTask:
    """An environment of this package. Implements `tasks.task.Task`.

    Args:
        make: the environment with its random numbers.
        num_items: at most so many; fewer where there are no more different cases.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[random.Random], Environment],
        *,
        split: Split = "test",
        num_items: int = 200,
        seed: int = 0,
    ) -> None:
        self.name = name
        self._environment = make(random.Random(f"{name} {split} {seed}"))
        cases = different_cases(self._environment.case_generator, split, num_items)
        if not cases:
            raise InputError(f"task {name!r} makes no case for the split {split!r}")
        self._items = tuple(Item(id=f"{name}-{i:04}", asked={"case": case}) for i, case in enumerate(cases))

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        return science_prompt(self._environment.prompt_func(item.asked["case"]))

    def expected(self, item: Item) -> str:
        """A right answer."""
        return self._environment.answer(item.asked["case"])

    async def score(self, item: Item, response: str) -> Score:
        said = response.rpartition("</think>")[2]
        found = self._environment.read(said)
        if found is None:
            return Score(value=0.0, valid=False)
        return Score(value=self._environment.verify_score(said, item.asked["case"]), extraction=found)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return mean_parts(scores)


def science_prompt(question: str) -> Prompt:
    """A question under the science system prompt."""
    system = Message(role="system", content=SYSTEM_PROMPTS["science"])
    return Prompt(messages=(system, Message(role="user", content=question)))


def different_cases(generate: Callable[[], Any], split: Split, count: int) -> list[Any]:
    """The first `count` different cases of a split that come; fewer if they stop coming.

    Raises:
        TypeError: a case that is not JSON-able.
    """
    found: dict[str, Any] = {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        case = generate()
        text = json.dumps(case, sort_keys=True)
        place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % 10
        if place in _SHARES[split]:
            found.setdefault(text, case)
    return list(found.values())
