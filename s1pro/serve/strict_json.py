"""JSON that others write, read by the letter: `NaN` and `Infinity` are none, and depth has an end."""

from __future__ import annotations

import json
from typing import Any


def loads_strict(text: str) -> Any:
    """Parses JSON without `NaN` and `Infinity`.

    Raises:
        ValueError: no JSON, or too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
