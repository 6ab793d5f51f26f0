"""From pictures with captions to a language model that sees, in three stages (paper: the vision tower).

    contrastive   a new vision tower and a small caption tower: which caption belongs to which picture
    projectors    the tower joins a language model; only its merger learns, everything else is frozen
    joint         everything learns, the tower at a tenth of the rate

The data are the same in all three: conversations of one picture and its caption, in `data/train` and `data/validation`
(JSONL or Parquet; media paths relative to the file). In the later stages the language model answers the picture with
the caption. Captions and pictures are prepared by the processor of the language model throughout.

Layout of the folder, which the stages share:

    data/          train/ and validation/
    contrastive/   run folder; model/ holds both towers
    projectors/    run folder; model/ is where the joint stage starts
    joint/         run folder; model/ is the result
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from s1pro.model import presets
from s1pro.model.config import VisionConfig
from s1pro.model.contrastive import CaptionConfig, ContrastiveConfig, Form
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
from s1pro.train.contrastive import ContrastiveRun, PairDataConfig
from s1pro.train.losses import LossConfig
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig

FOLDER = Path("runs/vision-language")
PROJECTORS = ("model.visual.merger.*", "model.time_series.projector.*")
"""What joins towers to a language model that has both; a network without one of them takes the other alone."""


def _demo_tower() -> VisionConfig:
    vision = presets.demo_media().vision
    assert vision is not None
    return vision


@dataclass(frozen=True, kw_only=True)
class VisionStage:
    """One stage: optimizer steps, highest learning rate, steps between evaluations and checkpoints."""

    steps: int
    lr: float
    eval_every: int = 100


@dataclass(frozen=True, kw_only=True)
class VisionLanguageSettings:
    """What the three stages do. The default continues the demo on a laptop.

    Attributes:
        data: folder with `train/` and `validation/`; None is `data/` of the recipe's folder.
        language_model: released-layout folder with its processor.
        tower: the vision tower; its `out_hidden_size` is the width of the language model.
        captions: the caption tower; its vocabulary is that of the processor.
        form: of the contrastive loss.
        patches_per_batch, max_pairs: of a contrastive step.
        tokens_per_batch, max_length: of the later stages, in tokens.
        tower_rate: factor on the learning rate of the tower in the joint stage.
    """

    data: Path | None = None
    language_model: Path = Path("runs/demo/pretrain/model")
    tower: VisionConfig = field(default_factory=_demo_tower)
    captions: CaptionConfig = field(
        default_factory=lambda: CaptionConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=192)
    )
    embedding_size: int = 64
    form: Form = "sigmoid"
    patches_per_batch: int = 4096
    max_pairs: int = 48
    tokens_per_batch: int = 2048
    max_length: int = 512
    tower_rate: float = 0.1
    contrastive: VisionStage = field(default_factory=lambda: VisionStage(steps=300, lr=4e-3))
    projectors: VisionStage = field(default_factory=lambda: VisionStage(steps=100, lr=4e-3))
    joint: VisionStage = field(default_factory=lambda: VisionStage(steps=300, lr=2e-3))
    device: str = "auto"
    seed: int = 0


def contrastive_recipe(folder: Path = FOLDER, settings: VisionLanguageSettings | None = None) -> ContrastiveRun:
    """The towers, from nothing."""
    settings = settings or VisionLanguageSettings()
    train, validation = _files(folder, settings)
    stage = settings.contrastive
    return ContrastiveRun(
        folder=folder / "contrastive",
        model=ContrastiveConfig(
            vision=settings.tower,
            captions=settings.captions,
            embedding_size=settings.embedding_size,
            form=settings.form,
            bias=-3.0,
        ),
        tokenizer=settings.language_model,
        data=PairDataConfig(
            sources=(train,),
            validation=(validation,),
            patches_per_batch=settings.patches_per_batch,
            max_pairs=settings.max_pairs,
        ),
        optimizer=OptimizerConfig(kind="muon", lr=stage.lr),
        schedule=ScheduleConfig(kind="cosine", warmup=0.05),
        steps=stage.steps,
        eval_every=stage.eval_every,
        checkpoint_every=stage.eval_every,
        device=settings.device,
        seed=settings.seed,
    )


def projectors_recipe(folder: Path = FOLDER, settings: VisionLanguageSettings | None = None) -> TrainRun:
    """The merger, between the trained tower and the language model, both frozen."""
    settings = settings or VisionLanguageSettings()
    return _language(
        folder,
        settings,
        "projectors",
        init_from=settings.language_model,
        vision_from=folder / "contrastive" / "model",
        trainable=("model.visual.merger.*",),
        balance=0.0,
    )


def joint_recipe(folder: Path = FOLDER, settings: VisionLanguageSettings | None = None) -> TrainRun:
    """Everything, from the result of the projector stage."""
    settings = settings or VisionLanguageSettings()
    return _language(
        folder,
        settings,
        "joint",
        init_from=folder / "projectors" / "model",
        lr_multipliers=(("model.visual.*", settings.tower_rate),),
        balance=1e-3,
    )


def _language(
    folder: Path,
    settings: VisionLanguageSettings,
    name: Literal["projectors", "joint"],
    *,
    init_from: Path,
    balance: float,
    vision_from: Path | None = None,
    trainable: tuple[str, ...] | None = None,
    lr_multipliers: tuple[tuple[str, float], ...] = (),
) -> TrainRun:
    train, validation = _files(folder, settings)
    stage = settings.projectors if name == "projectors" else settings.joint
    return TrainRun(
        folder=folder / name,
        stage="sft",
        init_from=init_from,
        vision_from=vision_from,
        trainable=trainable,
        data=DataConfig(
            sources=(train,),
            validation=(validation,),
            tokens_per_batch=settings.tokens_per_batch,
            max_length=settings.max_length,
        ),
        optimizer=OptimizerConfig(kind="muon", lr=stage.lr, lr_multipliers=lr_multipliers),
        loss=LossConfig(balance=balance),
        schedule=ScheduleConfig(kind="cosine", warmup=0.05),
        steps=stage.steps,
        eval_every=stage.eval_every,
        checkpoint_every=stage.eval_every,
        device=settings.device,
        seed=settings.seed,
    )


def _files(folder: Path, settings: VisionLanguageSettings) -> tuple[SourceConfig, SourceConfig]:
    data = settings.data or folder / "data"
    return SourceConfig(name="pairs", path=data / "train"), SourceConfig(name="held_out", path=data / "validation")
