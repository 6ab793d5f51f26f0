"""Pictures of benchmark records: base64 in a cell, the index of the row that holds it, a path, or a list of these.

They become parts of a message, `{"type": "image", "image": …}` with a `data:` URL or a path beside the data file.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.tasks.benchmarks.spec import Record
from s1pro.tasks.task import Prompt

_KINDS: Mapping[str, str] = {"/9j/": "jpeg", "iVBOR": "png", "R0lG": "gif", "UklG": "webp", "Qk": "bmp", "SUkq": "tiff"}
_SHORTEST = 64
"""A cell of fewer characters is no picture but the index of a row."""


def sources(record: Record) -> list[str]:
    """Where the pictures of a record are: `data:` URLs or paths. Raises `InputError` if there are none."""
    paths = _several(record.get("image_path"))
    if paths:
        return [str(Path(record.get("_folder", "")) / path) for path in paths]
    found = [_url(text) for text in _several(record.get("image"))]
    if not found:
        raise InputError("the fields 'image' and 'image_path' are empty, expected base64 or a path")
    return found


def _several(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value]
    text = "" if value is None else str(value).strip()
    if text.startswith("["):
        try:
            return [str(part) for part in ast.literal_eval(text)]  # constants only, it runs nothing
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise InputError(f"the list of pictures cannot be read ({type(error).__name__})") from error
    return [text] if text else []


def _url(text: str) -> str:
    if text.startswith("data:"):
        return text
    kind = next((kind for start, kind in _KINDS.items() if text.startswith(start)), None)
    if kind is None:
        raise InputError(f"the field 'image' begins with {text[:20]!r}, expected base64 of a picture")
    return f"data:image/{kind};base64,{text}"


def shared_pictures(records: Sequence[dict[str, Any]]) -> None:
    """Puts pictures in place of the indices of rows that hold them."""
    by_index = {str(record["index"]): record.get("image") for record in records if "index" in record}
    for record in records:
        cell = str(record.get("image") or "")
        if 0 < len(cell) < _SHORTEST and cell in by_index:
            record["image"] = by_index[cell]


def picture_prompt(record: Record, text: str, *, system: str | None = None) -> Prompt:
    """Pictures first, then the text."""
    parts = [*({"type": "image", "image": source} for source in sources(record)), {"type": "text", "text": text}]
    before = () if system is None else (Message(role="system", content=system),)
    return Prompt(messages=(*before, Message(role="user", content=parts)))


def with_size(record: Record) -> Record:
    """The record with `width` and `height` of its picture, which are read from the file if they are not there."""
    if record.get("width") and record.get("height"):
        return record
    path = sources(record)[0]
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error})") from error
    return {**record, "width": width, "height": height}
