"""METEOR without synonyms, ROUGE-L, BLEU, edit distances and Chinese words, offline.

METEOR of nltk asks WordNet for synonyms, which is not here. Left out, the number can only be lower, so it is called
"METEOR (no synonyms)" and is not for comparison with tables without that remark. Matches are exact first, then by
Porter stem, both from the end of the hypothesis as nltk aligns; then

    F = P R / (alpha P + (1 - alpha) R),   penalty = gamma (chunks / matches)^beta,   score = (1 - penalty) F

with alpha 0.9, beta 3, gamma 0.5.
"""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from s1pro.base.errors import MissingExtraError

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


def meteor(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """METEOR (no synonyms) of two token lists, 0 to 1."""
    reference, hypothesis = [w.lower() for w in reference], [w.lower() for w in hypothesis]
    left = list(enumerate(hypothesis)), list(enumerate(reference))
    matches = _aligned(*left, key=lambda word: word)
    matches += _aligned(*left, key=_stem)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(hypothesis), len(matches) / len(reference)
    f_mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    penalty = GAMMA * (_chunks(sorted(matches)) / len(matches)) ** BETA
    return (1 - penalty) * f_mean


def _aligned(hypothesis: list[tuple[int, str]], reference: list[tuple[int, str]], key: Any) -> list[tuple[int, int]]:
    """Pairs of positions with equal keys, from the end; what is matched leaves both lists."""
    found = []
    for i in range(len(hypothesis) - 1, -1, -1):
        for j in range(len(reference) - 1, -1, -1):
            if key(hypothesis[i][1]) == key(reference[j][1]):
                found.append((hypothesis.pop(i)[0], reference.pop(j)[0]))
                break
    return found


def _chunks(matches: list[tuple[int, int]]) -> int:
    """Runs of matches that are neighbours in both texts."""
    breaks = sum(b[0] != a[0] + 1 or b[1] != a[1] + 1 for a, b in itertools.pairwise(matches))
    return breaks + 1


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise MissingExtraError("nltk", "eval") from error
    return PorterStemmer()


def rouge_l(reference: str, hypothesis: str, *, stem: bool = False) -> float:
    """F-measure of ROUGE-L, 0 to 1."""
    return float(_rouge(("rougeL",), stem).score(reference, hypothesis)["rougeL"].fmeasure)


def rouge(reference: str, hypothesis: str, kind: str, *, stem: bool = False) -> float:
    """F-measure of `rouge1`, `rouge2` or `rougeL`."""
    return float(_rouge((kind,), stem).score(reference, hypothesis)[kind].fmeasure)


@lru_cache(maxsize=8)
def _rouge(kinds: tuple[str, ...], stem: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtraError("rouge-score", "eval") from error
    return RougeScorer(list(kinds), use_stemmer=stem)


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Levenshtein's, of two texts or two lists of tokens."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise MissingExtraError("rapidfuzz", "eval") from error
    return int(Levenshtein.distance(left, right))


def bleu(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Of one text, one to four tokens, without smoothing: near 0 where one of the four lengths has no match."""
    try:
        from nltk.translate.bleu_score import sentence_bleu
    except ImportError as error:
        raise MissingExtraError("nltk", "eval") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(sentence_bleu([reference], hypothesis))


def chinese_words(text: str) -> list[str]:
    """As jieba cuts them."""
    return list(_jieba().lcut(text))


@lru_cache(maxsize=1)
def _jieba() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its patterns have escapes that newer Pythons warn of
            import jieba
    except ImportError as error:
        raise MissingExtraError("jieba", "eval") from error
    jieba.setLogLevel(logging.WARNING)
    return jieba
