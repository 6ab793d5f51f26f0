"""A few answers of every round, kept for people to read: `examples` in the record of the round.

Numbers say that the reward rose; only the answers say why. Per round there are at most `MOST_GROUPS` questions, those
whose answers differ most in reward, of different tasks where possible; and of each at most `MOST_ANSWERS` answers, from
the best to the worst. `s1pro report` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.rl.rollout import Question, Rollout
from s1pro.tasks.task import Task

MOST_GROUPS, MOST_ANSWERS, MOST_CHARACTERS = 2, 4, 600


def examples(groups: Sequence[Sequence[Rollout]], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """`[{task, item, question, media, mean, answers: [{text, reward, valid, finish_reason, parts}]}]`, JSON-able."""
    chosen: list[Sequence[Rollout]] = []
    for group in sorted(groups, key=_spread, reverse=True):  # stable: the first of equals stays first
        seen = {other[0].question.task for other in chosen}
        if len(chosen) < MOST_GROUPS and (group[0].question.task not in seen or len(seen) == len(tasks)):
            chosen.append(group)
    return [_example(group, tasks) for group in chosen]


def _spread(group: Sequence[Rollout]) -> float:
    rewards = [rollout.reward for rollout in group]
    return max(rewards) - min(rewards)


def _example(group: Sequence[Rollout], tasks: Mapping[str, Task]) -> dict[str, Any]:
    question = group[0].question
    ordered = sorted(group, key=lambda rollout: -rollout.reward)
    places = {round(i * (len(ordered) - 1) / max(MOST_ANSWERS - 1, 1)) for i in range(MOST_ANSWERS)}
    return {
        "task": question.task,
        "item": question.item.id,
        "question": _asked(question, tasks[question.task]),
        "media": _shown(question, tasks[question.task]),
        "mean": sum(rollout.reward for rollout in group) / len(group),
        "answers": [_answer(ordered[place]) for place in sorted(places)],
    }


def _asked(question: Question, task: Task) -> str:
    """What the user said, without the system prompt."""
    turns = [message.text for message in task.prompt(question.item).messages if message.role != "system"]
    return "\n".join(turns)[:MOST_CHARACTERS]


def _shown(question: Question, task: Task) -> list[dict[str, Any]]:
    """The parts of the question that are files, as it names them."""
    parts = [part for m in task.prompt(question.item).messages if not isinstance(m.content, str) for part in m.content]
    named = [part for part in parts if isinstance(path := part.get(str(part.get("type"))), str) and len(path) < 500]
    return [dict(part) for part in named if part.get("type") != "text"]


def _answer(rollout: Rollout) -> dict[str, Any]:
    return {
        "text": rollout.completion.text[:MOST_CHARACTERS],
        "reward": rollout.reward,
        "valid": rollout.score.valid,
        "finish_reason": rollout.completion.finish_reason,
        "parts": {name: float(value) for name, value in rollout.score.parts.items()},
    }
