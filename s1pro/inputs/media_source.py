"""The bytes behind a media reference: a path, bytes, or a `data:` URL.

    str or Path --> file, relative ones against the folder of the data that names them
    data: URL ----> base64 in the conversation itself
    bytes --------> themselves

References come from data sets and clients, so every size is bounded before memory is taken, only regular files are
read, and whatever is wrong is an `InputError` that names the reference. Nothing is downloaded here: `http(s)` URLs are
refused. Callers that take references from strangers pass `allow_paths=False`, so that nobody reads the files of the
machine.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path

from s1pro.base.errors import InputError

MAX_MEDIA_BYTES = 64 * 2**20

MediaSource = str | os.PathLike[str] | bytes
"""A path or `data:` URL as text, a path, or the bytes of a file."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_DATA_URL = re.compile(r"data:(?P<type>[^,]{0,200}),", re.IGNORECASE)
_WHITESPACE = {ord(character): None for character in " \t\r\n"}


def read_media(
    source: MediaSource, *, base: Path | None = None, max_bytes: int = MAX_MEDIA_BYTES, allow_paths: bool = True
) -> bytes:
    """The bytes of a reference.

    Args:
        base: folder that relative paths start from; default the current one.
        max_bytes: more are refused.
        allow_paths: False refuses files; bytes and `data:` URLs remain.

    Raises:
        InputError: no such file, no regular file, too large, no valid base64, or a URL.
    """
    found = locate_media(source, base=base, max_bytes=max_bytes, allow_paths=allow_paths)
    if isinstance(found, bytes):
        return found
    name = media_name(source)
    check_file(found, name, max_bytes)
    try:
        with found.open("rb") as file:
            data = file.read(max_bytes + 1)  # it may have grown
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    return _bounded(data, name, max_bytes)


def locate_media(
    source: MediaSource, *, base: Path | None = None, max_bytes: int = MAX_MEDIA_BYTES, allow_paths: bool = True
) -> Path | bytes:
    """The path that a reference means (which need not exist), or the bytes that it carries. Arguments as above."""
    if isinstance(source, bytes):
        return _bounded(source, media_name(source), max_bytes)
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"a media reference is a path, a data: URL or bytes, got {type(source).__name__}")
    text = os.fspath(source)
    if isinstance(source, str) and text[:5].lower() == "data:":
        return _data_url(text, max_bytes)
    scheme = _SCHEME.match(text) if isinstance(source, str) else None
    if scheme:
        advice = "download it first" if scheme[1].lower() in ("http", "https") else "give the path of a local file"
        raise InputError(f"{media_name(source)}: {scheme[1]} URLs are not read here; {advice}, or pass a data: URL")
    if not allow_paths:
        raise InputError(f"{media_name(source)}: paths are not accepted here; pass a data: URL")
    if not text:
        raise InputError("a media reference is empty")
    return (base or Path()) / text


def check_file(path: Path, name: str, max_bytes: int) -> None:
    """A regular file of at most `max_bytes`: no folder, device or pipe."""
    try:
        exists, regular = path.exists(), path.is_file()
        size = path.stat().st_size if regular else 0
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    if not exists:
        raise InputError(f"{name}: there is no such file" + ("" if str(path) == name else f" ({path})"))
    if not regular:
        raise InputError(f"{name}: not a regular file")
    if size > max_bytes:
        raise InputError(f"{name}: {size} bytes, more than the limit of {max_bytes}")


def media_name(source: object) -> str:
    """A short name of a reference for messages."""
    if isinstance(source, bytes):
        return f"media of {len(source)} bytes"
    if not isinstance(source, (str, os.PathLike)):
        return f"media given as {type(source).__name__}"
    text = os.fspath(source)
    if isinstance(source, str) and text[:5].lower() == "data:":
        return f"{text[:32].partition(',')[0]},… ({len(text)} characters)"
    return text if len(text) <= 160 else f"{text[:100]}…{text[-40:]}"


def _bounded(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise InputError(f"{name}: larger than the limit of {max_bytes} bytes")
    if not data:
        raise InputError(f"{name}: empty")
    return data


def _data_url(url: str, max_bytes: int) -> bytes:
    name = media_name(url)
    head = _DATA_URL.match(url)
    if head is None or not head["type"].lower().rstrip().endswith(";base64"):
        raise InputError(f"{name}: expected data:<type>;base64,<data>")
    if (len(url) - head.end()) * 3 // 4 > max_bytes * 11 // 10:  # room for line ends inside
        raise InputError(f"{name}: larger than the limit of {max_bytes} bytes")
    try:
        data = base64.b64decode(url[head.end() :].translate(_WHITESPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: no valid base64: {error}") from error
    return _bounded(data, name, max_bytes)
