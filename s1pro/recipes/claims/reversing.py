"""A problem for reinforcement learning that fits into seconds: write the letters of a word backwards.

Words are random letters, so nothing can be remembered. A policy that was trained for a while gets a part of them right;
what it samples is right less often than it could be, and that is what reinforcement learning improves. No word is both
learned from and held out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.records import Message
from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.inputs.processor import Encoded
from s1pro.tasks.task import Item, Prompt, Score

LETTERS = "abcdefghijklmnop"
ASK, END = len(LETTERS), len(LETTERS) + 1
VOCABULARY = 32
LENGTHS = (4, 5, 6, 7)


class LetterTokenizer:
    """One token per letter, one that asks for the answer, one that ends it."""

    eos_token_id = pad_token_id = END

    def encode(self, text: str) -> list[int]:
        return [LETTERS.index(letter) for letter in text]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(LETTERS[i] for i in ids if i < len(LETTERS))

    def sampleable_ids(self, vocab_size: int) -> npt.NDArray[np.bool_]:
        """Letters and the end."""
        ids = np.arange(vocab_size)
        return (ids < len(LETTERS)) | (ids == END)


class LetterProcessor:
    """What `inputs.processor.Processor` is to conversations, for single words."""

    tokenizer = LetterTokenizer()

    def encode(self, messages: Sequence[Message], **options: object) -> Encoded:
        ids = [token for message in messages for token in self.tokenizer.encode(message.text)]
        return Encoded(token_ids=[*ids, ASK], learned=[], media=None, media_parts=())


@dataclass(frozen=True)
class Reversing:
    """Implements `tasks.task.Task`: `size` words drawn with `seed`; right or not."""

    size: int
    seed: int
    held_out: bool
    name: str = "reversing"

    def items(self) -> Sequence[Item]:
        words = drawn_words(self.seed, held_out=self.held_out)
        chosen = dict.fromkeys(next(words) for _ in range(self.size))
        return [Item(id=word, asked={"word": word}) for word in chosen]

    def prompt(self, item: Item) -> Prompt:
        return Prompt(messages=(Message(role="user", content=item.asked["word"]),))

    async def score(self, item: Item, response: str) -> Score:
        return Score(value=float(response == item.asked["word"][::-1]), valid=bool(response))

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


def drawn_words(seed: int, *, held_out: bool) -> Iterator[str]:
    """Endless words; a word's letters decide on which side it is, so the sides share none."""
    draw = random.Random(f"{seed} {held_out}")
    while True:
        word = "".join(draw.choices(LETTERS, k=draw.choice(LENGTHS)))
        if (random.Random(word).random() < 0.2) == held_out:
            yield word


def lessons(seed: int, *, rows: int) -> Iterator[PackedBatch]:
    """Endless batches of words with their answers, to learn from by imitation."""
    words = drawn_words(seed, held_out=False)
    while True:
        segments: list[Segment] = []
        left = rows
        while True:
            segment = Segment(sequence=_lesson(next(words)), source=0)
            if segment.num_rows > left:
                break
            left -= segment.num_rows
            segments.append(segment)
        yield collate(segments, num_rows=rows, source_names=("words",), max_tail_segment=rows)


def _lesson(word: str) -> TokenSequence:
    ids = [*LetterTokenizer().encode(word), ASK, *LetterTokenizer().encode(word[::-1]), END]
    learned = np.arange(len(ids)) > len(word)
    options: dict[str, Any] = {"prompt_group": "science", "conversation": True}
    return TokenSequence(token_ids=np.array(ids, np.int32), loss_weights=learned.astype(np.float32), **options)
