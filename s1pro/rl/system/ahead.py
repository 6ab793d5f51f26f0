"""Rounds on their way: which ones are asked when, and whether answers are as fresh as promised.

Before round n is trained on, the weights are published and every round up to n + s is asked, with s the staleness of
the schedule; then round n is waited for. So

* rounds are trained on in their order, each question once, whatever happened to the machine that answered it;
* every token of round n is of weights that were published when round n - s was trained on, or later. This is checked.

In a checkpoint lie the rounds that are complete. One step off the trainer waits for them, so a resumed run is exact.
In an asynchronous run those that are under way are asked again after a resume, with the weights of then: the same
questions with the same random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s1pro.rl.rollout import Question, RecordError, Rollout
from s1pro.rl.system.kept import groups_from_json, groups_to_json
from s1pro.rl.system.work import Group, Workers, units_of


class StaleError(RecordError):
    """An answer with tokens of weights that are older than the schedule allows, or that were never published."""


class RoundsAhead:
    """See the module docstring.

    Args:
        questions: of a round, by its number.
        staleness: rounds that are asked ahead.
        shards: pieces of a round.
    """

    def __init__(
        self, workers: Workers, questions: Callable[[int], Sequence[Question]], *, staleness: int, shards: int
    ) -> None:
        self._workers, self._questions = workers, questions
        self._staleness, self._shards = staleness, shards
        self._asked: dict[int, Sequence[Question]] = {}  # rounds that are asked and not trained on
        self._kept: dict[int, list[Group]] = {}  # of these, the ones from a checkpoint
        self._published: dict[int, int] = {}  # version by round, as far back as answers may reach

    def answers(self, number: int, version: int, *, further: int) -> tuple[list[Group], dict[str, Any]]:
        """The groups of round `number`, which is trained on now, and numbers about them.

        Args:
            version: of the present weights.
            further: most rounds that can follow; no more are asked ahead.

        Raises:
            StaleError: an answer that is too old.
        """
        self._workers.publish(version)
        self._published[number] = version
        for ahead in range(number, number + min(self._staleness, further) + 1):
            if ahead not in self._asked:
                self._asked[ahead] = self._questions(ahead)
                self._workers.submit(ahead, units_of(ahead, self._asked[ahead], self._shards))
        groups = self._kept.pop(number, None)
        if groups is None:
            groups = self._workers.collect(number)
        questions = self._asked.pop(number)
        _check_questions(number, questions, groups)
        lags = self._lags(number, [rollout for group in groups for rollout in group])
        self._published = {r: v for r, v in self._published.items() if r >= number + 1 - self._staleness}
        record = {"round": number, **fingerprints(groups), **lags}
        return groups, {**record, **self._workers.report()}

    def state_dict(self) -> dict[str, Any]:
        complete = {**self._workers.finished(), **self._kept}
        kept = {str(number): groups_to_json(groups) for number, groups in complete.items()}
        return {"kept": kept, "published": {str(number): version for number, version in self._published.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before anything is asked."""
        self._published = {int(number): version for number, version in state["published"].items()}
        for number, groups in state["kept"].items():
            self._asked[int(number)] = self._questions(int(number))
            self._kept[int(number)] = groups_from_json(groups, self._asked[int(number)])

    def close(self) -> None:
        self._workers.close()

    def _lags(self, number: int, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        """How many rounds tokens lag behind, and how many answers have tokens of several weights."""
        rounds = {version: r for r, version in self._published.items()}
        lags, mixed = [], 0
        for rollout in rollouts:
            versions = token_versions(rollout)
            mixed += len(set(versions)) > 1
            for version in sorted(set(versions)):
                if version not in rounds or number - rounds[version] > self._staleness:
                    raise StaleError(
                        f"round {number}: task {rollout.question.task!r}, item {rollout.question.item.id!r} has tokens "
                        f"of weights {version}; allowed are {sorted(rounds)}"
                    )
            lags += [number - rounds[version] for version in versions]
        if not self._staleness:
            return {}
        return {"lag": sum(lags) / len(lags), "largest_lag": max(lags), "mixed_versions": mixed / len(rollouts)}


def token_versions(rollout: Rollout) -> tuple[int, ...]:
    """Of the weights that drew each token.

    Raises:
        StaleError: versions that do not go with the tokens, or that run backwards.
    """
    completion = rollout.completion
    versions = completion.token_versions
    if versions is None:
        return (completion.policy_version,) * len(completion.token_ids)
    if len(versions) != len(completion.token_ids) or versions[-1] != completion.policy_version:
        raise StaleError(
            f"{len(completion.token_ids)} tokens of weights {completion.policy_version} with {len(versions)} versions, "
            f"the last {versions[-1] if versions else None}"
        )
    if list(versions) != sorted(versions):
        raise StaleError(f"versions of tokens run backwards: {versions}")
    return versions


def fingerprints(groups: Sequence[Group]) -> dict[str, str]:
    """Short hashes of what was asked and of what was answered: whether two runs did the same shows at a glance."""
    asked, answered = hashlib.sha256(), hashlib.sha256()
    for group in groups:
        for rollout in group:
            asked.update(f"{rollout.question.task}|{rollout.question.item.id}|{rollout.member};".encode())
            answered.update(f"{rollout.completion.token_ids}{rollout.completion.logprobs};".encode())
    return {"asked": asked.hexdigest()[:16], "answered": answered.hexdigest()[:16]}


def _check_questions(number: int, questions: Sequence[Question], groups: Sequence[Group]) -> None:
    """Every question of the round once, in its order, with all its answers."""
    got = [(group[0].question.task, group[0].question.item.id) for group in groups]
    if got != [(question.task, question.item.id) for question in questions]:
        raise RecordError(f"round {number}: the answers are not those to its {len(questions)} questions")
    for place, group in enumerate(groups):
        if [(rollout.group, rollout.member) for rollout in group] != [(place, member) for member in range(len(group))]:
            raise RecordError(f"round {number}: question {place} has answers of others, or not all of its own")
