"""Recipes for clusters: `30b-a3b` (public Qwen3-30B-A3B) and `intern-s1-pro`, from expansion to reinforcement learning.

    expansion ──> continued pre-training ──> fine-tuning ──> reinforcement learning
    EXPANSIONS    *-cpt                      *-sft           *-rl

The training stages are ordinary runs: `s1pro train --recipe intern-s1-pro-cpt --show` prints one, torchrun starts it on
the ranks that `CLUSTERS` names, and `plan_of` is the plan of exactly this run. (The loop of reinforcement learning runs
in one process so far; what is planned and measured is its training step.) What is the paper's and what is ours:

| setting | from |
|---|---|
| 6 T tokens of continued pre-training, 270 B of them captions | paper |
| straight-through routing, FP8 experts, float32 head | paper |
| 128 experts to 512 in 8 groups, 8 active | paper |
| objective of reinforcement learning, frozen router, 8 to 16 answers per question, lr 1e-6 | paper, public recipes |
| balance loss 1e-3 | public recipes |
| share of science in the text, learning rates, batch, sequence length, length of fine-tuning | this project |

`30b-a3b` is trained as it is; `30b-a3b-expanded` is what grows out of it. Paths are those of a shared file system below
the folder from which the job is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s1pro.checkpoint.expansion_plan import ExpansionConfig, expanded_router
from s1pro.checkpoint.rewrite import Storage
from s1pro.model.config import ModelConfig
from s1pro.model.presets import PRESETS
from s1pro.parallel.config import MeshSizes, ParallelConfig
from s1pro.parallel.planner.hardware import Cluster, gpu_named
from s1pro.parallel.planner.plan import Plan, best_dispatch, make_plan
from s1pro.parallel.planner.request import Job, Layout, Serving
from s1pro.recipes.expand import ExpandRun
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
from s1pro.train.losses import LossConfig
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

DATA = Path("data")
CLUSTERS: Mapping[str, tuple[str, int]] = {"30b-a3b": ("h200", 64), "intern-s1-pro": ("h200", 256)}
"""GPU and how many, by model."""
ENGINES: Mapping[str, Serving] = {"30b-a3b": Serving(ranks=1), "intern-s1-pro": Serving(ranks=64, context=4096)}
"""How the model answers during reinforcement learning: ranks that share a copy, next to what training holds."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One part of a mixture; `tokens` is how many of it a run learns from."""

    name: str
    tokens: float


@dataclass(frozen=True, kw_only=True)
class TokenMixture:
    """Continued pre-training by tokens.

    Attributes:
        total: all tokens (paper).
        captions: image-text pairs of the caption pipeline (paper).
        science_share: of the text, what comes from scientific papers and databases (ours; the paper gives no number).
    """

    total: float = 6e12
    captions: float = 270e9
    science_share: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.captions < self.total:
            raise ValueError(f"captions={self.captions:g} must lie between 0 and total={self.total:g}")
        if not 0 < self.science_share < 1:
            raise ValueError(f"science_share must lie in (0, 1), got {self.science_share}")

    @property
    def shares(self) -> tuple[Share, ...]:
        text = self.total - self.captions
        return (
            Share(name="captions", tokens=self.captions),
            Share(name="science", tokens=text * self.science_share),
            Share(name="general", tokens=text * (1 - self.science_share)),
        )

    def sources(self, folder: Path) -> tuple[SourceConfig, ...]:
        """Folders of Parquet files, weighted by tokens (in billions)."""
        return tuple(SourceConfig(name=s.name, path=folder / s.name, weight=s.tokens / 1e9) for s in self.shares)


def qwen3_30b_cpt() -> TrainRun:
    """Ordinary top-k routing has no groups to put on ranks: pure FSDP2, 64 ranks."""
    return _cpt("30b-a3b", tokens_per_batch=16384, per_rank=4, lr=2e-5, parallel=ParallelConfig())


def qwen3_30b_sft() -> TrainRun:
    return _sft("30b-a3b", tokens_per_batch=16384, lr=1e-5, parallel=ParallelConfig())


def intern_s1_pro_cpt() -> TrainRun:
    """One router group per expert-parallel rank, eight ranks of one node: the load is equal by construction."""
    return _cpt("intern-s1-pro", tokens_per_batch=16384, per_rank=4, lr=1e-5, parallel=ParallelConfig(ep=8))


def intern_s1_pro_sft() -> TrainRun:
    return _sft("intern-s1-pro", tokens_per_batch=16384, lr=5e-6, parallel=ParallelConfig(ep=8))


def qwen3_30b_rl() -> RLRun:
    return _rl("30b-a3b", tokens_per_batch=16384, parallel=ParallelConfig())


def intern_s1_pro_rl() -> RLRun:
    return _rl("intern-s1-pro", tokens_per_batch=16384, parallel=ParallelConfig(ep=8))


def _growth(source: str, target: str, *, fope: bool) -> ExpandRun:
    return ExpandRun(
        source=Path("models") / source,
        target=Path("models") / target,
        expansion=ExpansionConfig(factor=4, groups=8, strategy="fitted"),
        storage=Storage(dtype="bfloat16"),
        data=DATA / "calibration.parquet",
        num_batches=256,
        tokens_per_batch=8192,
        max_length=8192,
        fope=fope,
    )


EXPANSIONS: Mapping[str, tuple[str, ExpandRun]] = {
    "intern-s1-pro": ("235b-a22b", _growth("235b-a22b", "intern-s1-pro-expanded", fope=True)),
    "30b-a3b-expanded": ("30b-a3b", _growth("30b-a3b", "30b-a3b-expanded", fope=False)),
}
"""What grows, by the name of the result: the preset that it grows from, and how."""


def expanded(name: str) -> ModelConfig:
    """The architecture that an expansion of `EXPANSIONS` gives."""
    source, run = EXPANSIONS[name]
    config = PRESETS[source]()
    router = expanded_router(config.text.router, run.expansion)
    rope = replace(config.text.rope, fope=True) if run.fope else config.text.rope
    return replace(config, text=replace(config.text, router=router, rope=rope))


def plan_of(run: TrainRun, model: str) -> Plan:
    """The plan of a run on the cluster of its model, with the layout that the run itself asks for."""
    config, (gpu, num_gpus) = PRESETS[model](), CLUSTERS[model]
    cluster = Cluster(gpu=gpu_named(gpu), num_gpus=num_gpus)
    layout = layout_of(run, config, num_gpus)
    if isinstance(run, RLRun):
        tokens = run.rollout.prompts * run.rollout.group_size * run.rollout.max_new_tokens // run.updates
    else:
        tokens = run.accumulation * run.data.tokens_per_batch
    job = Job(
        recipe=run.stage,
        total_tokens=float(tokens * run.steps),
        tokens_per_step=tokens,
        sequence_length=run.data.max_length,
        optimizer=run.optimizer.kind,
        dtype=run.dtype,
        expert_precision=run.expert_precision,
        balance_loss=run.loss.balance > 0 and run.stage != "rl",
        loss_chunk=run.loss.chunk,
        serving=ENGINES[model],
    )
    return make_plan(config, job, cluster, layout)


def layout_of(run: TrainRun, config: ModelConfig, num_ranks: int) -> Layout:
    """The layout that `parallel.apply` gives a run on so many ranks."""
    sizes, wanted = MeshSizes.of(run.parallel, num_ranks), run.parallel.dispatch
    return Layout(
        dp_replicate=sizes.dp_replicate,
        dp_shard=sizes.dp_shard,
        ep=sizes.ep,
        dispatch=best_dispatch(config, sizes.ep) if wanted == "auto" else wanted,
        tokens_per_batch=run.data.tokens_per_batch,
        checkpointing=run.activation_checkpointing,
    )


def _cpt(model: str, *, tokens_per_batch: int, per_rank: int, lr: float, parallel: ParallelConfig) -> TrainRun:
    """`per_rank` micro-batches per step on every rank."""
    mixture = TokenMixture()
    accumulation = per_rank * CLUSTERS[model][1]
    return TrainRun(
        folder=Path("runs") / f"{model}-cpt",
        stage="pretrain",
        init_from=Path("models") / (f"{model}-expanded" if model == "intern-s1-pro" else model),
        data=DataConfig(
            sources=mixture.sources(DATA),
            validation=tuple(
                SourceConfig(name=share.name, path=DATA / "validation" / share.name) for share in mixture.shares
            ),
            tokens_per_batch=tokens_per_batch,
            max_length=8192,
            prefetch=4,
            cache=Path("cache"),
        ),
        optimizer=OptimizerConfig(kind="adamw", lr=lr),
        schedule=ScheduleConfig(kind="wsd", warmup=0.01, decay=0.15),
        loss=LossConfig(balance=1e-3),
        steps=round(mixture.total / (tokens_per_batch * accumulation)),
        accumulation=accumulation,
        dtype="bfloat16",
        expert_precision="fp8" if model == "intern-s1-pro" else "network",
        straight_through=True if model == "intern-s1-pro" else None,
        activation_checkpointing=True,
        parallel=parallel,
        checkpoint_every=500,
        eval_every=500,
        router_every=50,
    )


def _sft(model: str, *, tokens_per_batch: int, lr: float, parallel: ParallelConfig) -> TrainRun:
    """Conversations after continued pre-training: a smaller batch, a short cosine, longer ones dropped and counted."""
    return TrainRun(
        folder=Path("runs") / f"{model}-sft",
        stage="sft",
        init_from=Path("runs") / f"{model}-cpt" / "model",
        data=DataConfig(
            sources=(
                SourceConfig(name="science", path=DATA / "conversations" / "science", weight=0.5),
                SourceConfig(name="general", path=DATA / "conversations" / "general", weight=0.5),
            ),
            tokens_per_batch=tokens_per_batch,
            max_length=16384,
            long_conversations="drop",
            prefetch=4,
            cache=Path("cache"),
        ),
        optimizer=OptimizerConfig(kind="adamw", lr=lr),
        schedule=ScheduleConfig(kind="cosine", warmup=0.03, min_ratio=0.1),
        loss=LossConfig(balance=1e-3),
        steps=3000,
        accumulation=CLUSTERS[model][1],
        dtype="bfloat16",
        expert_precision="fp8" if model == "intern-s1-pro" else "network",
        straight_through=True if model == "intern-s1-pro" else None,
        activation_checkpointing=True,
        parallel=parallel,
        checkpoint_every=250,
    )


def _rl(model: str, *, tokens_per_batch: int, parallel: ParallelConfig) -> RLRun:
    """Verifiable science after fine-tuning: every task of the registry that is text, equally often."""
    from s1pro.tasks.registry import table

    return RLRun(
        folder=Path("runs") / f"{model}-rl",
        init_from=Path("runs") / f"{model}-sft" / "model",
        tasks=tuple(TaskConfig(name=entry.name, num_items=20_000) for entry in table() if entry.modality == "text"),
        rollout=RolloutConfig(
            prompts=512, group_size=16, top_p=0.999, max_new_tokens=8192, enable_thinking=True, concurrency=2048
        ),
        data=DataConfig(tokens_per_batch=tokens_per_batch, max_length=tokens_per_batch),
        optimizer=OptimizerConfig(kind="adamw", lr=1e-6),
        schedule=ScheduleConfig(kind="constant", warmup=0.01),
        updates=4,
        steps=1600,
        dtype="bfloat16",
        expert_precision="fp8" if model == "intern-s1-pro" else "network",
        activation_checkpointing=True,
        parallel=parallel,
        checkpoint_every=50,
    )
