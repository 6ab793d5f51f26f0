"""Which questions a step asks: tasks by their shares, items of each in a shuffled order without repetition.

Without a curriculum the choice for step n is a function of the seed and n alone. So a run that was killed asks the same
questions again, and nothing but the number of the step has to be remembered. With one (`rl.curriculum`) the shares
follow what the policy can do; then the order so far is part of the state, and a run goes on exactly from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.errors import InputError
from s1pro.data.permutation import Permutation
from s1pro.inputs.processor import Processor
from s1pro.rl.agent import Agent, needs_agent
from s1pro.rl.config import TaskConfig
from s1pro.rl.curriculum import Curriculum, CurriculumConfig
from s1pro.rl.rollout import Question, Rollout
from s1pro.tasks.task import Item, Task


class Questions:
    """Endless questions over several tasks.

    Args:
        tasks: by name; `configs` says how often each is asked.
        curriculum: None asks them by their weights.
        agent: whose tools the prompts describe.

    Raises:
        InputError: a task without items, or one with tools in a run without an agent.
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
        curriculum: CurriculumConfig | None = None,
        agent: Agent | None = None,
    ) -> None:
        self._processor, self._enable_thinking, self._agent = processor, enable_thinking, agent
        self._tasks = [tasks[config.name] for config in configs]
        self._items = [list(task.items()) for task in self._tasks]
        empty = [config.name for config, items in zip(configs, self._items, strict=True) if not items]
        if empty:
            raise InputError(f"tasks.{', '.join(empty)}: there are no items")
        for task, items in zip(self._tasks, self._items, strict=True):
            if agent is None and task.prompt(items[0]).tools:
                raise needs_agent(task)
        self.curriculum = Curriculum([config.weight for config in configs], curriculum)
        self._names = [config.name for config in configs]
        self._shares = self.curriculum.shares()
        self._per_step, self._seed = per_step, seed
        self._order: list[tuple[int, int]] = []  # task and number in it, of every question so far
        self._numbers = [0] * len(self._shares)
        # since the shares changed last: what every task was owed then, and how many questions there were
        self._owed, self._asked = [0.0] * len(self._shares), [0] * len(self._shares)

    def of_step(self, step: int) -> list[Question]:
        """The questions of step 0, 1, …"""
        start, stop = step * self._per_step, (step + 1) * self._per_step
        while len(self._order) < stop:
            self._order.append(self._next())
        return [self._question(which, number) for which, number in self._order[start:stop]]

    def observe(self, groups: Sequence[Sequence[Rollout]]) -> None:
        """The answers of a round: with a curriculum, questions that were not drawn yet follow the new shares."""
        values: dict[int, list[float]] = {}
        for group in groups:
            for rollout in group:
                if rollout.failure is not None:
                    continue
                values.setdefault(self._names.index(rollout.question.task), []).append(rollout.score.value)
        if self.curriculum.observe(values):
            self._owed = [self._behind(which, sum(self._asked)) for which in range(len(self._shares))]
            self._asked = [0] * len(self._shares)
            self._shares = self.curriculum.shares()

    def shares(self) -> dict[str, float]:
        """Of every task now."""
        return dict(zip(self._names, self._shares, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Empty without a curriculum."""
        if self.curriculum.config is None:
            return {}
        return {
            "curriculum": self.curriculum.state_dict(),
            "order": [which for which, _ in self._order],
            "owed": list(self._owed),
            "asked": list(self._asked),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.curriculum.config is None:
            return
        self.curriculum.load_state_dict(state["curriculum"])
        self._shares = self.curriculum.shares()
        self._owed, self._asked = [float(value) for value in state["owed"]], [int(n) for n in state["asked"]]
        self._order, self._numbers = [], [0] * len(self._shares)
        for which in state["order"]:
            self._order.append(self._numbered(which))

    def _next(self) -> tuple[int, int]:
        """The task that is furthest behind its share."""
        count = sum(self._asked) + 1
        behind = [self._behind(which, count) for which in range(len(self._shares))]
        which = behind.index(max(behind))
        self._asked[which] += 1
        return self._numbered(which)

    def _behind(self, which: int, count: int) -> float:
        return self._owed[which] + self._shares[which] * count - self._asked[which]

    def _numbered(self, which: int) -> tuple[int, int]:
        self._numbers[which] += 1
        return which, self._numbers[which] - 1

    def _question(self, which: int, number: int) -> Question:
        task, items = self._tasks[which], self._items[which]
        epoch, place = divmod(number, len(items))
        item = items[Permutation(len(items), self._seed, task.name, epoch)[place]]
        return question_of(task, item, self._processor, enable_thinking=self._enable_thinking, agent=self._agent)


def question_of(
    task: Task, item: Item, processor: Processor, *, enable_thinking: bool, agent: Agent | None = None
) -> Question:
    """The prompt of an item as ids, with its media read and its tools described.

    Raises:
        InputError: the prompt has tools and the run has no agent, or a medium cannot be read.
    """
    prompt = task.prompt(item)
    if prompt.tools and agent is None:
        raise needs_agent(task)
    tools = agent.described(task, item) if agent is not None else ()
    encoded = processor.encode(
        prompt.messages,
        tools=tools or None,
        add_generation_prompt=True,
        enable_thinking=enable_thinking,
        allow_control_tokens=False,
    )
    return Question(task=task.name, item=item, token_ids=tuple(encoded.token_ids), media=encoded.media)
