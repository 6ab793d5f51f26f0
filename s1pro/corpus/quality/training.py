"""From good passages to a fitted judge: damage, features, fit, calibration, and the numbers that tell how good it is.

1. The passages come with their documents; collections are held out for calibration and test (`passages.split_of`).
2. The words' and letters' models count the training part. Features of training passages are computed with a model that
   has not counted their document (four folds), otherwise good text would look better than it will.
3. Every good passage is damaged in some families of `garble`, in turn. `hard_texts` stand among the good ones.
4. `anomaly.fit`, then `calibrate` on the calibration part; the threshold leaves out one in a hundred good passages
   there.
5. `Evaluation` on the test part: area under the curve, recall at 1 % false rejects, per family, and with each family
   left out of training in turn.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s1pro.corpus.quality.anomaly import AnomalyModel, auc, calibrate, fit
from s1pro.corpus.quality.features import FEATURES, features_of
from s1pro.corpus.quality.garble import FAMILIES, garble
from s1pro.corpus.quality.hard_texts import KINDS, hard_text
from s1pro.corpus.quality.judge import RULE_SCORE, Judge
from s1pro.corpus.quality.ngrams import NgramModel, count
from s1pro.corpus.quality.passages import Part, Passage, split_of
from s1pro.corpus.quality.rules import broken_rules

GOOD = "good"
HARD_SEEDS = {"train": 0, "calibration": 1_000_000, "test": 2_000_000}
_FOLDS = 4
_NEIGHBOURS = 30


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A text, the family of its damage (`good` for none), and the document that it is from."""

    document: str
    family: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Labelled texts with what was counted in them; `broken` are those that break a hard rule."""

    rows: tuple[Labelled, ...]
    registers: tuple[str, ...]
    values: np.ndarray
    broken: np.ndarray

    @property
    def families(self) -> np.ndarray:
        return np.array([row.family for row in self.rows])

    @property
    def damaged(self) -> np.ndarray:
        return np.array([float(row.family != GOOD) for row in self.rows])

    def only(self, kept: np.ndarray) -> Measured:
        places = np.flatnonzero(kept)
        return Measured(
            rows=tuple(self.rows[i] for i in places),
            registers=tuple(self.registers[i] for i in places),
            values=self.values[places],
            broken=self.broken[places],
        )

    def with_more(self, more: np.ndarray) -> Measured:
        """With further columns."""
        return replace(self, values=np.concatenate([self.values, more], axis=1))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well damaged texts are told from good ones.

    Attributes:
        auc: area under the curve over all families; recall: share of the damaged found at 1 % false rejects.
        families: for each family both numbers.
    """

    auc: float
    recall: float
    families: dict[str, tuple[float, float]]


def labelled(passages: Iterable[Passage], part: Part, *, per_document: int, damaged: int) -> list[Labelled]:
    """Good passages of a part, at most so many of a document, each also damaged in `damaged` families in turn."""
    chosen = _capped([p for p in passages if split_of(p.document) == part], per_document)
    texts, names = [passage.text for passage in chosen], list(FAMILIES)
    rows = []
    for i, passage in enumerate(chosen):
        rows.append(Labelled(document=passage.document, family=GOOD, text=passage.text))
        others = [*texts[max(0, i - _NEIGHBOURS) : i], *texts[i + 1 : i + 1 + _NEIGHBOURS]]
        for k in range(damaged):
            family = names[(i * damaged + k) % len(names)]
            text = garble(passage.text, family, i, others)
            rows.append(Labelled(document=passage.document, family=family, text=text))
    return rows


def hard_rows(part: Part, number: int) -> list[Labelled]:
    """Good text of all odd kinds, `number` of each."""
    start = HARD_SEEDS[part]
    return [
        Labelled(document=f"hard/{kind}", family=GOOD, text=hard_text(kind, start + i))
        for kind in KINDS
        for i in range(number)
    ]


def measure_rows(rows: Sequence[Labelled], model_of: Callable[[str], NgramModel]) -> Measured:
    """Features of all texts; `model_of` gives the words' model for a document."""
    pairs = [features_of(row.text, model_of(row.document)) for row in rows]
    return Measured(
        rows=tuple(rows),
        registers=tuple(p[0] for p in pairs),
        values=np.array([p[1] for p in pairs]),
        broken=np.array([bool(broken_rules(row.text)) for row in rows]),
    )


def ngram_models(passages: Sequence[Passage]) -> tuple[NgramModel, Callable[[str], NgramModel]]:
    """The model of all training passages, and for each of their documents one that has not seen it."""
    trained = [p for p in passages if split_of(p.document) == "train"]
    documents = sorted({p.document for p in trained})
    fold = {document: i % _FOLDS for i, document in enumerate(documents)}
    whole = count(p.text for p in trained)
    without = [count(p.text for p in trained if fold[p.document] != k) for k in range(_FOLDS)]
    return whole, lambda document: without[fold[document]] if document in fold else whole


def fit_judge(train: Measured, calibration: Measured, ngrams: NgramModel, names: Sequence[str] = ()) -> Judge:
    """The second tier; with names of further columns they belong to the third, which is fitted in the same way."""
    model = fit_model(train, (*FEATURES, *names))
    logits = model.logits(model.anomalies(calibration.registers, calibration.values))
    return Judge(ngrams=ngrams, features=calibrate(model, logits, calibration.damaged))


def fit_model(train: Measured, names: Sequence[str], *, without: str = "") -> AnomalyModel:
    """Weights for the columns `names`; `without` leaves a family out."""
    kept = train.only(train.families != without)
    return fit(kept.registers, kept.values, kept.damaged, names, groups=[row.family for row in kept.rows])


def scores(model: AnomalyModel, measured: Measured, *, rules: bool = True) -> np.ndarray:
    """Logits of damage; texts that break a hard rule get `RULE_SCORE` more."""
    found = model.logits(model.anomalies(measured.registers, measured.values))
    return np.asarray(found + RULE_SCORE * measured.broken) if rules else found


def evaluate(values: np.ndarray, measured: Measured) -> Evaluation:
    """Both numbers over all families and for each."""
    good = values[measured.damaged == 0]
    threshold = float(np.quantile(good, 0.99))
    families = {}
    for family in FAMILIES:
        some = values[measured.families == family]
        if len(some):
            families[family] = (auc(good, some), float((some > threshold).mean()))
    bad = values[measured.damaged == 1]
    return Evaluation(auc=auc(good, bad), recall=float((bad > threshold).mean()), families=families)


def leave_one_out(train: Measured, test: Measured, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """For each family the area under its curve, by a model that was trained without it: with rules, without."""
    found = {}
    for family in FAMILIES:
        model = fit_model(train, names, without=family)
        some = test.only((test.families == family) | (test.families == GOOD))
        with_rules, without = (evaluate(scores(model, some, rules=rules), some) for rules in (True, False))
        found[family] = (with_rules.auc, without.auc)
    return found


def calibration_error(probabilities: np.ndarray, damaged: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean difference of what was said and what was, over bins of equal width."""
    where = np.minimum((probabilities * bins).astype(int), bins - 1)
    error = 0.0
    for i in range(bins):
        some = where == i
        if some.any():
            error += some.mean() * abs(probabilities[some].mean() - damaged[some].mean())
    return float(error)


def _capped(passages: Sequence[Passage], per_document: int) -> list[Passage]:
    """In the order of a hash of their text, so that no file name decides what is left out."""
    order = sorted(passages, key=lambda p: hashlib.blake2b(p.text.encode(), digest_size=8).digest())
    taken: Counter[str] = Counter()
    chosen = []
    for passage in order:
        taken[passage.document] += 1
        if taken[passage.document] <= per_document:
            chosen.append(passage)
    return sorted(chosen, key=lambda p: p.document)
