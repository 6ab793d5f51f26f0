"""What runs behind the walls for a program of a model: one test of a problem (benchmarks/livecodebench.py).

Programs of competitions take much for imported (`from math import *`, ...), as upstream does. Standard input is a real
file, so every way of reading it works.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_STARS = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
_NAMES = _STARS[:-2]
_PRELUDE = "\n".join([*(f"from {name} import *" for name in _STARS), *(f"import {name}" for name in _NAMES)])


def solve(code: str, given: str, function: str) -> Any:
    """Runs a program on its input, which prints; or calls a function, and gives `{value, tuples_inside}`."""
    if not function:
        _as_input(given)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(_PRELUDE, names)  # noqa: S102
    sys.setrecursionlimit(600_000)
    if not function:
        try:
            exec(compile(code, "<program>", "exec"), names)  # noqa: S102  (that is what the walls are for)
        except SystemExit:
            return None
        return None
    names["__name__"] = "solution"
    exec(compile(code, "<program>", "exec"), names)  # noqa: S102
    arguments = [json.loads(line) for line in given.split("\n")]
    place = names["Solution"]() if "class Solution" in code else None
    method = names[function] if place is None else getattr(place, function)
    value = method(*arguments)
    inside = list(value) if isinstance(value, list | tuple) else []
    return {"value": json.loads(json.dumps(value)), "tuples_inside": any(map(_has_tuples, inside))}


def _as_input(given: str) -> None:
    with open("input", "w", encoding="utf-8", newline="") as file:
        file.write(given)
    os.dup2(os.open("input", os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (ends with the process)


def _has_tuples(value: Any) -> bool:
    if isinstance(value, tuple):
        return True
    return isinstance(value, list) and any(map(_has_tuples, value))
