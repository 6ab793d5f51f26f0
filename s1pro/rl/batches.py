"""From answers to micro-batches: advantages, weights, packing.

The tokens that the model wrote learn; those of its prompt, and of what tools said to it, do not. Answers are packed,
longest first, each into the first micro-batch that has room: they never see each other, and the order has no influence
on the loss. Media go with the answers to their question, each answer with a copy of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.rl.advantages import advantages, informative, token_weight
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.rollout import Rollout

Groups = Sequence[Sequence[Rollout]]


def teaching_groups(groups: Groups, *, drop_uniform: bool) -> list[Sequence[Rollout]]:
    """The groups that a step trains on, without the answers that have no score; one answer alone teaches nothing."""
    scored = [[rollout for rollout in group if rollout.failure is None] for group in groups]
    whole = [kept for kept, group in zip(scored, groups, strict=True) if len(kept) == len(group) or len(kept) > 1]
    return [group for group in whole if not drop_uniform or informative([r.reward for r in group])]


def updates_of(groups: Groups, count: int) -> list[list[Sequence[Rollout]]]:
    """The groups in `count` parts of nearly equal size, for one optimizer step each; empty ones are left out."""
    bounds = np.linspace(0, len(groups), count + 1).round().astype(int)
    parts = [list(groups[a:b]) for a, b in itertools.pairwise(bounds)]
    return [part for part in parts if part]


def micro_batches(
    groups: Groups,
    objective: ObjectiveConfig,
    *,
    num_rows: int,
    replay: bool,
    source_names: Sequence[str],
    entropy_weight: float = 0.0,
) -> list[PackedBatch]:
    """All answers of `groups`, with what their loss needs.

    Args:
        num_rows: of a micro-batch.
        source_names: tasks; an answer counts for its own.
        entropy_weight: of the bonus for surprise in every advantage (`rl.entropy`).
    """
    segments = [
        Segment(
            sequence=sequence(
                rollout, float(advantage), len(group), objective, replay=replay, entropy_weight=entropy_weight
            ),
            source=source,
        )
        for group in groups
        for rollout, advantage in zip(group, advantages([r.reward for r in group], objective), strict=True)
        for source in (source_names.index(rollout.question.task),)
    ]
    longest = max((segment.num_rows for segment in segments), default=0)
    assert longest <= num_rows, f"an answer of {longest} rows in micro-batches of {num_rows}"
    return [
        collate(bin_, num_rows=num_rows, source_names=source_names, max_tail_segment=longest)
        for bin_ in _packed(segments, num_rows)
    ]


def sequence(
    rollout: Rollout,
    advantage: float,
    group_size: int,
    objective: ObjectiveConfig,
    *,
    replay: bool,
    entropy_weight: float = 0.0,
) -> TokenSequence:
    """The tokens of prompt and answer; entry i belongs to token i, as everywhere before packing."""
    prompt, completion = rollout.question.token_ids, rollout.completion
    assert completion.logprobs is not None
    count = len(completion.token_ids)
    before, own = np.zeros(len(prompt), np.float32), np.ones(count, np.float32)
    if rollout.own is not None:
        own = np.array(rollout.own, dtype=np.float32)
    logprobs = np.array(completion.logprobs, dtype=np.float32) * own
    weight = token_weight(rollout.num_tokens, group_size, objective)
    return TokenSequence(
        token_ids=np.array([*prompt, *completion.token_ids], dtype=np.int32),
        loss_weights=np.concatenate([before, weight * own]),
        prompt_group=rollout.question.prompt_group,
        conversation=True,
        advantages=np.concatenate([before, np.float32(advantage) * own - np.float32(entropy_weight) * logprobs]),
        rollout_logprobs=np.concatenate([before, logprobs]),
        routed_experts=completion.routing.experts_TLK if replay and completion.routing is not None else None,
        media=rollout.question.media,
    )


def _packed(segments: Sequence[Segment], num_rows: int) -> list[list[Segment]]:
    bins: list[list[Segment]] = []
    room: list[int] = []
    for segment in sorted(segments, key=lambda s: -s.num_rows):
        place = next((i for i, left in enumerate(room) if segment.num_rows <= left), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(num_rows)
        bins[place].append(segment)
        room[place] -= segment.num_rows
    return bins
