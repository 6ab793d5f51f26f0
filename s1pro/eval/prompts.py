"""Prompts by their content: two runs ask the same thing if the digests of their prompts agree.

A prompt names its media by path. The digest holds the bytes of a file instead of its name, so it survives a move of the
folder, and changes when somebody draws the picture anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def digest(*things: Any) -> str:
    """SHA-256 of JSON-able things, in which the paths of media stand for their contents."""
    text = json.dumps([contents(thing) for thing in things], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def contents(prompt: Any) -> Any:
    """The same with `sha256:…` in place of every path of a medium."""
    return _with_media(prompt, _content)


def without_folders(prompt: Any) -> Any:
    """A prompt whose media are named without their folders: an evaluation may have been moved, media and all."""
    return _with_media(prompt, lambda source: Path(source).name)


def _with_media(prompt: Any, named: Callable[[str], str]) -> Any:
    if isinstance(prompt, list | tuple):
        return [_with_media(item, named) for item in prompt]
    if not isinstance(prompt, Mapping):
        return prompt
    source = prompt.get("type")
    return {
        key: named(value) if key == source and isinstance(value, str) and key != "text" else _with_media(value, named)
        for key, value in prompt.items()
    }


def _content(source: str) -> str:
    if source[:5] == "data:" or "://" in source[:12]:
        return source
    try:
        status = Path(source).stat()
        return _file_digest(source, status.st_mtime_ns, status.st_size)
    except OSError:
        return source


@functools.lru_cache(maxsize=65536)
def _file_digest(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
