"""Plain text to ids: byte-level byte-pair encoding with the splitting rule of Qwen2.

1. The text is cut into chunks: white space and the visible characters after it, with line ends that follow a sign.
2. A chunk is cut into words by the rule: contractions ('s, 'll …), runs of letters with one leading character, single
   digits, runs of other signs with one leading space and with line ends after them, line ends, white space.
3. Each word is written as UTF-8 bytes and merged by rank. Merges never cross a cut. The Rust library `tokenizers` does
   this.
4. Ids of chunks and words are remembered, and with a chunk the answer to a question of the caller: is it ordinary, or
   must the text be looked at more closely first (for molecules, see `detect`)? Ordinary text is never looked at twice.

No word reaches across the border of two chunks, so step 1 changes nothing but the speed: text repeats itself, and
nearly all the work is then one simple regular expression and one dictionary look-up per chunk. That is several times
faster than sending whole texts through the library, on one thread.

Bytes are shown as printable characters in `vocab.json` and `merges.txt`: printable Latin-1 stands for itself, the
other 68 bytes for the code points from U+0100 on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from s1pro.base.errors import InputError
from s1pro.inputs.unicode_classes import LETTERS, NUMBERS, WHITESPACE, regex_class

_CACHE_ENTRIES = 200_000
_CACHE_LENGTH = 32
_LONG_WORD = 2**16  # characters: 0.05 s in which no other thread of Python would run


class _Rules(NamedTuple):
    """The regular expressions for one set of character classes."""

    chunk: re.Pattern[str]
    word: re.Pattern[str]


def _rules(letters: str, numbers: str, space: str) -> _Rules:
    """U+017F in the contractions, the long s, is a case variant of s."""
    chunk = rf"[{space}]*+[^{space}]++(?:(?<![{letters}{numbers}])[\r\n]++)?|[{space}]+"
    word = (
        r"'(?:[sStTmMdD\u017f]|[rRvV][eE]|[lL]{2})"
        rf"|[^\r\n{letters}{numbers}]?[{letters}]+"
        rf"|[{numbers}]"
        rf"| ?[^{space}{letters}{numbers}]+[\r\n]*"
        rf"|[{space}]*[\r\n]+"
        rf"|[{space}]+(?![^{space}])"
        rf"|[{space}]+"
    )
    return _Rules(re.compile(chunk), re.compile(word))


_ASCII = _rules("a-zA-Z", "0-9", r"\t-\r ")


@functools.cache
def _unicode() -> _Rules:
    """Compiled when the first text that is not ASCII arrives."""
    return _rules(regex_class(LETTERS), regex_class(NUMBERS), regex_class(WHITESPACE))


def _rules_for(text: str) -> _Rules:
    return _ASCII if text.isascii() else _unicode()


def split_words(text: str) -> list[str]:
    """The words of `text`; joined they give it back."""
    return _rules_for(text).word.findall(text)


@functools.cache
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    table = {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + i) for i, byte in enumerate(hidden)}
    return tuple(table[byte] for byte in range(256))


class ByteBPE:
    """The plain-text part of a tokenizer.

    Args:
        vocab: byte-level tokens and their ids.
        merges: pairs of tokens, first pair first merged.
        is_doubtful: tells of a chunk whether `encode_ordinary` must not encode it.

    Raises:
        InputError: a merge uses or makes a token that `vocab` lacks, or a byte has no token.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        is_doubtful: Callable[[str], bool] = lambda chunk: False,
    ) -> None:
        missing = [character for character in byte_characters() if character not in vocab]
        if missing:
            raise InputError(f"vocab.json: no token for the byte written as {missing[0]!r}")
        for a, b in merges:
            if a not in vocab or b not in vocab or a + b not in vocab:
                raise InputError(f"merges.txt: the merge '{a} {b}' uses or makes a token that vocab.json lacks")
        words = _Remembered(_rust_bpe(vocab, merges))

        def by_words(chunk: str) -> list[int]:
            return list(chain.from_iterable(map(words.__getitem__, split_words(chunk))))

        def if_ordinary(chunk: str) -> list[int]:
            if is_doubtful(chunk):
                raise _Doubtful
            return by_words(chunk)

        self._words, self._chunks, self._ordinary = words, _Remembered(by_words), _Remembered(if_ordinary)

    def encode(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._chunks.__getitem__, _rules_for(text).chunk.findall(text))))

    def encode_ordinary(self, text: str) -> list[int] | None:
        """The same, or None if a chunk is doubtful."""
        try:
            return list(chain.from_iterable(map(self._ordinary.__getitem__, _rules_for(text).chunk.findall(text))))
        except _Doubtful:
            return None

    def forget(self) -> None:
        """Frees the memory of chunks and words; results do not change."""
        for remembered in (self._words, self._chunks, self._ordinary):
            remembered.clear()


class _Doubtful(Exception):
    """A chunk is not ordinary."""


class _Remembered(dict[str, tuple[int, ...]]):
    """Ids of strings, computed when first asked for. Long strings are not kept, and a full table is emptied."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, text: str) -> tuple[int, ...]:
        ids = tuple(self._encode(text))
        if len(text) <= _CACHE_LENGTH:
            if len(self) >= _CACHE_ENTRIES:
                self.clear()
            self[text] = ids
        return ids


def _rust_bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    bpe: Any = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges)))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def encode(word: str) -> list[int]:
        if len(word) < _LONG_WORD:
            return list(bpe.encode(word, add_special_tokens=False).ids)
        [whole] = bpe.encode_batch_fast([word], add_special_tokens=False)  # lets the other threads of Python go on
        return list(whole.ids)

    return encode
