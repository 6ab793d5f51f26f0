"""What a figure is about, from the words around it: caption, mentions, section title.

1. **Words to numbers.** Single words and pairs of neighbours are hashed (CRC-32) into 2^14 places, weighed by
   `(1 + log count) · idf`, and the vector is brought to length 1. No vocabulary is kept, so any words may come.
2. **Multinomial logistic regression** by gradient descent with a penalty, in numpy.
3. **Calibration.** One temperature, fitted on texts that were not trained on, so that of the answers given with
   probability 0.8 about eight in ten are right.
4. **Abstention.** Below `min_probability` the topic is `unknown`; too few words give `unknown` too, and so does a text
   that is like those of a topic named `unknown` (words that all fields share), if the model was trained on one.

A model for eight fields of science is made on the spot from the vocabularies of `topic_words` (`default_model`, a
second); `train` makes one from your own labelled texts, and `save`/`load` keep it as an `.npz` file without pickle.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from s1pro.base.errors import InputError
from s1pro.corpus.records import ElementRow
from s1pro.corpus.topic_words import TOPICS, common_texts, made_up_texts

UNKNOWN = "unknown"
PLACES = 1 << 14
_WORD = re.compile(r"[A-Za-z][A-Za-z\-]{2,}")
_MIN_WORDS = 3
_PENALTY = 1e-4
_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class TopicModel:
    """Weights `(PLACES, topics)` and the rest of what `classify` needs."""

    topics: tuple[str, ...]
    idf: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    temperature: float = 1.0
    min_probability: float = 0.5

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """`(texts, topics)`."""
        rows, places, values = _vectors(texts, self.idf)
        logits = np.tile(self.offsets, (len(texts), 1))
        np.add.at(logits, rows, values[:, None] * self.weights[places])
        return _softmax(logits / self.temperature)

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float, bool]]:
        """For each text the topic, its probability, and whether the model abstained (topic `unknown` then)."""
        found = []
        for text, row in zip(texts, self.probabilities(texts), strict=True):
            best = int(np.argmax(row))
            known = self.topics[best] != UNKNOWN and row[best] >= self.min_probability
            sure = known and len(_WORD.findall(text)) >= _MIN_WORDS
            found.append((self.topics[best] if sure else UNKNOWN, round(float(row[best]), 6), not sure))
        return found

    def save(self, path: Path) -> None:
        np.savez_compressed(
            path,
            topics=np.array("\n".join(self.topics)),
            idf=self.idf.astype(np.float32),
            weights=self.weights.astype(np.float32),
            offsets=self.offsets,
            settings=np.array([self.temperature, self.min_probability]),
        )

    @classmethod
    def load(cls, path: Path) -> TopicModel:
        """Raises `InputError` for a file that is not one."""
        try:
            with np.load(path, allow_pickle=False) as data:
                temperature, least = (float(v) for v in data["settings"])
                return cls(
                    topics=tuple(str(data["topics"]).split("\n")),
                    idf=data["idf"],
                    weights=data["weights"],
                    offsets=data["offsets"],
                    temperature=temperature,
                    min_probability=least,
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a model of topics ({error})") from error


def text_of(element: ElementRow) -> str:
    """The words around an element."""
    return " ".join([element.section_title, element.caption, *(mention.text for mention in element.mentions)]).strip()


def train(texts: Sequence[str], labels: Sequence[str], *, min_probability: float = 0.5) -> TopicModel:
    """A model of labelled texts; every fifth text is for the temperature alone.

    Raises:
        InputError: fewer than two topics, or numbers of texts and labels that differ.
    """
    topics = tuple(sorted(set(labels)))
    if len(topics) < 2 or len(texts) != len(labels):
        raise InputError(f"{len(texts)} texts with {len(labels)} labels of {len(topics)} topics: two topics are needed")
    answer = np.array([topics.index(label) for label in labels])
    held_out = np.arange(len(texts)) % 5 == 4
    idf = _idf([text for text, out in zip(texts, held_out, strict=True) if not out])
    trained = [text for text, out in zip(texts, held_out, strict=True) if not out]
    weights, offsets = _regression(trained, answer[~held_out], len(topics), idf)
    model = TopicModel(topics=topics, idf=idf, weights=weights, offsets=offsets, min_probability=min_probability)
    others = [text for text, out in zip(texts, held_out, strict=True) if out]
    temperature = _temperature(model.probabilities(others), answer[held_out]) if others else 1.0
    return TopicModel(
        topics=topics,
        idf=idf,
        weights=weights,
        offsets=offsets,
        temperature=temperature,
        min_probability=min_probability,
    )


@lru_cache(maxsize=1)
def default_model() -> TopicModel:
    """The model of the topics in `topic_words`, trained on texts made of their vocabularies."""
    pairs = [(text, topic) for topic in TOPICS for text in made_up_texts(topic, 80)]
    pairs += [(text, UNKNOWN) for text in common_texts(80)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return train([pairs[i][0] for i in order], [pairs[i][1] for i in order])


def _terms(text: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def _counts(text: str) -> tuple[np.ndarray, np.ndarray]:
    places = np.array([zlib.crc32(term.encode()) % PLACES for term in _terms(text)], dtype=np.int64)
    return np.unique(places, return_counts=True)


def _idf(texts: Sequence[str]) -> np.ndarray:
    documents = np.zeros(PLACES)
    for text in texts:
        documents[_counts(text)[0]] += 1
    return np.log((1 + len(texts)) / (1 + documents)) + 1


def _vectors(texts: Sequence[str], idf: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, place and value of everything that is not zero."""
    rows, places, values = [], [], []
    for row, text in enumerate(texts):
        found, counts = _counts(text)
        value = (1 + np.log(counts)) * idf[found]
        rows.append(np.full(len(found), row, dtype=np.int64))
        places.append(found)
        values.append(value / max(1e-12, float(np.linalg.norm(value))))
    if not rows:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, np.empty(0)
    return np.concatenate(rows), np.concatenate(places), np.concatenate(values)


def _regression(
    texts: Sequence[str], answer: np.ndarray, num_topics: int, idf: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Accelerated gradient descent on the places that occur."""
    rows, places, values = _vectors(texts, idf)
    used, where = np.unique(places, return_inverse=True)
    weights, offsets = np.zeros((len(used), num_topics)), np.zeros(num_topics)
    ahead, ahead_offsets = weights.copy(), offsets.copy()
    wanted = np.eye(num_topics)[answer]
    rate = 2.0
    for step in range(_STEPS):
        logits = np.tile(ahead_offsets, (len(texts), 1))
        np.add.at(logits, rows, values[:, None] * ahead[where])
        error = (_softmax(logits) - wanted) / len(texts)
        slope = np.zeros_like(weights)
        np.add.at(slope, where, values[:, None] * error[rows])
        new = ahead - rate * (slope + _PENALTY * ahead)
        new_offsets = ahead_offsets - rate * error.sum(axis=0)
        momentum = step / (step + 3)
        ahead = new + momentum * (new - weights)
        ahead_offsets = new_offsets + momentum * (new_offsets - offsets)
        weights, offsets = new, new_offsets
    full = np.zeros((PLACES, num_topics))
    full[used] = weights
    return full, offsets


def _temperature(probabilities: np.ndarray, answer: np.ndarray) -> float:
    """The one of a list that makes the answers most probable."""
    logits = np.log(np.maximum(probabilities, 1e-12))
    candidates = np.exp(np.linspace(np.log(0.1), np.log(5), 60))
    losses = [-np.log(_softmax(logits / t)[np.arange(len(answer)), answer] + 1e-12).mean() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
