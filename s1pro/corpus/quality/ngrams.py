"""Two small language models by counting: is this the order of words, are these the letters of words?

**Words.** The most frequent words of good text stand for themselves, all others for their shape (ending, capital
letters, number, formula), so that a sentence about things never seen before still has an order. With counts `c` and a
discount `d` the probability of a word after two others is interpolated down to the single word:

    p(w | u v) = max(c(u v w) - d, 0) / c(u v) + d N(u v) / c(u v) · p(w | v),   N = number of different continuations

and likewise for `p(w | v)`. What is looked at is the **gain** `log p(w | u v) - log p(w)`: how much the words before
help. It is high in sentences, about zero in word salad, and dips where two columns of a page were read across, whatever
the subject is.

**Lexicon.** Words seen twice or more, and those of them that are written small inside a sentence. A capital `The` in
the middle of a sentence, or two pieces that are no words but make one (`detec tion`), are seen by them.

**Letters.** A table of `log p(letter | three letters before)` over a-z and the border of words: damaged words surprise
it.

All are arrays in one `.npz` file and are looked up in bulk.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.corpus.write import atomic_path

NUM_WORDS = 2500
_DISCOUNT = 0.7
_TOKEN = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?|\d[\d.,]*|[^\sA-Za-z\d]")
_ENDINGS = (
    "ation", "tions", "ings", "ment", "ness", "able", "ible", "less", "ical", "ally", "tion", "sion", "ance", "ence",
    "ized", "ity", "ies", "ing", "ers", "ive", "ous", "ful", "ism", "ist", "ize", "est", "ed", "ly", "er", "al", "ic",
    "es", "or", "en", "ss", "s", "e", "y",
)  # fmt: skip
_SHAPES = ("<start>", "<number>", "<capitals>", "<name>", "<mixed>", "<letter>", "<sign>", "<rest>")
_LETTERS = 27


def tokens_of(text: str) -> list[str]:
    """Words, numbers and single signs."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, kw_only=True)
class NgramModel:
    """Counts of good text; see the module docstring.

    Attributes:
        words: those that stand for themselves; shapes and endings follow in the numbering.
        unigram: log-probabilities `(units,)`.
        bigram_keys, bigram_counts, trigram_keys, trigram_counts: sorted keys `u · units + v` and so on.
        letters: log-probabilities `(27, 27, 27, 27)`, index 0 is the border of a word.
        lexicon: words of small letters seen at least twice; small: those that are hardly ever capital inside a
            sentence.
    """

    words: tuple[str, ...]
    unigram: np.ndarray
    bigram_keys: np.ndarray
    bigram_counts: np.ndarray
    trigram_keys: np.ndarray
    trigram_counts: np.ndarray
    letters: np.ndarray
    lexicon: frozenset[str] = frozenset()
    small: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        numbering = {word: i for i, word in enumerate((*self.words, *_SHAPES, *(f"-{e}" for e in _ENDINGS)))}
        object.__setattr__(self, "_numbering", numbering)
        units = self.num_units
        for order, keys, counts in (
            (2, self.bigram_keys, self.bigram_counts),
            (3, self.trigram_keys, self.trigram_counts),
        ):
            contexts, start = np.unique(keys // units, return_index=True)
            totals = np.add.reduceat(counts.astype(np.float64), start) if len(start) else np.empty(0)
            kinds = np.diff(np.append(start, len(keys)))
            object.__setattr__(self, f"_contexts{order}", (contexts, totals, kinds))

    @property
    def num_units(self) -> int:
        return len(self.words) + len(_SHAPES) + len(_ENDINGS)

    def units(self, tokens: Sequence[str]) -> np.ndarray:
        """Numbers of the tokens: of the word, or of its shape."""
        numbering: dict[str, int] = self._numbering  # type: ignore[attr-defined]
        return np.array([_unit(token, numbering) for token in tokens], dtype=np.int64)

    def gains(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For every token the gain by the two before, and its surprisal `-log p(w | u v)`; both in nats."""
        start = self._numbering["<start>"]  # type: ignore[attr-defined]
        before = np.concatenate([[start, start], units])
        first, second = before[:-2], before[1:-1]
        alone = self.unigram[units]
        p = np.exp(alone)
        p = self._interpolated(2, second, units, p)
        p = self._interpolated(3, first * self.num_units + second, units, p)
        logarithm = np.log(p)
        return logarithm - alone, -logarithm

    def surprise_of_pairs(self, units: np.ndarray) -> float:
        """Mean of `log(expected / seen)` over neighbours that chance would bring together more often than seen."""
        if len(units) < 2 or not len(self.bigram_keys):
            return 0.0
        total = float(self.bigram_counts.sum())
        expected = np.exp(self.unigram[units[:-1]] + self.unigram[units[1:]]) * total
        hit, at = _find(self.bigram_keys, units[:-1] * self.num_units + units[1:])
        seen = np.where(hit, self.bigram_counts[at], 0)
        return float(np.maximum(0.0, np.log((expected + 0.7) / (seen + 0.7))).mean())

    def letter_surprisal(self, words: Sequence[str]) -> np.ndarray:
        """Mean surprisal per letter of every word (small letters a-z, the border at both ends counts)."""
        if not words:
            return np.empty(0)
        joined = ["`" + word + "`" for word in words]  # the sign before a
        flat = np.frombuffer("".join(joined).encode("ascii"), dtype=np.uint8).astype(np.int64) - 96
        index = np.concatenate([np.zeros(3, dtype=np.int64), flat])
        surprisal = -self.letters[index[:-3], index[1:-2], index[2:-1], index[3:]].astype(np.float64)
        lengths = np.array([len(each) for each in joined])
        ends = np.cumsum(lengths)
        total = np.concatenate([[0.0], np.cumsum(surprisal)])
        return (total[ends] - total[ends - lengths + 1]) / (lengths - 1)

    def _interpolated(self, order: int, context: np.ndarray, units: np.ndarray, lower: np.ndarray) -> np.ndarray:
        keys, counts = (
            (self.bigram_keys, self.bigram_counts) if order == 2 else (self.trigram_keys, self.trigram_counts)
        )
        contexts, totals, kinds = getattr(self, f"_contexts{order}")
        if not len(keys):
            return lower
        seen, place = _find(contexts, context)
        total, kind = np.where(seen, totals[place], 1.0), np.where(seen, kinds[place], 0)
        hit, at = _find(keys, context * self.num_units + units)
        count = np.where(hit, counts[at], 0).astype(np.float64)
        mixed = np.maximum(count - _DISCOUNT, 0.0) / total + _DISCOUNT * kind / total * lower
        return np.asarray(np.where(seen, mixed, lower))

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` reads; keys as differences, which compress well."""
        return {
            "words": np.array("\n".join(self.words)),
            "unigram": self.unigram.astype(np.float32),
            "bigram_keys": np.diff(self.bigram_keys, prepend=0).astype(np.uint32),
            "bigram_counts": np.minimum(self.bigram_counts, 65535).astype(np.uint16),
            "trigram_keys": np.diff(self.trigram_keys, prepend=0).astype(np.uint64),
            "trigram_counts": np.minimum(self.trigram_counts, 65535).astype(np.uint16),
            "lexicon": np.array("\n".join(sorted(self.lexicon))),
            "small": np.packbits([word in self.small for word in sorted(self.lexicon)]),
            "letters": np.clip(np.rint(-self.letters * 16), 0, 255).astype(np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Any) -> NgramModel:
        lexicon = str(arrays["lexicon"]).split("\n")
        small = np.unpackbits(arrays["small"], count=len(lexicon)).astype(bool)
        return cls(
            lexicon=frozenset(lexicon),
            small=frozenset(word for word, is_small in zip(lexicon, small, strict=True) if is_small),
            words=tuple(str(arrays["words"]).split("\n")),
            unigram=np.asarray(arrays["unigram"], dtype=np.float64),
            bigram_keys=np.cumsum(arrays["bigram_keys"], dtype=np.int64),
            bigram_counts=np.asarray(arrays["bigram_counts"]),
            trigram_keys=np.cumsum(arrays["trigram_keys"], dtype=np.int64),
            trigram_counts=np.asarray(arrays["trigram_counts"]),
            letters=-np.asarray(arrays["letters"], dtype=np.float32) / 16,
        )

    def save(self, path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays())

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        with np.load(path, allow_pickle=False) as arrays:
            return cls.from_arrays(arrays)


def count(texts: Iterable[str], *, num_words: int = NUM_WORDS, min_trigram: int = 2) -> NgramModel:
    """The model of some good text."""
    tokens = [tokens_of(text) for text in texts]
    frequency = Counter(
        token.lower()
        for text in tokens
        for token in text
        if token.isascii() and (token.isalpha() or not token[0].isalnum())
    )
    words = tuple(sorted(sorted(frequency, key=lambda w: (-frequency[w], w))[:num_words]))
    empty = np.empty(0, dtype=np.int64)
    names = NgramModel(
        words=words, unigram=empty, bigram_keys=empty, bigram_counts=empty, trigram_keys=empty, trigram_counts=empty,
        letters=empty,
    )  # fmt: skip
    units = names.num_units
    start = names._numbering["<start>"]  # type: ignore[attr-defined]
    unigram = np.full(units, 0.5)
    pairs, triples = [], []
    for text in tokens:
        row = np.concatenate([[start, start], names.units(text)])
        np.add.at(unigram, row[2:], 1)
        pairs.append(row[1:-1] * units + row[2:])
        triples.append((row[:-2] * units + row[1:-1]) * units + row[2:])
    bigram_keys, bigram_counts = np.unique(np.concatenate(pairs), return_counts=True)
    trigram_keys, trigram_counts = np.unique(np.concatenate(triples), return_counts=True)
    kept = trigram_counts >= min_trigram
    return NgramModel(
        words=words,
        unigram=np.log(unigram / unigram.sum()),
        bigram_keys=bigram_keys,
        bigram_counts=bigram_counts,
        trigram_keys=trigram_keys[kept],
        trigram_counts=trigram_counts[kept],
        letters=_letter_table(frequency),
        lexicon=frozenset(word for word, times in frequency.items() if times >= 2 and word.isalpha()),
        small=_small_words(tokens),
    )


def _small_words(texts: Sequence[Sequence[str]]) -> frozenset[str]:
    """Words seen five times inside sentences, after another word, and at most once in forty of them with a capital."""
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for tokens in texts:
        for before, token in itertools.pairwise(tokens):
            if before[-1].isalpha() and token.isascii() and token.isalpha() and len(token) > 1:
                (capital if token[0].isupper() else small)[token.lower()] += 1
    return frozenset(word for word, times in small.items() if times >= 5 and capital[word] <= times / 40)


def _letter_table(frequency: Counter[str]) -> np.ndarray:
    """Interpolated log-probabilities; a word counts as the square root of how often it occurs."""
    counts = np.zeros((_LETTERS,) * 4)
    for word, times in frequency.items():
        if not (word.isascii() and word.isalpha()):
            continue
        index = [0, 0, 0, *(ord(c) - 96 for c in word), 0]
        for i in range(3, len(index)):
            counts[index[i - 3], index[i - 2], index[i - 1], index[i]] += times**0.5
    lower = (counts.sum((0, 1, 2)) + 1) / (counts.sum() + _LETTERS)
    for axes in ((0, 1), (0,), ()):
        seen = counts.sum(axes) if axes else counts
        total = seen.sum(-1, keepdims=True)
        lower = (seen + 3.0 * lower) / (total + 3.0)
    return np.log(lower)


def _unit(token: str, numbering: dict[str, int]) -> int:
    small = token.lower()
    if (known := numbering.get(small)) is not None:
        return known
    if not token[0].isalpha():
        return numbering["<number>" if token[0].isdigit() else "<sign>"] if token not in numbering else numbering[token]
    if len(token) == 1:
        return numbering["<letter>"]
    if token.isupper():
        return numbering["<capitals>"]
    if token[1:] != token[1:].lower():
        return numbering["<mixed>"]
    if token[0].isupper():
        return numbering["<name>"]
    return next((numbering[f"-{e}"] for e in _ENDINGS if small.endswith(e)), numbering["<rest>"])


def _find(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each is there, and where."""
    place = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return ordered[place] == wanted, place
