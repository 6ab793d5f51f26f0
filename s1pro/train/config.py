"""The complete description of one training stage, and the parts that are not beside their component.

`RunConfig` is what the loop needs of every stage; `TrainRun` adds what language-model training needs, and
`train.contrastive.ContrastiveRun` what contrastive training needs. A recipe is a function that returns one of them;
`base.config` writes it into the run folder and applies `--set`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from s1pro.data.mixture import LengthPolicy, TooLong
from s1pro.kernels.fp8 import ScaleFormat
from s1pro.model.config import ModelConfig
from s1pro.parallel.config import ParallelConfig
from s1pro.science.contamination import ContaminationSettings
from s1pro.train.guards import GuardConfig
from s1pro.train.losses import LossConfig
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

Stage = Literal["pretrain", "sft", "rl"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """A JSONL or Parquet file, or a folder of them, and its share of the tokens."""

    name: str
    path: Path
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read and how it is packed.

    Attributes:
        sources, validation: files; a recipe may hand in samples in memory instead.
        tokens_per_batch: T, rows of one micro-batch (masked tail included).
        max_length: longest sequence in rows; see `data.mixture` for what happens to longer samples.
        lookahead: pending sequences that packing chooses from.
        prefetch: batches prepared by a background thread; 0 prepares them in the loop.
        cache: folder for tokenised data; None keeps it in memory.
        contamination: questions of evaluations that must not be in `sources`, see science/contamination.py; counts are
            in the run folder (contamination.json). To mark is to count here.
        validation_batches: at most so many batches per evaluation.
    """

    sources: tuple[SourceConfig, ...] = ()
    validation: tuple[SourceConfig, ...] = ()
    tokens_per_batch: int = 4096
    max_length: int = 512
    long_documents: TooLong = "split"
    long_conversations: TooLong = "error"
    lookahead: int = 64
    prefetch: int = 0
    cache: Path | None = None
    contamination: ContaminationSettings | None = None
    validation_batches: int = 16

    def policy(self) -> LengthPolicy:
        return LengthPolicy(
            max_length=self.max_length, long_documents=self.long_documents, long_conversations=self.long_conversations
        )


@dataclass(frozen=True, kw_only=True)
class Fp8Config:
    """How experts compute in FP8 (`kernels.experts_fp8`).

    Attributes:
        scale_format: of all scales; to publish the bytes that training computes with, save with the same.
        keep_layers: decoder layers whose experts stay in the dtype of the network.
        gather: how shards of such experts travel between ranks: as numbers of the network, or as FP8 bytes, which are
            fewer and the same in the end.
    """

    scale_format: ScaleFormat = "fp32"
    keep_layers: tuple[int, ...] = ()
    gather: Literal["network", "fp8"] = "network"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the stages have in common: everything that the loop itself needs to know.

    Attributes:
        folder: everything the run writes: config.json, stamp.json, metrics.jsonl, checkpoints/, model/.
        stage: a name for reports.
        steps: optimizer steps; the schedule is defined over them.
        accumulation: micro-batches per step, over all ranks: what a step is does not depend on how many there are.
        max_seconds: training stops (with a checkpoint) when its own time exceeds this, resumed parts included.
        seed: initial weights and data order.
        dtype: of the network; bfloat16 keeps float32 master weights in the optimizer.
        trainable: patterns of parameter names (`model.visual.merger.*`), all others are frozen; None trains everything.
        checkpoint_every, eval_every: in steps; 0 only at the end (evaluation also then only with validation data).
        keep_checkpoints: older ones are deleted.
        peak_tflops: for the model FLOPs utilisation; None measures a matrix product at the start.
        tensorboard: None writes it if the package is there, true insists.
        progress: None shows a bar on a terminal.
        export: write `model/` at the end.
    """

    folder: Path
    stage: str
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    guards: GuardConfig = field(default_factory=GuardConfig)
    steps: int = 1000
    accumulation: int = 1
    max_seconds: float | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trainable: tuple[str, ...] | None = None
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    eval_every: int = 0
    peak_tflops: float | None = None
    tensorboard: bool | None = None
    progress: bool | None = None
    export: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("checkpoint_every", "eval_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise ValueError(f"max_seconds must be positive, got {self.max_seconds}")
        if self.schedule.follow_time and self.max_seconds is None:
            raise ValueError("schedule.follow_time needs max_seconds")
        if self.trainable is not None and not self.trainable:
            raise ValueError("trainable is an empty list, so nothing would be trained; none trains everything")


@dataclass(frozen=True, kw_only=True)
class TrainRun(RunConfig):
    """One stage of language-model training, with or without media.

    Attributes:
        stage: pre-training and fine-tuning run the same code and differ in their data; "rl" is `rl.config.RLRun`.
        model: architecture of a new model, or
        init_from: released-layout folder to start from. Exactly one of the two.
        vision_from: folder whose vision tower replaces that of the model: the result of a contrastive stage, or a
            released-layout folder.
        tokenizer: folder of the processor; None takes `init_from`.
        expert_precision: products of the experts in the dtype of the network, or in FP8 as `fp8` says.
        exact: forward passes whose numbers do not depend, to the last bit, on what is packed together
            (`kernels.exact`): log-probabilities and routing are then those of an exact engine. "auto" dispatches by
            all_to_all or counted.
        freeze_router: gates are not trained (default in reinforcement learning), whatever `trainable` says.
        straight_through: overrides the option of the router; None keeps what the model says.
        activation_checkpointing: recompute each block in the backward pass.
        compile: torch.compile each block (does not pay on CPU).
        parallel: how the run is spread over the ranks that a launcher started.
        router_every: steps between statistics of routers and of FP8 rounding, 0 never.
    """

    stage: Stage = "pretrain"
    model: ModelConfig | None = None
    init_from: Path | None = None
    vision_from: Path | None = None
    tokenizer: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    expert_precision: Literal["network", "fp8"] = "network"
    fp8: Fp8Config = field(default_factory=Fp8Config)
    exact: bool = False
    freeze_router: bool = False
    straight_through: bool | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    router_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.init_from is not None:
            raise ValueError("give model (a new network) or init_from (an existing folder), not both")
        if self.router_every < 0:
            raise ValueError(f"router_every must not be negative, got {self.router_every}")
        if self.expert_precision != "fp8" and self.fp8 != Fp8Config():
            raise ValueError("fp8 settings have no effect without expert_precision=fp8")
        if self.exact and (self.compile or self.parallel.dispatch == "all_gather"):
            raise ValueError("exact does not work with compile or parallel.dispatch=all_gather")
