"""The settings of the demo, and the two training stages that they give; reinforcement learning is in `demo_rl`.

Pre-training reads descriptions: every token is a target, and the sentences stand in all orders, so the model learns to
go from a name to a formula and from a SMILES to what is in it. Between the two runs the model grows: every expert is
copied four times into eight groups, and from then on a token uses one expert of each. The joint run reads conversations
about molecules, pictures, videos and signals, mixed in every batch: only the answers are targets, and both towers learn
with the language model. Both use Muon for matrices and AdamW for the rest, one micro-batch of about a thousand tokens
per step and the warm-up-stable-decay schedule; many small steps learn more in a minute than few large ones.

Steps are what is meant, seconds are a fence: `max_seconds` ends a stage on a slow machine, and the schedule follows
the clock there, so that the learning rate has come down by then.

Layout of the folder, which the stages share:

    data/        corpus: descriptions, questions, molecules.parquet
    media/       corpus: pictures, videos and signals with questions
    papers/      PDFs, what was found in them, captions
    tokenizer/   processor
    pretrain/    run folder
    expanded/    its model with more experts, where the joint run starts; expansion.html
    joint/       run folder
    eval/        answers and scores
    model/       the result of the joint run
    rl/          run folder; rl/model is the result of reinforcement learning
    demo.json    which stages are finished
    report.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.videos import VideoSettings
from s1pro.model import presets
from s1pro.model.config import ModelConfig
from s1pro.science.media_families import MediaSettings
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
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
class MediaSource:
    """One family of `science.media_families`.

    Attributes:
        count: conversations to learn from.
        weight: of its tokens in the joint run.
    """

    count: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LessonSettings:
    """Reinforcement learning at the end (`demo_rl`).

    Attributes:
        tasks: about text, whose questions are asked.
        questions: of each that there are to learn from.
        prompts, group_size: questions of a step, and answers to each.
        parts: what graded parts of an answer are worth (`rl.rewards`). One drawn answer in fourteen is right, so that
            alone leaves most groups with nothing to teach; of the others many have the group that was asked for.
        draws: answers to every held-out question, before and after.
    """

    tasks: tuple[str, ...] = ("smiles_with_group",)
    questions: int = 2000
    steps: int = 24
    lr: float = 1e-3
    prompts: int = 24
    group_size: int = 8
    parts: Mapping[str, float] = field(default_factory=lambda: {"carbon": 0.3, "group": 0.3})
    draws: int = 6


MEDIA: Mapping[str, MediaSource] = {
    "digit_in_scan": MediaSource(count=1400, weight=1.4),
    "motion_in_video": MediaSource(count=600, weight=1.0),
    "chirp_in_signal": MediaSource(count=600, weight=0.9),
    "lattice_in_diffraction": MediaSource(count=600, weight=1.1),
    "arrival_in_seismogram": MediaSource(count=500, weight=0.9),
    "rhythm_in_ecg": MediaSource(count=1500, weight=1.6),
}
"""A signal that comes along rarely is not learned at all: with half these weights, signals stayed at their baseline."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo does. The default takes six to seven minutes on two cores.

    Attributes:
        molecules: how many, before the split.
        passes: descriptions per molecule.
        questions: conversations to learn from.
        shares: how often each family is asked; writing a molecule is the hardest.
        media: families of questions about pictures, videos and signals.
        questions_weight: tokens of questions about molecules in the joint run, relative to the weights in `media`.
        papers: how many are written and read for captions; papers_weight: of the tokens of these captions.
        text_tokens, smiles_pieces: sizes of the tokenizer's vocabularies.
        model: architecture; its vocabulary has to hold both, and the added tokens. Placeholders get their ids from the
            tokenizer.
        tokens_per_batch: of one step.
        text_tasks: tasks about text; required: on how many of them the baselines have to be beaten. Of the tasks about
            each kind of medium at least one has to be.
        rl: reinforcement learning from the trained model.
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
    media: Mapping[str, MediaSource] = field(default_factory=lambda: dict(MEDIA))
    questions_weight: float = 5.5
    papers: int = 12
    papers_weight: float = 0.3
    text_tokens: int = 1000
    smiles_pieces: int = 48
    model: ModelConfig = field(default_factory=lambda: presets.demo_media(1152))
    tokens_per_batch: int = 1024
    pretrain: StageSettings = field(
        default_factory=lambda: StageSettings(steps=600, lr=4e-3, warmup=0.04, decay=0.3, balance=0.01, eval_every=100)
    )
    joint: StageSettings = field(
        default_factory=lambda: StageSettings(
            steps=1300, lr=4e-3, warmup=0.04, decay=0.7, balance=0.001, eval_every=200
        )
    )
    text_tasks: tuple[str, ...] = (
        "formula_from_name",
        "count_in_smiles",
        "smiles_with_group",
        "mass_from_smiles",
        "group_in_smiles",
    )
    rl: LessonSettings = field(default_factory=LessonSettings)
    required: int = 4
    items: int = 200
    max_new_tokens: int = 48
    budgets: Mapping[str, float] = field(
        default_factory=lambda: {
            "data": 17.0,
            "papers": 12.0,
            "tokenizer": 5.0,
            "pretrain": 57.0,
            "expand": 4.0,
            "joint": 222.0,
            "eval": 40.0,
            "rl": 58.0,
            "report": 5.0,
        }
    )
    threads: int = 1
    seed: int = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that are asked: those about text, then one per family of media."""
        return (*self.text_tasks, *self.media)

    @property
    def sizes(self) -> MediaSettings:
        """Of the pictures and videos that are made."""
        return MediaSettings()

    def preparation(self) -> Preparation:
        """How media become patches and values, for the patches of this model."""
        images = ImageSettings(min_pixels=32 * 32, max_pixels=128 * 128)
        videos = VideoSettings(min_pixels=4 * 32 * 32, max_pixels=8 * 64 * 64, fps=1.0)
        if (vision := self.model.vision) is not None:
            patch, merge = vision.patch_size, vision.spatial_merge_size
            images = replace(images, patch_size=patch, merge_size=merge)
            videos = replace(videos, patch_size=patch, merge_size=merge)
        return Preparation(images=images, videos=videos)


def pretrain_recipe(folder: Path = FOLDER, settings: DemoSettings | None = None) -> TrainRun:
    """Descriptions, from nothing."""
    settings = settings or DemoSettings()
    return _run(folder, settings, "pretrain", settings.pretrain, model=settings.model, tokenizer=folder / "tokenizer")


def joint_recipe(folder: Path = FOLDER, settings: DemoSettings | None = None) -> TrainRun:
    """Questions and answers about molecules, pictures, videos and signals, from the expanded model."""
    settings = settings or DemoSettings()
    return _run(
        folder,
        settings,
        "joint",
        settings.joint,
        init_from=folder / "expanded",
        tokenizer=folder / "tokenizer",
        straight_through=True,
    )


def _run(
    folder: Path,
    settings: DemoSettings,
    name: Literal["pretrain", "joint"],
    chosen: StageSettings,
    *,
    model: ModelConfig | None = None,
    init_from: Path | None = None,
    tokenizer: Path,
    straight_through: bool | None = None,
) -> TrainRun:
    return TrainRun(
        folder=folder / name,
        stage="pretrain" if name == "pretrain" else "sft",
        model=model,
        init_from=init_from,
        tokenizer=tokenizer,
        straight_through=straight_through,
        data=DataConfig(
            sources=_sources(folder, settings, name, "train"),
            validation=_sources(folder, settings, name, "validation"),
            tokens_per_batch=settings.tokens_per_batch,
            max_length=min(768, settings.tokens_per_batch),
            long_conversations="drop",
            validation_batches=8,
        ),
        optimizer=OptimizerConfig(kind="muon", lr=chosen.lr),
        loss=LossConfig(balance=chosen.balance),
        schedule=ScheduleConfig(kind="wsd", warmup=chosen.warmup, decay=chosen.decay, follow_time=True),
        steps=chosen.steps,
        max_seconds=_STEPS_SHARE * settings.budgets[name],
        seed=settings.seed,
        device="cpu",
        eval_every=chosen.eval_every,
        checkpoint_every=chosen.eval_every,
        keep_checkpoints=1,
        tensorboard=False,
    )


def _sources(folder: Path, settings: DemoSettings, name: str, part: str) -> tuple[SourceConfig, ...]:
    """Files of a stage: descriptions, or questions and all families of media."""
    if name == "pretrain":
        return (SourceConfig(name="descriptions", path=folder / "data" / "descriptions" / f"{part}.parquet"),)
    questions = folder / "data" / "questions" / f"{part}.parquet"
    return (
        SourceConfig(name="questions", path=questions, weight=settings.questions_weight),
        *(
            SourceConfig(name=family, path=folder / "media" / family / f"{part}.parquet", weight=source.weight)
            for family, source in settings.media.items()
        ),
        *_paper_sources(folder, settings, part),
    )


def _paper_sources(folder: Path, settings: DemoSettings, part: str) -> tuple[SourceConfig, ...]:
    """Captions of figures, to learn from; too few are held out for a validation loss of their own."""
    if part != "train" or not settings.papers:
        return ()
    path = folder / "papers" / "samples" / "train.parquet"
    return (SourceConfig(name="papers", path=path, weight=settings.papers_weight),)
