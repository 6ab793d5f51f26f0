"""The settings of the demo, and the two training stages that they give.

Pre-training reads descriptions: every token is a target, and the sentences stand in all orders, so the model learns to
go from a name to a formula and from a SMILES to what is in it. Fine-tuning reads conversations: only the answers are
targets. Both use Muon for matrices and AdamW for the rest, one micro-batch of about a thousand tokens per step and the
warm-up-stable-decay schedule; many small steps learn more in a minute than few large ones.

Steps are what is meant, seconds are a fence: `max_seconds` ends a stage on a slow machine, and the schedule follows
the clock there, so that the learning rate has come down by then.

Layout of the folder, which the stages share:

    data/        corpus: descriptions, questions, molecules.parquet
    tokenizer/   processor
    pretrain/    run folder; model/ is where fine-tuning starts
    sft/         run folder
    eval/        answers and scores
    model/       the result
    demo.json    which stages are finished
    report.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s1pro.model import presets
from s1pro.model.config import ModelConfig
from s1pro.train.config import DataConfig, SourceConfig, Stage, TrainRun
from s1pro.train.losses import LossConfig
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

FOLDER = Path("runs/demo")
# Share of a training stage's budget that is for the steps; the rest is reading, tokenising, validating and saving.
_STEPS_SHARE = 0.88


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One training stage.

    Attributes:
        steps: of one micro-batch each.
        lr: the highest learning rate, after `warmup` and before `decay` (shares of the steps).
        balance: coefficient of the load-balancing loss.
        eval_every: steps between validation losses and checkpoints.
    """

    steps: int
    lr: float
    warmup: float
    decay: float
    balance: float
    eval_every: int


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo does. The default takes about three minutes on two cores.

    Attributes:
        molecules: how many, before the split.
        passes: descriptions per molecule.
        questions: conversations to learn from.
        shares: how often each family is asked; writing a molecule is the hardest.
        text_tokens, smiles_pieces: sizes of the tokenizer's vocabularies.
        model: architecture; its vocabulary has to hold both, and the added tokens.
        tokens_per_batch: of one step.
        tasks: names of the tasks that are asked; required: on how many the baselines have to be beaten.
        items: questions per task; max_new_tokens: longest answer.
        budgets: seconds of every stage on two cores.
        threads: of torch. At this size two are half as fast again as one while the machine is idle, but a hundred times
            slower while another process wants the same two cores: OpenMP threads spin until the last one arrives.
    """

    molecules: int = 8000
    passes: int = 2
    questions: int = 20_000
    shares: Mapping[str, int] = field(
        default_factory=lambda: {"formula": 5, "count": 5, "smiles": 10, "mass": 5, "group": 5}
    )
    text_tokens: int = 1000
    smiles_pieces: int = 48
    model: ModelConfig = field(default_factory=lambda: presets.demo(1152))
    tokens_per_batch: int = 1024
    pretrain: StageSettings = field(
        default_factory=lambda: StageSettings(steps=600, lr=4e-3, warmup=0.04, decay=0.3, balance=0.01, eval_every=100)
    )
    sft: StageSettings = field(
        default_factory=lambda: StageSettings(steps=880, lr=4e-3, warmup=0.04, decay=0.7, balance=0.001, eval_every=100)
    )
    tasks: tuple[str, ...] = (
        "formula_from_name",
        "count_in_smiles",
        "smiles_with_group",
        "mass_from_smiles",
        "group_in_smiles",
    )
    required: int = 4
    items: int = 200
    max_new_tokens: int = 48
    budgets: Mapping[str, float] = field(
        default_factory=lambda: {
            "data": 12.0,
            "tokenizer": 4.0,
            "pretrain": 62.0,
            "sft": 82.0,
            "eval": 16.0,
            "report": 4.0,
        }
    )
    threads: int = 1
    seed: int = 0


def pretrain_recipe(folder: Path = FOLDER, settings: DemoSettings | None = None) -> TrainRun:
    """Descriptions, from nothing."""
    settings = settings or DemoSettings()
    return _run(folder, settings, "pretrain", settings.pretrain, model=settings.model, tokenizer=folder / "tokenizer")


def sft_recipe(folder: Path = FOLDER, settings: DemoSettings | None = None) -> TrainRun:
    """Questions and answers, from the pre-trained model."""
    settings = settings or DemoSettings()
    return _run(folder, settings, "sft", settings.sft, init_from=folder / "pretrain" / "model")


def _run(
    folder: Path,
    settings: DemoSettings,
    stage: Stage,
    chosen: StageSettings,
    *,
    model: ModelConfig | None = None,
    init_from: Path | None = None,
    tokenizer: Path | None = None,
) -> TrainRun:
    kind = "descriptions" if stage == "pretrain" else "questions"
    files = [
        SourceConfig(name=kind, path=folder / "data" / kind / f"{part}.parquet") for part in ("train", "validation")
    ]
    return TrainRun(
        folder=folder / stage,
        stage=stage,
        model=model,
        init_from=init_from,
        tokenizer=tokenizer,
        data=DataConfig(
            sources=(files[0],),
            validation=(files[1],),
            tokens_per_batch=settings.tokens_per_batch,
            max_length=min(256, settings.tokens_per_batch),
            validation_batches=8,
        ),
        optimizer=OptimizerConfig(kind="muon", lr=chosen.lr),
        loss=LossConfig(balance=chosen.balance),
        schedule=ScheduleConfig(kind="wsd", warmup=chosen.warmup, decay=chosen.decay, follow_time=True),
        steps=chosen.steps,
        max_seconds=_STEPS_SHARE * settings.budgets[stage],
        seed=settings.seed,
        device="cpu",
        eval_every=chosen.eval_every,
        checkpoint_every=chosen.eval_every,
        keep_checkpoints=1,
        tensorboard=False,
    )
