"""The files of a tokenizer folder, checked against each other.

    vocab.json                 token -> id: byte-level tokens, and `<|SMILES_CC|>` and the like for the science pieces
    merges.txt                 "#version: 0.2", then one merge per line
    added_tokens.json          control tokens and tags -> id
    tokenizer_config.json      their flags (added_tokens_decoder); offset_SMILES, offset_PROT, offset_XNA
    special_tokens_map.json    which of them end and pad a text, and which count as special
    tokenizer_SMILES.model …   the science vocabularies; one that is empty has neither file nor offset

The bytes are kept, so that saving gives back exactly what was read, foreign keys included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.inputs.byte_bpe import byte_characters
from s1pro.inputs.files import parse_json, parse_text, read_file
from s1pro.inputs.sentencepiece_file import parse_model
from s1pro.inputs.special_tokens import SCIENCE_TAGS, VOCABULARIES

JSON_FILES = ("vocab.json", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json")
MERGES_FILE = "merges.txt"
_STRIPPING = ("lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What `Tokenizer` needs, consistent with each other.

    Attributes:
        raw: file name -> bytes.
        vocab: byte-level tokens -> id.
        merges: pairs in order.
        added: control tokens and tags -> id.
        pieces: science vocabulary -> its pieces; empty ones are left out.
        offsets: science vocabulary -> id of its first piece.
        eos_token, pad_token: names.
        special_tokens: what decoding may skip.
    """

    raw: Mapping[str, bytes]
    vocab: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    added: Mapping[str, int]
    pieces: Mapping[str, tuple[str, ...]]
    offsets: Mapping[str, int]
    eos_token: str
    pad_token: str
    special_tokens: tuple[str, ...]

    def bytes_of_ids(self) -> list[bytes]:
        """What each id decodes to."""
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        table = {index: bytes(byte_of[character] for character in token) for token, index in self.vocab.items()}
        table |= {index: token.encode("utf-8") for token, index in self.added.items()}
        for name, pieces in self.pieces.items():
            offset = self.offsets[name]
            table |= {offset + i: piece.replace("\u2581", " ").encode("utf-8") for i, piece in enumerate(pieces)}
        return [table[index] for index in range(len(table))]

    def names_of_ids(self) -> list[str]:
        """The name of each id as the files write it."""
        table = {index: token for token, index in (*self.vocab.items(), *self.added.items())}
        for name, pieces in self.pieces.items():
            table |= {self.offsets[name] + i: science_name(name, piece) for i, piece in enumerate(pieces)}
        return [table[index] for index in range(len(table))]


def science_name(vocabulary: str, piece: str) -> str:
    """How `vocab.json` writes a piece of a science vocabulary."""
    return f"<|{vocabulary}_{piece}|>"


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Reads and checks a folder.

    Raises:
        InputError: names the file and the field.
    """
    raw = {name: read_file(folder, name) for name in (*JSON_FILES, MERGES_FILE)}
    config = parse_json(raw["tokenizer_config.json"], "tokenizer_config.json")
    for name in VOCABULARIES:
        if f"offset_{name}" in config:
            raw[model_file(name)] = read_file(folder, model_file(name))
    return parse_tokenizer_files(raw)


def parse_tokenizer_files(raw: Mapping[str, bytes]) -> TokenizerFiles:
    """The files as records; see `read_tokenizer_files`."""
    all_tokens, added, config, special = (parse_json(raw[name], name) for name in JSON_FILES)
    pieces = {
        name: tuple(parse_model(raw[model_file(name)], model_file(name)))
        for name in VOCABULARIES
        if model_file(name) in raw
    }
    offsets = {name: _integer(config, f"offset_{name}", "tokenizer_config.json") for name in pieces}
    _check_ids(all_tokens, "vocab.json")
    _check_ids(added, "added_tokens.json")
    science = {science_name(n, p): offsets[n] + i for n, texts in pieces.items() for i, p in enumerate(texts)}
    vocab = _split_vocab(all_tokens, science)
    _check_contiguous(vocab, added, science)
    _check_flags(config, added)
    eos, pad = (_token_name(special, field, added) for field in ("eos_token", "pad_token"))
    return TokenizerFiles(
        raw=dict(raw),
        vocab=vocab,
        merges=_merges(raw[MERGES_FILE]),
        added=added,
        pieces=pieces,
        offsets=offsets,
        eos_token=eos,
        pad_token=pad,
        special_tokens=_special_names(special, added),
    )


def model_file(vocabulary: str) -> str:
    return f"tokenizer_{vocabulary}.model"


def _integer(values: Mapping[str, Any], field: str, file: str) -> int:
    value = values.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{file}: {field} must be a whole number from 0 on, got {value!r}")
    return value


def _check_ids(tokens: Mapping[str, Any], file: str) -> None:
    if not tokens:
        raise InputError(f"{file}: no tokens")
    for token in tokens:
        _integer(tokens, token, file)


def _split_vocab(tokens: Mapping[str, int], science: Mapping[str, int]) -> dict[str, int]:
    """The byte-level tokens: all of `vocab.json` but the science pieces, whose ids must be those of the models."""
    allowed = frozenset(byte_characters())
    vocab: dict[str, int] = {}
    for token, index in tokens.items():
        if token in science:
            if science[token] != index:
                raise InputError(f"vocab.json: {token} has id {index}, its model and offset say {science[token]}")
        elif not token or not allowed.issuperset(token):
            raise InputError(f"vocab.json: {token!r} is neither a byte-level token nor a piece of a science model")
        else:
            vocab[token] = index
    return vocab


def _check_contiguous(*parts: Mapping[str, int]) -> None:
    """All ids together are 0, 1, 2 … without holes or doubles."""
    ids = sorted(index for part in parts for index in part.values())
    for expected, index in enumerate(ids):
        if index != expected:
            problem = f"id {expected} belongs to no token" if index > expected else f"id {index} belongs to two tokens"
            raise InputError(f"vocab.json, added_tokens.json and the offsets in tokenizer_config.json: {problem}")


def _check_flags(config: Mapping[str, Any], added: Mapping[str, int]) -> None:
    """`added_tokens_decoder` names the same tokens, and none of them swallows white space around it."""
    file = "tokenizer_config.json"
    decoder = config.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        raise InputError(f"{file}: added_tokens_decoder must be an object, got {decoder!r}")
    named: dict[str, int] = {}
    for index, entry in decoder.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not index.isdecimal():
            raise InputError(f"{file}: added_tokens_decoder.{index} is malformed: {entry!r}")
        for flag in _STRIPPING:
            if entry.get(flag, False):
                raise InputError(
                    f"{file}: added_tokens_decoder.{index}.{flag} is set; only tokens without it are supported"
                )
        named[entry["content"]] = int(index)
    if named != dict(added):
        wrong = sorted(set(named.items()) ^ set(added.items()))[0]
        raise InputError(f"{file}: added_tokens_decoder and added_tokens.json disagree about {wrong}")
    if any(not token.startswith("<") or len(token) < 3 for token in added):
        raise InputError(f"added_tokens.json: every token must begin with '<', got {min(added)!r}")
    if lone := [token for token in added if any("\ud800" <= character <= "\udfff" for character in token)]:
        raise InputError(f"added_tokens.json: {lone[0]!r} holds a lone surrogate, which is no character")
    missing = [tag for opening in SCIENCE_TAGS for tag in (opening, "</" + opening[1:]) if tag not in added]
    if missing:
        raise InputError(f"added_tokens.json: the science tag {missing[0]} is missing")


def _token_name(special: Mapping[str, Any], field: str, added: Mapping[str, int]) -> str:
    value = special.get(field)
    name = value.get("content") if isinstance(value, dict) else value
    if not isinstance(name, str) or name not in added:
        raise InputError(f"special_tokens_map.json: {field} must name a token of added_tokens.json, got {name!r}")
    return name


def _special_names(special: Mapping[str, Any], added: Mapping[str, int]) -> tuple[str, ...]:
    names = [
        _token_name(special, field, added) for field in ("bos_token", "eos_token", "pad_token") if special.get(field)
    ]
    others = special.get("additional_special_tokens", [])
    if not isinstance(others, list):
        raise InputError(f"special_tokens_map.json: additional_special_tokens must be a list, got {others!r}")
    names += [_token_name({"additional_special_tokens": name}, "additional_special_tokens", added) for name in others]
    return tuple(dict.fromkeys(names))


def _merges(data: bytes) -> tuple[tuple[str, str], ...]:
    lines = parse_text(data, MERGES_FILE).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line and number == len(lines):
            break
        left, space, right = line.partition(" ")
        if not left or not space or not right or " " in right:
            raise InputError(f"{MERGES_FILE}: line {number}: expected two tokens with a space between, got {line!r}")
        merges.append((left, right))
    return tuple(merges)
