"""What `processor(...)` takes, in the one form that it works with.

People pass one conversation or many, one text or many, a picture or a list of pictures, a rate for all signals or one
for each. Here that becomes lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.records import Message

Messages = Iterable[Message | Mapping[str, Any]]


def conversations_of(given: Messages | Sequence[Messages]) -> list[Messages]:
    """One conversation, or several, as a list."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"conversations are lists of messages, got {given!r:.80}")
    found = list(given)
    if found and all(isinstance(one, (Message, Mapping)) for one in found):
        return [found]  # type: ignore[list-item]
    return found  # type: ignore[return-value]


def media_list(given: Any, dims: int) -> Sequence[Any]:
    """A list of media; a single one, which is no list or an array of at most `dims` dimensions, becomes one."""
    if isinstance(given, (list, tuple)):
        numbers = bool(given) and all(isinstance(item, (int, float)) for item in given)  # a signal
        return [given] if numbers else given
    return [given] if np.ndim(given) <= dims or isinstance(given, (str, bytes)) else list(given)


def texts_of(given: str | Sequence[str]) -> list[str]:
    """One text, or several, as a list."""
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"text must be text or a list of texts, got {given!r:.80}")
    return texts


def with_setting(sources: Sequence[Any], values: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """Each source with its own value of a setting, or with the one for all."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    several = list(values) if isinstance(values, (list, tuple)) else [values] * len(sources)
    if len(several) != len(sources):
        raise InputError(f"{name}: {len(several)} values for {len(sources)} media")
    return zip(sources, several, strict=True)
