"""Credit from 0 to 1 for words and pages of OCRBench V2, as upstream gives it, and as it should be.

| asked for | compat | strict |
|---|---|---|
| words, answers | the answer is in the reply as a substring; of five words or more (Chinese: four parts between \
commas): 1 - edit distance over length, if that is at least 0.5 | as whole words; long ones likewise |
| a letter | the letters of the reply, all of them, are the answer | the letter that the reply chooses |
| a count | substring; or 1 - relative error of the first number, if that is above 0.5 | the last number |
| a formula | substring without blanks | equal without blanks and marks of mathematics |
| a page, a line, a translation | mean of BLEU, METEOR (no synonyms), F of the set of words, 1 - edit distance over \
length; Chinese words are jieba's | pages and lines: 1 - edit distance over length, blanks folded; a translation: as \
compat, by characters |

Pairs of key and value, and places, are in `ocr_reading`; tables, charts and documents in `ocr_tables`. Nothing of these
raises on a reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from s1pro.tasks.benchmarks.text_metrics import bleu, chinese_words, edit_distance, meteor

_HAN = re.compile("[\u4e00-\u9fa5]")
SEPARATORS = ("", ".", ". ", ",", ", ", "\N{IDEOGRAPHIC COMMA}", ";", "; ", " ", "\u548c")


# words


def words_credit(said: str, answers: Any, *, chinese: bool = False, folded: bool = True, whole: bool = False) -> float:
    """The best over the answers; see the table.

    Args:
        folded: capitals do not matter.
        whole: short answers count as whole words only.
    """

    def clean(text: Any) -> str:
        text = str(text).strip().replace("\n", " ")
        if chinese:  # words of other languages keep their borders if these count
            text = re.sub(f"(?<={_HAN.pattern}) | (?={_HAN.pattern})" if whole else " ", "", text)
        return text.lower() if folded else text

    said = clean(said)
    credits = [_one_answer(said, clean(answer), chinese, whole) for answer in _several(answers)]
    if isinstance(answers, str) and not whole and not chinese:
        return _bare_answer(said, clean(answers))
    return max(credits, default=0.0)


def _one_answer(said: str, answer: str, chinese: bool, whole: bool) -> float:
    long = len(answer.split(",")) >= 4 if chinese else len(answer.split()) >= 5
    if long:
        return _alike(said, answer)
    return float(_stands(said, answer) if whole else answer in said)


def _bare_answer(said: str, answer: str) -> float:
    """An answer that is no list, upstream: a long one is never right, a short one may be alike."""
    if len(answer.split()) >= 5:
        return 0.0
    return 1.0 if answer in said else _alike(said, answer)


def _alike(said: str, answer: str) -> float:
    longest = max(len(said), len(answer))
    alike = 1.0 - (edit_distance(said, answer) / longest if longest else 0.0)
    return alike if alike >= 0.5 else 0.0


def _stands(said: str, answer: str) -> bool:
    """Not inside a longer word; Chinese has no borders of words."""
    left = r"(?<![^\W\u4e00-\u9fa5])" if answer[:1].isalnum() and not _HAN.match(answer) else ""
    right = r"(?![^\W\u4e00-\u9fa5])" if answer[-1:].isalnum() and not _HAN.match(answer[-1:]) else ""
    return bool(re.search(left + re.escape(answer) + right, said)) if answer else not said


def letters_credit(said: str, answers: Any) -> float:
    """Upstream: all letters of the reply, in a row."""
    return float("".join(character for character in said if character.isalpha()) == str(_several(answers)[0]))


def count_credit(said: str, answers: Any, *, near: bool, last: bool = False) -> float:
    """Upstream: substrings, or the first number; `last` is strict."""
    numbers = re.findall(r"\d+", said.replace(",", "") if last else said)
    if not near and not last:
        return float(any(str(answer).lower().strip().replace("\n", " ") in said for answer in _several(answers)))
    if not numbers:
        return 0.0
    number = int(numbers[-1 if last else 0][:18])
    golds = [int(match[0]) for answer in _several(answers) if (match := re.search(r"\d+", str(answer)))]
    if not near:
        return float(number in golds)
    return max((_near(number, gold) for gold in golds), default=0.0)


def _near(number: int, gold: int) -> float:
    if number <= 0 or number >= 2 * gold:
        return 0.0
    credit = 1.0 - abs(number - gold) / gold
    return credit if credit > 0.5 else 0.0


def formula_credit(said: str, answers: Any, *, text_tags: bool = False, whole: bool = False) -> float:
    """Blanks aside. `text_tags`: what `\\text{...}` holds counts without it."""

    def clean(text: Any) -> str:
        text = str(text)
        text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text) if text_tags else text
        text = text.strip().replace("\n", " ").replace(" ", "")
        return re.sub(r"^(?:\$+|\\\[|\\\()|(?:\$+|\\\]|\\\))$", "", text) if whole else text

    said = clean(said)
    golds = [clean(answer) for answer in _several(answers)]
    return float(said in golds if whole else any(gold in said for gold in golds))


def handwritten_credit(said: str, answer: str, *, whole: bool = False) -> float:
    """The signs of an answer in a row, with one of upstream's separators or none between them."""
    if whole:
        said, answer = (re.sub("[\\s.,;\u3001\uff1b\uff0c\u548c]", "", text) for text in (said, answer))
        return float(_stands(said, answer))
    forms = [separator.join(answer) for separator in SEPARATORS] if len(answer) > 1 else [answer]
    return float(any(form in said for form in forms))


# pages


def page_credit(said: str, gold: str, cut: Callable[[str], list[str]] | None = None) -> float:
    """Mean of BLEU, METEOR, F of the sets of words, and 1 - edit distance over length."""
    if cut is None:
        cut = chinese_words if _HAN.search(said) or _HAN.search(gold) else str.split
    reference, hypothesis = cut(gold), cut(said)
    shared = len(set(reference) & set(hypothesis))
    f_measure = 2 * shared / (len(set(reference)) + len(set(hypothesis))) if shared else 0.0
    longest = max(len(said), len(gold))
    distance = edit_distance(said, gold) / longest if longest else 0.0
    return (bleu(reference, hypothesis) + meteor(reference, hypothesis) + f_measure + 1.0 - distance) / 4


def text_similarity(said: str, gold: str) -> float:
    """1 - edit distance over length, blanks folded."""
    said, gold = " ".join(said.split()), " ".join(gold.split())
    longest = max(len(said), len(gold))
    return 1.0 - edit_distance(said, gold) / longest if longest else 1.0


def _several(answers: Any) -> list[Any]:
    return list(answers) if isinstance(answers, list | tuple) else [answers]
