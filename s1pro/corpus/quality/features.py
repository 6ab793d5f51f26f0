"""What is counted in a text: 51 numbers, most of them shares between 0 and 1.

    repetition   how well it compresses, repeated runs of words, repeated sentences, a tail that repeats, variety of
                 words
    characters   letters, digits, capitals, signs, spaces; characters that no reader wrote (private use, replacement,
                 control characters, `(cid:12)`, UTF-8 read as something else)
    words        function words, lengths, words without vowels, capitals inside words, digits inside words, single
                 letters, pieces with a hyphen, words that surprise the letters' model
    order        gains of the words' model (`ngrams`): their mean, spread, dips, worst window, and how much better the
                 text is than the same words shuffled
    form         brackets and dollars that do not close, backslashes, sentence lengths, spaces before punctuation

A text has a **register**: `prose` (English sentences), `cjk`, or `notation` (formulas, lists of genes, SMILES, tables).
Only prose has an order of English words; the others are judged by repetition and broken characters alone
(`REGISTER_FREE`).
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from s1pro.corpus.quality.ngrams import NgramModel, tokens_of

Register = Literal["prose", "cjk", "notation"]
FUNCTION_WORDS = frozenset(
    [
        "the", "of", "and", "to", "a", "in", "is", "that", "for", "it", "as", "with", "by", "on", "be", "are", "this",
        "from", "or", "an", "at", "which", "not", "can", "have", "has", "was", "were", "will", "if", "these", "its",
        "we", "also", "may", "but", "one", "two", "there", "their", "such", "when", "where", "between", "each",
        "using", "used", "than", "more", "all", "into", "only", "then", "other", "any", "no", "both", "over", "under",
        "about", "they", "he", "she", "you", "i", "do", "does", "how", "what", "so", "been", "would", "could",
        "should", "our", "your", "his", "her", "them", "some", "most", "after", "before", "while", "same", "through",
        "during", "up", "out", "must", "very",
    ]
)  # fmt: skip
_PROSE_WORD = re.compile(r"^[\"'(\[]*[A-Za-z]?[a-z]+(?:[-'’][a-z]+)*[\"')\].,;:!?]*$")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MOJIBAKE = re.compile("[ÃÂâÅÄÐã][\u0080-\u00bf\u2018-\u203a\u20ac\u2122€™œžŸ†‡ˆ‰Š‹Œ•–—˜š›\ufffd]|â€|ï¿½")
_CID = re.compile(r"\(cid:\d+\)|/g\d+\b|&#\d+;")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5,}")
_MIN_PROSE_WORDS = 15
_NEUTRAL = float("nan")


@dataclass(frozen=True)
class _Text:
    """A text and what several features need of it."""

    text: str
    model: NgramModel

    @cached_property
    def size(self) -> int:
        return max(1, len(self.text))

    @cached_property
    def pieces(self) -> list[str]:
        return self.text.split()

    @cached_property
    def words(self) -> list[str]:
        return _WORD.findall(self.text)

    @cached_property
    def small(self) -> list[str]:
        """Words of small letters a to z after their first letter."""
        return [w.lower() for w in self.words if w.isascii() and w.isalpha() and (w[1:].islower() or len(w) == 1)]

    @cached_property
    def sentences(self) -> list[str]:
        return [each for each in _SENTENCE.split(self.text) if each]

    @cached_property
    def register(self) -> Register:
        return register_of(self.text)

    @cached_property
    def order(self) -> dict[str, float]:
        return _order(self)

    @cached_property
    def spelling(self) -> np.ndarray:
        words = [w for w in self.small if len(w) > 2]
        return self.model.letter_surprisal(words)

    def share(self, condition: Callable[[str], bool]) -> float:
        return sum(map(condition, self.text)) / self.size

    def of_words(self, condition: Callable[[str], object]) -> float:
        return sum(bool(condition(word)) for word in self.words) / max(1, len(self.words))


def register_of(text: str) -> Register:
    """Which kind of writing this is."""
    if len(_CJK.findall(text)) > 0.15 * max(1, len(text)):
        return "cjk"
    pieces = text.split()
    joined = "".join(pieces)
    if sum("a" <= character <= "z" for character in joined) >= 0.8 * len(joined):
        return "prose"  # also with all spaces lost
    prose = sum(bool(_PROSE_WORD.match(piece)) for piece in pieces)
    function = sum(piece.lower().strip(".,;:()") in FUNCTION_WORDS for piece in pieces)
    return "prose" if prose >= 0.5 * len(pieces) or function >= 0.1 * len(pieces) else "notation"


def features_of(text: str, model: NgramModel) -> tuple[Register, np.ndarray]:
    """Register and the values of `FEATURES`; not a number where a feature says nothing about this text."""
    looked = _Text(text, model)
    if looked.register == "prose":
        return "prose", np.array([feature(looked) for feature in FEATURES.values()])
    values = [feature(looked) if name in REGISTER_FREE else _NEUTRAL for name, feature in FEATURES.items()]
    return looked.register, np.array(values)


def longest_tail(pieces: Sequence[str]) -> float:
    """Share of the text that is one phrase, up to 24 words, repeated up to the end; whole numbers count as equal."""
    words = ["0" if piece.isdigit() else piece for piece in pieces]
    best = 0
    for length in range(1, min(24, len(words) // 2) + 1):
        end = 0
        while end + 2 * length <= len(words) and _equal(words, end, length):
            end += length
        if end:
            best = max(best, end + length)
    return best / max(1, len(words))


def _equal(words: Sequence[str], end: int, length: int) -> bool:
    stop = len(words) - end
    return words[stop - length : stop] == words[stop - 2 * length : stop - length]


def repeated_runs(words: Sequence[str], size: int) -> float:
    """Share of words inside a run of `size` words that occurred before."""
    seen: set[tuple[str, ...]] = set()
    covered = np.zeros(len(words), dtype=bool)
    for i in range(len(words) - size + 1):
        run = tuple(words[i : i + size])
        if run in seen:
            covered[i : i + size] = True
        seen.add(run)
    return float(covered.mean()) if len(words) else 0.0


def _repeated_sentences(sentences: Sequence[str]) -> float:
    return 1 - len(set(sentences)) / max(1, len(sentences))


def _variety(words: Sequence[str]) -> float:
    """Different words by the power of the number of words that makes it independent of the length."""
    return len(set(words)) / max(1, len(words)) ** 0.8


def _compression(text: str) -> float:
    """Size after compression by what is expected of that length."""
    raw = text.encode("utf-8", "replace")
    return len(zlib.compress(raw, 6)) / max(1.0, len(raw) ** 0.88)


def _unclosed(text: str) -> float:
    """Brackets without a partner and an odd dollar, by the square root of the length."""
    open_ones = 0
    for left, right in ("()", "[]", "{}"):
        level = 0
        for character in text:
            if character == left:
                level += 1
            elif character == right:
                level -= 1
                if level < 0:
                    open_ones, level = open_ones + 1, 0
        open_ones += level
    return (open_ones + text.count("$") % 2) / max(1, len(text)) ** 0.5


def broken_share(text: str) -> float:
    """Share of characters that no reader wrote."""
    return sum(map(_is_broken, text)) / max(1, len(text))


def _is_broken(character: str) -> bool:
    code = ord(character)
    return (
        code == 0xFFFD or 0xE000 <= code <= 0xF8FF or (code < 32 and character not in "\n\t\r") or 0x7F <= code <= 0x9F
    )


def _order(looked: _Text) -> dict[str, float]:
    names = ("gain", "spread", "dips", "deep_dips", "worst", "low", "surprisal", "contrast", "runs", "unknown", "never")
    tokens = tokens_of(looked.text)
    if len(looked.small) < _MIN_PROSE_WORDS:
        return dict.fromkeys(names, _NEUTRAL)
    units = looked.model.units(tokens)
    gains, surprisal = looked.model.gains(units)
    window = min(8, len(gains))
    windows = np.convolve(gains, np.ones(window) / window, mode="valid")
    rng = np.random.default_rng(len(tokens))
    shuffled = [looked.model.gains(rng.permutation(units))[1].mean() for _ in range(2)]
    known = len(looked.model.words)
    junctions = np.flatnonzero(gains < -0.5)
    return {
        "gain": float(gains.mean()),
        "spread": float(gains.std()),
        "dips": float((gains < -0.3).mean()),
        "deep_dips": float((gains < -1.2).mean()),
        "worst": float(windows.min()),
        "low": float(np.quantile(windows, 0.2)),
        "surprisal": float(surprisal.mean()),
        "contrast": float(np.mean(shuffled) - surprisal.mean()),
        "runs": float(np.diff(junctions).mean()) / len(gains) ** 0.5 if len(junctions) > 1 else 3.0,
        "unknown": float((units >= known).mean()),
        "never": looked.model.surprise_of_pairs(units),
    }


def _odd_capitals(looked: _Text) -> int:
    """Capital words inside a sentence that good text writes small there: a sentence begins where none ended."""
    return sum(
        before[-1].isalpha() and word[:1].isupper() and word[1:].islower() and word.lower() in looked.model.small
        for before, word in zip(looked.pieces, (p.rstrip(".,;:)") for p in looked.pieces[1:]), strict=False)
    )


def _word_pieces(looked: _Text) -> int:
    """Neighbours that are no two words but make one together, with or without a hyphen between them."""
    pieces = [piece.lower().strip(".,;:()") for piece in looked.pieces]
    lexicon = looked.model.lexicon
    return sum(
        a.rstrip("-") + b in lexicon and not (a in lexicon and b in lexicon) for a, b in itertools.pairwise(pieces)
    )


def _sentence_length(looked: _Text) -> float:
    return float(np.log(len(looked.pieces) / max(1, len(looked.sentences)) + 1))


def _top_share(words: Sequence[str]) -> float:
    """Share of the most frequent pair of neighbours."""
    pairs = Counter(itertools.pairwise(words))
    return max(pairs.values(), default=0) / max(1, len(words) - 1)


FEATURES: dict[str, Callable[[_Text], float]] = {
    "compression": lambda t: _compression(t.text),
    "repeated_runs": lambda t: repeated_runs(t.pieces, 5),
    "repeated_sentences": lambda t: _repeated_sentences(t.sentences),
    "repeated_tail": lambda t: longest_tail(t.pieces),
    "top_pair": lambda t: _top_share(t.pieces),
    "variety": lambda t: _variety([w.lower() for w in t.words]),
    "broken_characters": lambda t: broken_share(t.text),
    "lost_glyphs": lambda t: len(_CID.findall(t.text)) / max(1, len(t.pieces)),
    "mojibake": lambda t: len(_MOJIBAKE.findall(t.text)) / t.size,
    "foreign_letters": lambda t: t.share(lambda c: c.isalpha() and not c.isascii()),
    "letters": lambda t: t.share(str.isalpha),
    "digits": lambda t: t.share(str.isdigit),
    "capitals": lambda t: t.share(str.isupper),
    "spaces": lambda t: t.share(str.isspace),
    "signs": lambda t: t.share(lambda c: not c.isalnum() and not c.isspace() and c not in ".,;:()-'\""),
    "punctuation": lambda t: t.share(lambda c: c in ".,;:"),
    "function_words": lambda t: t.of_words(lambda w: w.lower() in FUNCTION_WORDS),
    "word_length": lambda t: float(np.mean([len(w) for w in t.words])) if t.words else 0.0,
    "word_length_spread": lambda t: float(np.std([len(w) for w in t.words])) if t.words else 0.0,
    "long_words": lambda t: t.of_words(lambda w: len(w) > 16),
    "single_letters": lambda t: t.of_words(lambda w: len(w) == 1 and w not in "aAI"),
    "no_vowels": lambda t: t.of_words(lambda w: len(w) > 2 and w.islower() and not re.search("[aeiouyäöüéáíó]", w)),
    "consonants": lambda t: t.of_words(lambda w: _CONSONANTS.search(w.lower())),
    "capitals_inside": lambda t: t.of_words(lambda w: w[1:] != w[1:].lower() and not w.isupper()),
    "digits_inside": lambda t: sum(bool(re.search(r"[a-z]\d[a-z]", p)) for p in t.pieces) / max(1, len(t.pieces)),
    "hyphens": lambda t: sum(p.endswith("-") and len(p) > 1 for p in t.pieces) / max(1, len(t.pieces)),
    "number_pieces": lambda t: sum(not re.search("[A-Za-z]", p) for p in t.pieces) / max(1, len(t.pieces)),
    "spelling": lambda t: float(t.spelling.mean()) if len(t.spelling) >= 10 else _NEUTRAL,
    "odd_words": lambda t: float((t.spelling > 3.0).mean()) if len(t.spelling) >= 10 else _NEUTRAL,
    "very_odd_words": lambda t: float((t.spelling > 4.0).mean()) if len(t.spelling) >= 10 else _NEUTRAL,
    "unclosed": lambda t: _unclosed(t.text),
    "backslashes": lambda t: t.text.count("\\") / t.size,
    "sentence_length": _sentence_length,
    "space_before_sign": lambda t: len(re.findall(r"\s[.,;:]", t.text)) / max(1, len(t.pieces)),
    "no_space_after_sign": lambda t: len(re.findall(r"[a-z][.,;:][A-Za-z]", t.text)) / max(1, len(t.pieces)),
    "small_start": lambda t: sum(s[0].islower() for s in t.sentences) / max(1, len(t.sentences)),
    "capitals_after_small": lambda t: (
        sum(
            a[-1:].isalpha() and b[:1].isupper() and b[1:2].islower()
            for a, b in zip(t.pieces, t.pieces[1:], strict=False)
        )
        / max(1, len(t.pieces))
    ),
    "odd_capitals": lambda t: _odd_capitals(t) / max(1, len(t.pieces)),
    "word_pieces": lambda t: _word_pieces(t) / max(1, len(t.pieces)),
    "no_words": lambda t: sum(w not in t.model.lexicon for w in t.small) / max(1, len(t.small)),
    "order_gain": lambda t: t.order["gain"],
    "order_spread": lambda t: t.order["spread"],
    "order_dips": lambda t: t.order["dips"],
    "order_deep_dips": lambda t: t.order["deep_dips"],
    "order_worst": lambda t: t.order["worst"],
    "order_low": lambda t: t.order["low"],
    "surprisal": lambda t: t.order["surprisal"],
    "order_contrast": lambda t: t.order["contrast"],
    "order_runs": lambda t: t.order["runs"],
    "order_never": lambda t: t.order["never"],
    "unknown_words": lambda t: t.order["unknown"],
}
REGISTER_FREE = frozenset(
    {
        "compression",
        "repeated_runs",
        "repeated_sentences",
        "repeated_tail",
        "broken_characters",
        "lost_glyphs",
        "mojibake",
    }
)
