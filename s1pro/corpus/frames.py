"""Frames on a pipe: a JSON header and any number of byte strings.

    4 bytes  length of the header        4 bytes  length of the body        header (JSON)        body

The header's `sizes` say where the byte strings of the body begin and end. There is no pickle: what comes from a process
that has read a hostile file is parsed, and nothing more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from s1pro.base.errors import InputError

_LENGTHS = struct.Struct(">II")
LONGEST = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Frame:
    header: Mapping[str, Any]
    parts: Sequence[bytes] = ()

    @property
    def op(self) -> str:
        return str(self.header.get("op", ""))


def encode(frame: Frame) -> bytes:
    header = json.dumps({**frame.header, "sizes": [len(part) for part in frame.parts]}).encode()
    body = b"".join(frame.parts)
    return _LENGTHS.pack(len(header), len(body)) + header + body


def take(buffer: bytearray) -> Frame | None:
    """Removes the first frame from a buffer; None if it is not complete yet.

    Raises:
        InputError: the bytes are no frame.
    """
    if len(buffer) < _LENGTHS.size:
        return None
    header_length, body_length = _LENGTHS.unpack_from(buffer)
    if header_length + body_length > LONGEST:
        raise InputError(f"a frame of {header_length + body_length:,} bytes is longer than allowed")
    end = _LENGTHS.size + header_length + body_length
    if len(buffer) < end:
        return None
    header, body = bytes(buffer[_LENGTHS.size : end - body_length]), bytes(buffer[end - body_length : end])
    del buffer[:end]
    return _frame(header, body)


def read(file: BinaryIO) -> Frame | None:
    """The next frame of a blocking file; None at its end."""
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header_length, body_length = _LENGTHS.unpack(lengths)
    return _frame(file.read(header_length), file.read(body_length))


def _frame(header: bytes, body: bytes) -> Frame:
    try:
        content = json.loads(header)
        sizes = content.pop("sizes")
        if sum(sizes) != len(body) or any(size < 0 for size in sizes):
            raise ValueError("the sizes do not fit the body")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a frame: {error}") from error
    parts, start = [], 0
    for size in sizes:
        parts.append(body[start : start + size])
        start += size
    return Frame(header=content, parts=tuple(parts))
