"""Is a text fit for training? Three tiers, from cheap to dear, each with its reasons.

    rules            hard rules (`rules.py`): one is enough to reject
    features         what is unusual about the text (`features.py`, `anomaly.py`): a calibrated probability of damage
    language_model   the same with the surprisal of a small network, when its numbers are given (`language_tier.py`)

`judge` is a pure function of its arguments. The model of the second tier comes with the package (`quality_model.json`,
`quality_ngrams.npz`, made by `bench/quality.py fit`), so nothing has to be trained first.

A row's `score` is the logit of damage before calibration, `probability` the calibrated probability that the text is
**good**. A text is kept if it breaks no rule and its probability of damage is below the threshold of the model, which
leaves out one in a hundred good texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from s1pro.corpus.quality.anomaly import AnomalyModel
from s1pro.corpus.quality.features import features_of
from s1pro.corpus.quality.language_tier import SURPRISAL_FEATURES
from s1pro.corpus.quality.ngrams import NgramModel
from s1pro.corpus.quality.rules import broken_rules
from s1pro.corpus.records import CaptionRow, QualityRow

MODEL_FILE = Path(__file__).with_name("quality_model.json")
NGRAM_FILE = Path(__file__).with_name("quality_ngrams.npz")
RULE_SCORE = 20.0
LANGUAGE_TIER = ("features", *SURPRISAL_FEATURES)


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is judged.

    Attributes:
        finish_reason: how the model that wrote it ended; "stop" for text that no model wrote.
        prompt: what the model was asked, to find it repeated; empty if unknown.
    """

    text_id: str
    text: str
    finish_reason: str = "stop"
    prompt: str = ""

    @classmethod
    def of_caption(cls, row: CaptionRow) -> Text:
        return cls(text_id=row.request_id, text=row.text, finish_reason=row.finish_reason, prompt=row.prompt)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The fitted parts of the second tier, and of the third if there is one.

    Attributes:
        language: a model over `LANGUAGE_TIER`: what the second tier says, and what a language model says.
    """

    ngrams: NgramModel
    features: AnomalyModel
    language: AnomalyModel | None = None


@lru_cache(maxsize=1)
def shipped_judge() -> Judge:
    """The one that comes with the package."""
    return Judge(ngrams=NgramModel.load(NGRAM_FILE), features=AnomalyModel.load(MODEL_FILE))


def judge(
    texts: Sequence[Text], judge: Judge | None = None, *, surprisals: Mapping[str, np.ndarray] | None = None
) -> list[QualityRow]:
    """One row for every text, in the order of the input.

    Args:
        judge: None takes the shipped one.
        surprisals: by text id, what a language model says (`language_tier.measure`); texts without any are judged by
            their features.

    Raises:
        ValueError: surprisals for a judge without a third tier.
    """
    judge = judge or shipped_judge()
    if surprisals and judge.language is None:
        raise ValueError(
            "surprisals were given, but this judge has no model that reads them; see s1pro.recipes.quality"
        )
    return [_judged(text, judge, (surprisals or {}).get(text.text_id)) for text in texts]


def _judged(text: Text, judge: Judge, surprisal: np.ndarray | None) -> QualityRow:
    rules = broken_rules(text.text, finish_reason=text.finish_reason, prompt=text.prompt)
    if rules:
        return QualityRow(
            text_id=text.text_id, tier="rules", score=RULE_SCORE, probability=0.0, keep=False, reasons=rules
        )
    register, values = features_of(text.text, judge.ngrams)
    model = judge.features
    anomalies = model.anomalies([register], values[None])
    by_features = model.reasons(anomalies[0])
    if surprisal is not None and judge.language is not None and register == "prose":
        second, model = model.logits(anomalies), judge.language
        anomalies = model.anomalies([register], np.concatenate([second, surprisal])[None])
    reasons = tuple(
        each for name in model.reasons(anomalies[0]) for each in (by_features if name == "features high" else (name,))
    )
    damaged = float(model.probabilities(anomalies)[0])
    keep = damaged <= model.threshold
    return QualityRow(
        text_id=text.text_id,
        tier="features" if model is judge.features else "language_model",
        score=round(float(model.logits(anomalies)[0]), 6),
        probability=round(1 - damaged, 6),
        keep=keep,
        reasons=() if keep else reasons,
    )
