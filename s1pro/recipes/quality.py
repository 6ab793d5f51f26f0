"""The third tier of text quality: a tiny network of this project, trained on good text and asked how surprised it is.

    tokenizer/   byte-level BPE of the training passages
    train/       run folder of the one training loop; train/model/ is the network
    judge.json   weights of the third tier over features and surprisals; features.json the second tier

1. Good passages of the training collections become plain documents (domain `english`) and train a mixture of experts of
   0.9 M parameters: every token is a target. Some minutes on one core.
2. The network is served in process (`LocalClient`) and asked for the log-probs of passages and damaged passages
   (`corpus.quality.language_tier`). Passages of the training collections were seen by the network, so this tier is
   fitted on the calibration collections; half of their documents are kept back for its calibration.
3. The same kind of regression as in the second tier, over eight numbers: the logit of the second tier and the seven of
   the network.

At scale the network of step 1 is any model behind a client; nothing else changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from s1pro.base.client import ModelClient
from s1pro.base.records import Sample
from s1pro.corpus.quality.anomaly import AnomalyModel, calibrate, write_model
from s1pro.corpus.quality.judge import LANGUAGE_TIER, Judge
from s1pro.corpus.quality.language_tier import SURPRISAL_FEATURES, measure
from s1pro.corpus.quality.passages import Passage, split_of
from s1pro.corpus.quality.training import Measured, fit_model
from s1pro.corpus.write import write_samples
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.serve.client import LocalClient
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
from s1pro.train.optim import OptimizerConfig
from s1pro.train.schedules import ScheduleConfig
from s1pro.train.stage import train


@dataclass(frozen=True, kw_only=True)
class QualitySettings:
    """How the network is trained.

    Attributes:
        text_tokens: byte-level tokens of the tokenizer.
        steps: of one batch of `tokens_per_batch` tokens; `max_seconds` ends the training on a slow machine.
    """

    text_tokens: int = 2000
    steps: int = 1500
    max_seconds: float = 400.0
    tokens_per_batch: int = 2048
    lr: float = 4e-3
    seed: int = 0


def training_run(folder: Path, settings: QualitySettings) -> TrainRun:
    """The complete configuration of step 1."""
    return TrainRun(
        folder=folder / "train",
        stage="pretrain",
        model=presets.demo(settings.text_tokens + 64),
        tokenizer=folder / "tokenizer",
        data=DataConfig(
            sources=(SourceConfig(name="passages", path=folder / "passages.parquet"),),
            tokens_per_batch=settings.tokens_per_batch,
            max_length=512,
        ),
        optimizer=OptimizerConfig(kind="muon", lr=settings.lr),
        schedule=ScheduleConfig(kind="wsd", warmup=0.04, decay=0.4, follow_time=True),
        steps=settings.steps,
        max_seconds=settings.max_seconds,
        seed=settings.seed,
        device="cpu",
        tensorboard=False,
        progress=False,
    )


def train_language_model(folder: Path, passages: Iterable[Passage], settings: QualitySettings | None = None) -> Path:
    """Steps of the tokenizer and the network; returns the folder of the model."""
    settings = settings or QualitySettings()
    trained = [passage for passage in passages if split_of(passage.document) == "train"]
    write_samples((_sample(passage) for passage in trained), folder / "passages.parquet")
    tokenizer = train_tokenizer((passage.text for passage in trained), vocab_size=settings.text_tokens)
    Processor(tokenizer).save_pretrained(folder / "tokenizer")
    result = train(training_run(folder, settings))
    assert result.model_folder is not None
    return result.model_folder


def with_surprisals(client: ModelClient, judge: Judge, measured: Measured) -> Measured:
    """The columns of `LANGUAGE_TIER` in place of the features; only prose has numbers of the network."""
    texts = {
        str(i): row.text
        for i, (row, register) in enumerate(zip(measured.rows, measured.registers, strict=True))
        if register == "prose"
    }
    found = asyncio.run(measure(client, texts))
    missing = np.full(len(SURPRISAL_FEATURES), np.nan)
    second = judge.features.logits(judge.features.anomalies(measured.registers, measured.values))
    columns = [np.concatenate([[second[i]], found.get(str(i), missing)]) for i in range(len(measured.rows))]
    return replace(measured, values=np.array(columns))


def fit_language_tier(judge: Judge, calibration: Measured) -> Judge:
    """The judge with a third tier, from rows with surprisals that neither tier was trained on."""
    half = np.array([_is_first_half(row.document) for row in calibration.rows])
    first, second = calibration.only(half), calibration.only(~half)
    model = fit_model(first, LANGUAGE_TIER)
    logits = model.logits(model.anomalies(second.registers, second.values))
    return replace(judge, language=calibrate(model, logits, second.damaged))


def save_judge(judge: Judge, folder: Path) -> None:
    """`features.json`, `judge.json` and `ngrams.npz` in a folder."""
    assert judge.language is not None
    write_model(judge.features, folder / "features.json")
    write_model(judge.language, folder / "judge.json")
    judge.ngrams.save(folder / "ngrams.npz")


def load_judge(folder: Path) -> Judge:
    """Raises `InputError` for a folder without the files."""
    from s1pro.corpus.quality.ngrams import NgramModel

    return Judge(
        ngrams=NgramModel.load(folder / "ngrams.npz"),
        features=AnomalyModel.load(folder / "features.json"),
        language=AnomalyModel.load(folder / "judge.json"),
    )


def client_of(model: Path, *, sequences: int = 32) -> LocalClient:
    """The trained network in this process."""
    return LocalClient.from_folder(model, max_batch=sequences, prefix_cache=False, record_routing=False)


def _sample(passage: Passage) -> Sample:
    return Sample(
        source="good-passages",
        prompt_group="general",
        text=passage.text,
        entity=passage.document,
        meta={"domain": "english"},
    )


def _is_first_half(document: str) -> bool:
    return hashlib.blake2b(document.encode(), digest_size=1).digest()[0] % 2 == 0
