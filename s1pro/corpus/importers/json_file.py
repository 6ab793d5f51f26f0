"""A JSON file of unknown origin, read with care: every complaint names the file, the field and the value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError


@dataclass(frozen=True)
class Field:
    """A value with its place: `content_list.json: [3].bbox`."""

    file: str
    path: str
    value: Any

    def wrong(self, reason: str) -> InputError:
        """The error that says what is wrong here."""
        shown = repr(self.value)
        return InputError(f"{self.file}: {self.path or 'the file'}: {reason}, got {shown[:120]}")

    def get(self, name: str) -> Field | None:
        """A field of an object; None if it is absent or null."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("expected an object")
        value = self.value.get(name)
        return None if value is None else Field(self.file, f"{self.path}.{name}".lstrip("."), value)

    def need(self, name: str) -> Field:
        """A field of an object that must be there."""
        found = self.get(name)
        if found is None:
            raise InputError(f"{self.file}: {self.path or 'the file'}: the field {name!r} is missing")
        return found

    def items(self) -> Iterator[Field]:
        """The members of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("expected a list")
        for number, value in enumerate(self.value):
            yield Field(self.file, f"{self.path}[{number}]", value)

    def list_of(self, name: str) -> Iterator[Field]:
        """The members of the list field `name`; none if it is absent."""
        found = self.get(name)
        return iter(()) if found is None else found.items()

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("expected text")
        return self.value

    def integer(self, low: int = 0, high: int = 10**6) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.wrong(f"expected a whole number from {low} to {high}")
        return self.value

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("expected a number")
        return float(self.value)

    def numbers(self, count: int) -> Sequence[float]:
        found = [item.number() for item in self.items()]
        if len(found) != count:
            raise self.wrong(f"expected {count} numbers")
        return found

    def optional_text(self, name: str) -> str:
        """A text field, empty if absent."""
        found = self.get(name)
        return "" if found is None else found.text()


def read_json(path: Path, max_bytes: int) -> Field:
    """The whole file.

    Raises:
        InputError: missing, larger than `max_bytes`, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path}: {size} bytes; the limit is {max_bytes} (max_json_bytes)")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error})") from error
    return Field(str(path), "", value)
