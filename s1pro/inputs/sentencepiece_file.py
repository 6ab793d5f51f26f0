"""SentencePiece `.model` files, read and written without the sentencepiece package.

The file is one Protocol Buffers message. On the wire a message is a row of fields: a varint `number << 3 | type`, then
the value: type 0 a varint, 1 eight bytes, 2 a varint length and that many bytes, 5 four bytes. We need three fields:

    1  piece (repeated)   1 text, 2 score (float), 3 type (1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte)
    2  trainer            3 model type (1 unigram, 2 BPE, 3 word, 4 char), 4 vocabulary size, 35 byte fallback
    3  normaliser         1 name, 2 rules, 3 add dummy prefix, 4 remove extra whitespace, 5 escape whitespace

The models of the release are plain BPE: piece 0 is `<unk>`, all others are normal, text is not changed before splitting
(spec 1.10). Anything else is refused, because `science_bpe` would cut such text differently from its own model.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

from s1pro.base.errors import InputError

MAX_PIECES = 1_000_000
UNKNOWN = "<unk>"

_NORMAL, _UNKNOWN_TYPE = 1, 2
_BPE = 2
_BYTE_FALLBACK, _VOCAB_SIZE, _MODEL_TYPE = 35, 4, 3
_TRUE_BY_DEFAULT = {3: "add_dummy_prefix", 4: "remove_extra_whitespaces"}

_Value = int | bytes


def parse_model(data: bytes, name: str) -> list[str]:
    """The pieces of a plain BPE model, in merge priority: index is id, and lower ids win.

    Raises:
        InputError: the file is damaged, or it is a model of another kind.
    """
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, _Value] = {}
    normaliser: dict[int, _Value] = {}
    for number, value in _fields(data, name):
        if number == 1:
            pieces.append(_piece(value, name))
        elif number == 2:
            trainer = dict(_fields(_as_bytes(value, name), name))
        elif number == 3:
            normaliser = dict(_fields(_as_bytes(value, name), name))
        if len(pieces) > MAX_PIECES:
            raise InputError(f"{name}: more than {MAX_PIECES} pieces")
    _check_settings(trainer, normaliser, name)
    return _check_pieces(pieces, name)


def model_bytes(pieces: Sequence[str]) -> bytes:
    """A `.model` file with these pieces in merge priority; `pieces[0]` is `<unk>`. The inverse of `parse_model`."""
    if not pieces or pieces[0] != UNKNOWN:
        raise ValueError(f"the first piece must be {UNKNOWN}, got {list(pieces[:1])}")
    message = bytearray()
    for index, piece in enumerate(pieces):
        score = 0.0 if index == 0 else float(1 - index)
        body = _text_field(1, piece) + _tag(2, 5) + struct.pack("<f", score)
        body += _int_field(3, _UNKNOWN_TYPE) if index == 0 else b""
        message += _bytes_field(1, body)
    no_id = -1
    trainer = _int_field(_MODEL_TYPE, _BPE) + _int_field(_VOCAB_SIZE, len(pieces))
    trainer += _int_field(40, 0) + _int_field(41, no_id) + _int_field(42, no_id) + _int_field(43, no_id)
    message += _bytes_field(2, trainer)
    message += _bytes_field(3, _text_field(1, "identity") + _int_field(3, 0) + _int_field(4, 0))
    return bytes(message)


def _piece(value: _Value, name: str) -> tuple[str, float, int]:
    fields = dict(_fields(_as_bytes(value, name), name))
    try:
        text = _as_bytes(fields.get(1, b""), name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: a piece is not UTF-8: {fields.get(1)!r}") from error
    kind = fields.get(3, _NORMAL)
    raw = fields.get(2, b"\0\0\0\0")
    if not isinstance(kind, int) or not isinstance(raw, bytes) or len(raw) != 4:
        raise InputError(f"{name}: the piece {text!r} has a malformed score or type")
    return text, struct.unpack("<f", raw)[0], kind


def _check_settings(trainer: dict[int, _Value], normaliser: dict[int, _Value], name: str) -> None:
    if trainer.get(_MODEL_TYPE, 1) != _BPE:
        raise InputError(f"{name}: model type {trainer.get(_MODEL_TYPE, 1)!r}; only BPE (2) is supported")
    if trainer.get(_BYTE_FALLBACK, 0):
        raise InputError(f"{name}: byte fallback is not supported")
    if normaliser.get(2, b""):
        raise InputError(f"{name}: normalisation rules are not supported, only the identity")
    for number, setting in _TRUE_BY_DEFAULT.items():
        if normaliser.get(number, 1):
            raise InputError(f"{name}: {setting} is on; only models without it are supported")
    if not normaliser.get(5, 1):
        raise InputError(f"{name}: escape_whitespaces is off; only models with it are supported")


def _check_pieces(pieces: list[tuple[str, float, int]], name: str) -> list[str]:
    if not pieces or pieces[0][2] != _UNKNOWN_TYPE:
        raise InputError(f"{name}: the first piece must be the unknown one, got {pieces[:1]}")
    last = math.inf
    for index, (text, score, kind) in enumerate(pieces[1:], start=1):
        if kind != _NORMAL:
            raise InputError(f"{name}: piece {index} {text!r} has type {kind}; only normal pieces (1) are supported")
        if not text:
            raise InputError(f"{name}: piece {index} is empty")
        if not score < last:
            raise InputError(f"{name}: piece {index} {text!r} has score {score}, not below its predecessor's")
        last = score
    texts = [text for text, _, _ in pieces]
    if len(set(texts)) != len(texts):
        raise InputError(f"{name}: the piece {next(t for t in texts if texts.count(t) > 1)!r} appears twice")
    return texts


def _fields(data: bytes, name: str) -> Iterator[tuple[int, _Value]]:
    """The fields of a message in order. Groups (types 3 and 4) do not occur in these files."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position, name)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(data, position, name)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(data, position, name)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise InputError(f"{name}: damaged at byte {position}: wire type {kind}")
        if number == 0 or position + length > len(data):
            raise InputError(f"{name}: damaged or cut off at byte {position}: field {number} of {length} bytes")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int, name: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise InputError(f"{name}: damaged or cut off at byte {position}: unfinished number")


def _as_bytes(value: _Value, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise InputError(f"{name}: damaged: a number stands where a message is expected")
    return value


def _write_varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers are written in two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _tag(number: int, kind: int) -> bytes:
    return _write_varint(number << 3 | kind)


def _int_field(number: int, value: int) -> bytes:
    return _tag(number, 0) + _write_varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _tag(number, 2) + _write_varint(len(value)) + value


def _text_field(number: int, value: str) -> bytes:
    return _bytes_field(number, value.encode("utf-8"))
