"""What the answers of a round were worth: the numbers that `metrics.jsonl` has of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from s1pro.rl.batches import Groups
from s1pro.rl.rollout import Rollout

TERMS = ("correctness", "parts", "form", "length")


def record_of(groups: Groups, taught: Sequence[Any]) -> dict[str, Any]:
    """What the answers of a round were worth, per task too."""
    every = [rollout for group in groups for rollout in group]
    by_task: dict[str, list[float]] = {}
    for rollout in every:
        by_task.setdefault(rollout.question.task, []).append(rollout.reward)
    return {
        "reward": sum(r.reward for r in every) / len(every),
        "rewards": {name: sum(values) / len(values) for name, values in by_task.items()},
        **_terms(every),
        **_episodes(every),
        "valid": sum(r.score.valid for r in every) / len(every),
        "length": sum(r.num_tokens for r in every) / len(every),
        "cut_off": sum(r.completion.finish_reason == "length" for r in every) / len(every),
        "unscored": dict(Counter(r.failure for r in every if r.failure is not None)),
        "groups": len(groups),
        "teaching_groups": len(taught),
        "replayed": sum(r.completion.routing is not None for r in every) / len(every),
    }


def _terms(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """The terms of the reward, where there are more than one."""
    terms = [rollout.terms for rollout in rollouts if rollout.terms is not None]
    means = {name: sum(getattr(t, name) for t in terms) / len(terms) for name in TERMS} if terms else {}
    others = any(value != 0 for name, value in means.items() if name != "correctness")
    return {"terms": means} if others else {}


def _episodes(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Turns, calls of tools and how answers ended, where an agent was at work."""
    if not any(rollout.ending for rollout in rollouts):
        return {}
    calls = sum(rollout.calls for rollout in rollouts)
    return {
        "turns": sum(rollout.turns for rollout in rollouts) / len(rollouts),
        "calls": calls / len(rollouts),
        "failed_calls": sum(rollout.failed_calls for rollout in rollouts) / max(calls, 1),
        "endings": dict(Counter(rollout.ending for rollout in rollouts)),
    }
