"""A small tokenizer of the released structure, trained on one's own corpus.

1. The texts are cut as `encode` cuts them; only the plain parts count, so no byte-level token is spent on what a
   science vocabulary will encode.
2. Words of the plain parts, with their counts, train the byte-level BPE: 256 bytes, then merges.
3. Molecules, proteins and nucleic acids each train a BPE over characters. Digits are never merged, as in the release:
   ring numbers stay visible.
4. Ids: byte-level tokens, the 51 added tokens in released order, then the science vocabularies.
5. Everything is written in the released file format and read back by the ordinary reader.

The result depends on the counts of words and strings only, not on their order, the machine, or the number of threads:
among equally frequent pairs the one with the lower ids is merged first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from s1pro.base.errors import InputError
from s1pro.inputs.byte_bpe import byte_characters, split_words
from s1pro.inputs.files import dump_json
from s1pro.inputs.science_bpe import SPACE
from s1pro.inputs.sentencepiece_file import UNKNOWN, model_bytes
from s1pro.inputs.special_tokens import (
    ADDED_TOKENS,
    ADDITIONAL_SPECIAL_TOKENS,
    END_OF_TEXT,
    IM_END,
    IM_START,
    SPECIAL,
    VOCABULARIES,
)
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.tokenizer_files import model_file, parse_tokenizer_files, science_name

NO_SCIENCE = dict.fromkeys(VOCABULARIES, 0)
MODEL_MAX_LENGTH = 262_144
_MAX_WORD = 64  # longer words are tables of numbers and encoded data; they teach a vocabulary nothing


def train_tokenizer(
    texts: Iterable[str],
    *,
    smiles: Iterable[str] = (),
    proteins: Iterable[str] = (),
    nucleic: Iterable[str] = (),
    vocab_size: int,
    science_sizes: Mapping[str, int] = NO_SCIENCE,
) -> Tokenizer:
    """Trains a tokenizer.

    Args:
        texts: documents; tagged and untagged molecules in them are left to the science vocabularies.
        smiles, proteins, nucleic: one molecule or sequence per string.
        vocab_size: byte-level tokens, at least 256. Fewer come out if the texts do not have enough pairs of neighbours.
        science_sizes: pieces of "SMILES", "PROT" and "XNA", `<unk>` included; 0 or absent makes none. Fewer come out
            likewise.

    Raises:
        InputError: a size is too small, an unknown vocabulary, or nothing to train one on.
    """
    if vocab_size < 256:
        raise InputError(f"vocab_size must be at least 256, one token per byte; got {vocab_size}")
    unknown = sorted(set(science_sizes) - set(VOCABULARIES))
    if unknown:
        raise InputError(f"science_sizes: unknown vocabulary {unknown[0]!r}; there are {', '.join(VOCABULARIES)}")
    sources = {"SMILES": smiles, "PROT": proteins, "XNA": nucleic}
    pieces = {
        name: _science_pieces(name, sources[name], science_sizes[name])
        for name in VOCABULARIES
        if science_sizes.get(name, 0) != 0
    }
    cutter = _assemble(list(byte_characters()), [], pieces)
    words: Counter[str] = Counter()
    for text in texts:
        for part in cutter.plain_parts(text):
            words.update(split_words(part))
    tokens, merges = _byte_level(words, vocab_size)
    return _assemble(tokens, merges, pieces)


def _byte_level(words: Mapping[str, int], vocab_size: int) -> tuple[list[str], list[tuple[str, str]]]:
    characters = byte_characters()
    spelled = {
        "".join(characters[byte] for byte in word.encode("utf-8")): count
        for word, count in words.items()
        if len(word) <= _MAX_WORD
    }
    return _train_bpe(spelled, sorted(characters), vocab_size)


def _science_pieces(name: str, strings: Iterable[str], size: int) -> tuple[str, ...]:
    """`<unk>`, merged pieces in priority, then single characters, the most frequent first."""
    counts = Counter(string.strip().replace(" ", SPACE) for string in strings)
    counts.pop("", None)
    letters: Counter[str] = Counter()
    for string, count in counts.items():
        for letter in string:
            letters[letter] += count
    if not letters:
        raise InputError(f"science_sizes: {name} has size {size}, but there is nothing to train it on; set it to 0")
    if size <= len(letters):
        raise InputError(
            f"science_sizes: {name} has size {size}, but its texts have {len(letters)} different characters; "
            f"make it at least {len(letters) + 1}"
        )
    words: Counter[str] = Counter()
    for string, count in counts.items():
        for run in _without_digits(string):
            words[run] += count
    tokens, _ = _train_bpe(words, sorted(letters), size - 1)
    merged = tokens[len(letters) :]
    singles = sorted(letters, key=lambda letter: (-letters[letter], letter))
    return (UNKNOWN, *merged, *singles)


def _without_digits(text: str) -> list[str]:
    return "".join(" " if character.isdigit() else character for character in text).split()


def _train_bpe(words: Mapping[str, int], alphabet: list[str], size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens (alphabet first) and merges of a BPE over the characters of `words`, which are never joined."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, pre_tokenizers, trainers

    bpe = RustTokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    trainer: Any = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False, min_frequency=2
    )
    bpe.train_from_iterator(_repeated(words), trainer)
    return _read_trained(bpe, alphabet)


def _repeated(words: Mapping[str, int]) -> Iterable[str]:
    """Every word as often as it was counted, in lines of bounded length."""
    for word, count in sorted(words.items()):
        step = max(1, 65_536 // (len(word) + 1))
        for start in range(0, count, step):
            yield " ".join([word] * min(step, count - start))


def _read_trained(bpe: Any, alphabet: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    import json

    model = json.loads(bpe.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert tokens[: len(alphabet)] == alphabet
    return tokens, [tuple(merge) for merge in model["merges"]]


def _assemble(tokens: list[str], merges: list[tuple[str, str]], pieces: Mapping[str, tuple[str, ...]]) -> Tokenizer:
    """The files of a tokenizer, read back."""
    added = {token: len(tokens) + i for i, token in enumerate(ADDED_TOKENS)}
    vocab = {token: index for index, token in enumerate(tokens)}
    offsets: dict[str, int] = {}
    start = len(tokens) + len(added)
    for name, texts in pieces.items():
        offsets[name] = start
        vocab |= {science_name(name, piece): start + i for i, piece in enumerate(texts)}
        start += len(texts)
    raw = {
        "vocab.json": dump_json(vocab),
        "merges.txt": "".join(["#version: 0.2\n", *(f"{a} {b}\n" for a, b in merges)]).encode("utf-8"),
        "added_tokens.json": dump_json(added),
        "tokenizer_config.json": dump_json(_config(added, offsets)),
        "special_tokens_map.json": dump_json(_special_tokens_map()),
    }
    raw |= {model_file(name): model_bytes(texts) for name, texts in pieces.items()}
    return Tokenizer(parse_tokenizer_files(raw))


def _config(added: Mapping[str, int], offsets: Mapping[str, int]) -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(index): {"content": token, **flags, "special": token in SPECIAL} for token, index in added.items()
        },
        "additional_special_tokens": list(ADDITIONAL_SPECIAL_TOKENS),
        "bos_token": IM_START,
        "clean_up_tokenization_spaces": False,
        "eos_token": IM_END,
        "errors": "replace",
        "extra_special_tokens": {},
        "model_max_length": MODEL_MAX_LENGTH,
        **{f"offset_{name}": offset for name, offset in offsets.items()},
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "InternS1Tokenizer",
        "unk_token": None,
    }


def _special_tokens_map() -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    named = {"bos_token": IM_START, "eos_token": IM_END, "pad_token": END_OF_TEXT}
    return {
        "additional_special_tokens": list(ADDITIONAL_SPECIAL_TOKENS),
        **{field: {"content": token, **flags} for field, token in named.items()},
    }
