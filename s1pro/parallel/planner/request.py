"""What is planned: the job, and the layout on which it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

RecipeKind = Literal["pretrain", "sft", "rl", "serve"]
Dispatch = Literal["all_gather", "all_to_all", "counted"]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The engine of `serve`, and the rollout side of `rl`.

    Attributes:
        ranks: that hold one copy of the model: experts divided among them, everything else on each.
        fp8: expert and attention weights in one byte, as released.
        context: tokens of one sequence when it is half generated, on average.
        sequences: that every rank generates at once.
    """

    ranks: int = 16
    fp8: bool = True
    context: int = 8192
    sequences: int = 16

    def __post_init__(self) -> None:
        for name in ("ranks", "context", "sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"serving.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done.

    Attributes:
        total_tokens: of the whole run: learned from, or generated when serving.
        tokens_per_step: of one optimizer step, over all ranks.
        sequence_length: context that attention sees; longer sequences cost more per token.
        optimizer, dtype: as in `TrainRun`.
        expert_precision: of the products of the experts.
        balance_loss: the load-balancing loss is on, and keeps the probabilities of every layer.
        loss_chunk: rows per slice of head and loss.
        image_share: share of the tokens that are image tokens (each four patches of the vision tower).
    """

    recipe: RecipeKind = "pretrain"
    total_tokens: float = 1e12
    tokens_per_step: int = 2**24
    sequence_length: int = 8192
    optimizer: Literal["adamw", "muon"] = "adamw"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    expert_precision: Literal["network", "fp8"] = "network"
    balance_loss: bool = True
    loss_chunk: int = 1024
    image_share: float = 0.0
    serving: Serving = field(default_factory=Serving)

    def __post_init__(self) -> None:
        for name in ("total_tokens", "tokens_per_step", "sequence_length", "loss_chunk"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share must lie in [0, 1], got {self.image_share}")

    @property
    def trains(self) -> bool:
        return self.recipe != "serve"

    @property
    def generates(self) -> bool:
        return self.recipe in ("rl", "serve")

    @property
    def value_bytes(self) -> int:
        """Bytes of a parameter and of an activation."""
        return 2 if self.dtype == "bfloat16" else 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How training is spread; the axes are those of `parallel.mesh`.

    Attributes:
        tokens_per_batch: T, rows of one micro-batch on one rank.
        checkpointing: recompute each block in the backward pass.
    """

    dp_replicate: int = 1
    dp_shard: int = 1
    ep: int = 1
    dispatch: Dispatch = "all_gather"
    tokens_per_batch: int = 8192
    checkpointing: bool = True

    def __post_init__(self) -> None:
        for name in ("dp_replicate", "dp_shard", "ep", "tokens_per_batch"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def num_ranks(self) -> int:
        return self.dp_replicate * self.dp_shard

    @property
    def expert_shard(self) -> int:
        """Ranks that share one part of the experts."""
        return max(self.dp_shard // self.ep, 1)

    @property
    def expert_replicate(self) -> int:
        return self.num_ranks // self.ep // self.expert_shard

    def accumulation(self, tokens_per_step: int) -> int:
        """Micro-batches per step, rounded up."""
        return -(-tokens_per_step // (self.num_ranks * self.tokens_per_batch))
