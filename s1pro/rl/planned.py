"""The training step of reinforcement learning for `train.planned`: what `plan --recipe rl --verify` measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from s1pro.data.batch import PackedBatch
from s1pro.parallel.planner.request import Job
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.policy_loss import PolicyLoss


def policy_loss(job: Job) -> tuple[PolicyLoss, Callable[[PackedBatch], PackedBatch]]:
    """The paper's loss, on batches with advantages and both log-probabilities; replayed routing costs nothing."""

    def complete(batch: PackedBatch) -> PackedBatch:
        zeros = torch.zeros(batch.num_rows)
        return dataclasses.replace(batch, advantages_T=zeros, rollout_logprobs_T=zeros, old_logprobs_T=zeros)

    return PolicyLoss(ObjectiveConfig(), chunk=job.loss_chunk), complete
