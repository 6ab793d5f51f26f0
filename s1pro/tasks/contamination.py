"""The index of questions (science/contamination.py) of tasks: everything that they ask, without system messages."""

from __future__ import annotations

from collections.abc import Iterable

from s1pro.science.contamination import ContaminationIndex
from s1pro.tasks.task import Task


def index_of_tasks(tasks: Iterable[Task]) -> ContaminationIndex:
    questions = {}
    for task in tasks:
        for item in task.items():
            turns = [message.text for message in task.prompt(item).messages if message.role != "system"]
            questions[f"{task.name}#{item.id}"] = "\n".join(turns)
    return ContaminationIndex.of_questions(questions)
