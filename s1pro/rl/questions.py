"""Which questions a step asks: tasks by their weights, items of each in a shuffled order without repetition.

The choice for step n is a function of the seed and n alone. So a run that was killed asks the same questions again, and
nothing but the number of the step has to be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s1pro.base.errors import InputError
from s1pro.data.permutation import Permutation
from s1pro.inputs.processor import Processor
from s1pro.rl.config import TaskConfig
from s1pro.rl.rollout import Question
from s1pro.tasks.task import Item, Task


class Questions:
    """Endless questions over several tasks.

    Args:
        tasks: by name; `configs` says how often each is asked.

    Raises:
        InputError: a task without items.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        configs: Sequence[TaskConfig],
        processor: Processor,
        *,
        per_step: int,
        seed: int,
        enable_thinking: bool = False,
    ) -> None:
        self._processor, self._enable_thinking = processor, enable_thinking
        self._tasks = [tasks[config.name] for config in configs]
        self._items = [list(task.items()) for task in self._tasks]
        empty = [config.name for config, items in zip(configs, self._items, strict=True) if not items]
        if empty:
            raise InputError(f"tasks.{', '.join(empty)}: there are no items")
        total = sum(config.weight for config in configs)
        self._shares = [config.weight / total for config in configs]
        self._per_step, self._seed = per_step, seed
        self._order: list[tuple[int, int]] = []  # task and number in it, of every question so far
        self._counts = [0] * len(self._shares)

    def of_step(self, step: int) -> list[Question]:
        """The questions of step 0, 1, …"""
        start, stop = step * self._per_step, (step + 1) * self._per_step
        while len(self._order) < stop:
            self._order.append(self._next())
        return [self._question(which, number) for which, number in self._order[start:stop]]

    def _next(self) -> tuple[int, int]:
        """The task that is furthest behind its share."""
        behind = [
            share * (len(self._order) + 1) - count for share, count in zip(self._shares, self._counts, strict=True)
        ]
        which = behind.index(max(behind))
        self._counts[which] += 1
        return which, self._counts[which] - 1

    def _question(self, which: int, number: int) -> Question:
        task, items = self._tasks[which], self._items[which]
        epoch, place = divmod(number, len(items))
        item = items[Permutation(len(items), self._seed, task.name, epoch)[place]]
        return question_of(task, item, self._processor, enable_thinking=self._enable_thinking)


def question_of(task: Task, item: Item, processor: Processor, *, enable_thinking: bool) -> Question:
    """The prompt of an item as ids.

    Raises:
        InputError: the prompt holds media or tools, which rollouts do not take yet.
    """
    prompt = task.prompt(item)
    encoded = processor.encode(
        prompt.messages, add_generation_prompt=True, enable_thinking=enable_thinking, allow_control_tokens=False
    )
    if encoded.media is not None or prompt.tools:
        raise InputError(f"task {task.name!r}: rollouts take text only so far, and item {item.id!r} has media or tools")
    return Question(task=task.name, item=item, token_ids=tuple(encoded.token_ids))
