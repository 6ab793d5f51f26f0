"""Checkers of IFBench about kinds of words, which need lists that other packages carry.

| constraint | needs |
|---|---|
| `words:odd_even_syllables` | the package syllapy (its dictionary, and its rules for other words), as upstream |
| `ratio:stop_words` | nltk's list of English stop words: `python -m nltk.downloader stopwords` |
| `words:start_verb` | nltk's tagger: `python -m nltk.downloader averaged_perceptron_tagger_eng` |

The data of nltk are downloads with terms of their own and no part of any package; `missing` says which constraint is
without them, and then it counts as not followed and is reported as unsupported.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.tasks.benchmarks.ifbench_sentences import tokens

_MARKS = str.maketrans("", "", string.punctuation)
_STOP_WORDS = "corpora/stopwords/english"
_TAGGER = "taggers/averaged_perceptron_tagger_eng"


def odd_even_syllables(text: str) -> bool:
    """Neighbours differ in whether their number of syllables is odd; what syllapy cannot read has none."""
    try:
        import syllapy
    except ImportError as error:
        raise MissingExtraError("syllapy", "eval") from error
    odd = [syllapy.count(word) % 2 for word in text.translate(_MARKS).lower().split()]
    return all(one != other for one, other in itertools.pairwise(odd))


def stop_words(text: str, percentage: float) -> bool:
    """At most so many of a hundred words."""
    words = re.findall(r"\w+", text)
    stops = _stop_words(_found(_STOP_WORDS))
    return bool(words) and 100 * sum(word.lower() in stops for word in words) / len(words) <= percentage


def start_verb(text: str) -> bool:
    """The first token is a verb in some form; the tagger looks at the two that follow."""
    first = tokens(text)[:3]
    return bool(first) and "VB" in _tagger(_found(_TAGGER)).tag(first)[0][1]


def missing(name: str) -> bool:
    """Whether a constraint cannot be checked for want of nltk's data."""
    place = _NEEDS.get(name)
    return place is not None and _found(place) is None


def _found(place: str) -> Any:
    """Where nltk has its data; None if it has none."""
    try:
        import nltk
    except ImportError as error:
        raise MissingExtraError("nltk", "eval") from error
    try:
        return nltk.data.find(place)
    except LookupError:
        return None


@lru_cache(maxsize=1)
def _stop_words(place: Any) -> frozenset[str]:
    with place.open() as file:
        text = file.read()
    return frozenset((text.decode("utf-8") if isinstance(text, bytes) else text).split())


@lru_cache(maxsize=1)
def _tagger(place: Any) -> Any:
    from nltk.tag.perceptron import PerceptronTagger

    return PerceptronTagger(lang="eng")


_NEEDS: Mapping[str, str] = {"ratio:stop_words": _STOP_WORDS, "words:start_verb": _TAGGER}
WORD_CHECKS: Mapping[str, Callable[..., bool]] = {
    "ratio:stop_words": stop_words,
    "words:start_verb": start_verb,
    "words:odd_even_syllables": odd_even_syllables,
}
