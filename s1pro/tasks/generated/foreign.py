"""Environments of others as tasks: code that nobody here has read, so it runs behind walls (`tasks.confined`).

    path/to/sudoku.py:Sudoku         a class in a file; files beside it can be imported
    some_package.sudoku:Sudoku       a class in an installed package, or a function that makes an environment

The environment has the shape of `generated.environment` (InternBootcamp's): `case_generator()`, `prompt_func(case)`,
`verify_score(output, case)`, and `extract_output(output)` where it says whether there was an answer at all. Cases must
be JSON-able. Every call has a process of its own; one that hangs, crashes or fills the memory scores its answer 0, and
the part `verified` of the score counts how often that happened.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.science.split import Split
from s1pro.tasks.confined.parent import Confined, Outcome, Walls
from s1pro.tasks.generated.environment import science_prompt
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

_INSIDE = "s1pro.tasks.generated.inside"
_MAKING = Walls(seconds=120.0, memory_mb=1024)


class ForeignTask:
    """See the module docstring. Implements `tasks.task.Task`.

    Args:
        name: of the environment; also that of the task.
        num_items: at most so many; fewer where the environment makes no more different cases.
        walls: of checking one answer.

    Raises:
        InputError: no such environment, or it makes no cases.
        ConfinementError: code of others cannot be confined here.
    """

    def __init__(
        self, name: str, *, split: Split = "test", num_items: int = 200, seed: int = 0, walls: Walls | None = None
    ) -> None:
        self.name = name
        self._target, folder = located(name)
        walls = walls or Walls()
        self._confined = Confined(_within(walls, folder))
        making = Confined(_within(_MAKING, folder))
        made = making.ask(
            {
                "op": "call",
                "function": f"{_INSIDE}:make",
                "arguments": {"target": self._target, "split": split, "count": num_items, "seed": seed},
            }
        )
        making.close()
        if made.ended != "done" or not made.value:
            why = " ".join(made.output[-300:].split()) or made.ended
            if made.ended == "done":
                why = f"case_generator() gave no JSON object that belongs to the split {split!r}"
            raise InputError(f"{name}: makes no cases ({why})")
        self._items = tuple(
            Item(id=f"{self._target.rpartition(':')[2]}-{i:04}", asked=entry) for i, entry in enumerate(made.value)
        )

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        return science_prompt(item.asked["prompt"])

    def expected(self, item: Item) -> str:
        """Environments of others do not say."""
        return ""

    async def score(self, item: Item, response: str) -> Score:
        said = response.rpartition("</think>")[2]
        outcome = await self._confined.call(
            f"{_INSIDE}:verify", target=self._target, output=said, case=item.asked["case"]
        )
        return _score(outcome)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return mean_parts(scores)


def is_foreign(name: str) -> bool:
    """Whether this is the name of an environment of others."""
    return ":" in name


def located(name: str) -> tuple[str, Path | None]:
    """`module:attribute`, and the folder that must be visible beside Python's packages.

    Raises:
        InputError: nothing of that name.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise InputError(f"{name!r}: name an environment as path/to/file.py:Class or package.module:Class")
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise InputError(f"{name}: there is no file {path}")
        if not path.stem.isidentifier():
            raise InputError(f"{name}: {path.name} cannot be imported; rename it")
        return f"{path.stem}:{attribute}", path.parent
    top = place.split(".")[0]
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is None or spec.origin is None:
        raise InputError(f"{name}: there is no package {top!r}; install it, or name a file.py:Class")
    folder = Path(spec.origin).resolve().parents[1 if spec.submodule_search_locations else 0]
    inside = str(folder).startswith((sys.prefix, sys.base_prefix))
    return f"{place}:{attribute}", None if inside else folder


def _within(walls: Walls, folder: Path | None) -> Walls:
    folders = walls.folders if folder is None else (*walls.folders, folder)
    return Walls(seconds=walls.seconds, memory_mb=walls.memory_mb, output_bytes=walls.output_bytes, folders=folders)


def _score(outcome: Outcome) -> Score:
    if outcome.ended != "done":
        return Score(value=0.0, valid=False, extraction=outcome.ended, parts={"verified": 0.0})
    found = outcome.value
    return Score(value=float(found["value"]), valid=bool(found["valid"]), parts={"verified": 1.0})
