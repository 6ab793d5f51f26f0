"""Text of a wanted form: JSON of a schema, any JSON object, a regular expression, a Lark grammar.

llguidance (extra `serve`) knows after every token which tokens can come next so that the text can still become what is
wanted; the sampler draws among these only. When nothing can follow, the request ends; where the text may end or go on,
the end-of-sequence ids are among the possible ones.

A schema fixes what stands between values, as Python's `json.dumps` writes it by default: free white space would let a
weak model write blanks for ever. A text that reaches `max_new_tokens` ends where it is and is no whole JSON then.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.base.records import StructuredOutput
from s1pro.serve.structure_limits import check_structure

if TYPE_CHECKING:
    from s1pro.inputs.tokenizer import Tokenizer

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Structure:
    """Where one request is in its grammar.

    Attributes:
        broken: the grammar turned out to be too complex on the way: the text ends where it is, unfinished.
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._words = np.zeros(-(-vocab_size // 32), dtype=np.int32)
        self.broken = False

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Mask over the vocabulary: which ids can come next."""
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")
        return bits[: self._vocab_size].view(np.bool_)

    def consume(self, token_id: int) -> bool:
        """Goes on by one token; true if nothing can follow.

        A grammar of a client may exceed the limits of llguidance only here, and must not hurt the other requests.
        """
        self.broken = not self._matcher.consume_token(token_id)
        return self.broken or bool(self._matcher.is_stopped())


class Grammars:
    """Makes a `Structure` for each request; knows the pieces of the vocabulary.

    Args:
        tokenizer: of the model.
        vocab_size: rows of the embedding.
        stop_ids: ids that end a text.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._stop_ids = sorted(stop_ids)

    def structure(self, wanted: StructuredOutput) -> Structure:
        """Raises `InputError` if the schema, expression or grammar is none, or uses what is not supported."""
        check_structure(wanted)
        matcher_class = _llguidance().LLMatcher
        try:
            grammar = _grammar(wanted)
        except ValueError as error:
            raise InputError(f"structured output: this {wanted.kind} cannot be used: {error}") from error
        matcher = matcher_class(self._vocabulary, grammar)
        if matcher.is_error():
            raise InputError(f"structured output: this {wanted.kind} cannot be used: {matcher.get_error().strip()}")
        return Structure(matcher, self._vocab_size)

    @cached_property
    def _vocabulary(self) -> Any:
        llguidance = _llguidance()
        pieces = _Pieces(self._tokenizer, self._vocab_size, self._stop_ids[0])
        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(pieces), eos_token=self._stop_ids)


class _Pieces:
    """The tokenizer as llguidance wants it: bytes of every id, nothing for ids that must not be sampled."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_id: int) -> None:
        sampleable = tokenizer.sampleable_ids(vocab_size)
        self.eos_token_id = eos_token_id
        self.tokens = [tokenizer.decode_bytes([i]) if sampleable[i] else b"" for i in range(vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_token_ids)
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="replace")
        return self._tokenizer.encode(text, allow_control_tokens=False)


def _grammar(wanted: StructuredOutput) -> str:
    matcher = _llguidance().LLMatcher
    if wanted.kind == "json_object":
        return str(matcher.grammar_from_json_schema('{"type": "object"}', overrides=_SPACING))
    if wanted.kind == "json_schema":
        anything = json.loads(wanted.value) is True  # llguidance takes schemas that are objects
        return str(matcher.grammar_from_json_schema("{}" if anything else wanted.value, overrides=_SPACING))
    if wanted.kind == "regex":
        return str(matcher.grammar_from_regex(wanted.value))
    return str(matcher.grammar_from_lark(wanted.value))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError("llguidance", "serve") from error
    return llguidance
