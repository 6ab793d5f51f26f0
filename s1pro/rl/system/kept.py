"""Rollouts as JSON, for the checkpoint of a run that has asked ahead.

Their questions are not written: they are those of their round. Routing is as exact as text can be, packed bytes in
base64; everything else is numbers and strings.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.numpy import load, save

from s1pro.base.records import Completion, RoutingTrace
from s1pro.rl.rewards import RewardTerms
from s1pro.rl.rollout import Question, Rollout
from s1pro.rl.system.work import Group
from s1pro.tasks.task import Score

_TUPLES = ("token_ids", "logprobs", "token_versions")


def groups_to_json(groups: Sequence[Group]) -> list[Any]:
    """The inverse of `groups_from_json`."""
    return [[_rollout_to_json(rollout) for rollout in group] for group in groups]


def groups_from_json(data: Sequence[Any], questions: Sequence[Question]) -> list[Group]:
    """Args: questions: of the round, one per group."""
    return [
        [_rollout_from_json(entry, question) for entry in group]
        for group, question in zip(data, questions, strict=True)
    ]


def _rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    plain = {
        field.name: getattr(rollout, field.name)
        for field in dataclasses.fields(rollout)
        if field.name not in ("question", "completion", "score", "terms")
    }
    return {
        **plain,
        "terms": None if rollout.terms is None else dataclasses.asdict(rollout.terms),
        "completion": _completion_to_json(rollout.completion),
        "score": dataclasses.asdict(rollout.score),
    }


def _rollout_from_json(data: Mapping[str, Any], question: Question) -> Rollout:
    found = {
        "question": question,
        "completion": _completion_from_json(data["completion"], question),
        "score": Score(**data["score"]),
        "terms": None if data["terms"] is None else RewardTerms(**data["terms"]),
        "own": None if data["own"] is None else tuple(data["own"]),
    }
    return Rollout(**{**data, **found})


def _completion_to_json(completion: Completion) -> dict[str, Any]:
    kept = ("text", "finish_reason", "stop_reason", "policy_version", "cached_tokens", *_TUPLES)
    found = {name: getattr(completion, name) for name in kept}
    trace = completion.routing
    if trace is not None:
        arrays: dict[str, Any] = {"experts_TLK": trace.experts_TLK}
        if trace.token_ids_T is not None:
            arrays["token_ids_T"] = trace.token_ids_T
        found["routing"] = [trace.policy_version, base64.b64encode(save(arrays)).decode("ascii")]
    return found


def _completion_from_json(data: Mapping[str, Any], question: Question) -> Completion:
    plain = {name: value for name, value in data.items() if name != "routing"}
    for name in _TUPLES:
        plain[name] = None if plain[name] is None else tuple(plain[name])
    trace = None
    if "routing" in data:
        version, text = data["routing"]
        trace = RoutingTrace(policy_version=version, **load(base64.b64decode(text)))
    return Completion(**plain, prompt_token_ids=question.token_ids, routing=trace)
