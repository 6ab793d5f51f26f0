"""A task whose reward function does what an answer tells it to."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.tasks.task import Item, Prompt, Score

LEAKED: list[bytes] = []


class Hostile:
    """`right` and `wrong` are scored; everything else goes wrong in its own way."""

    name = "hostile"

    def items(self) -> list[Item]:
        return [Item(id="0")]

    def prompt(self, item: Item) -> Prompt:
        return Prompt(messages=())

    async def score(self, item: Item, response: str) -> Any:
        word, _, argument = response.partition(" ")
        if word == "hang":
            time.sleep(3600)
        if word == "hang-with-child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
            Path(argument).write_text(str(child.pid), encoding="utf-8")
            time.sleep(3600)
        if word == "leak":
            LEAKED.append(bytes(int(argument) << 20))
        if word == "raise":
            raise RuntimeError("a reward function that raises")
        if word == "exit":
            os._exit(3)
        if word == "crash":
            ctypes.string_at(0)
        if word == "print":
            sys.stdout.write("noise " * 1000)
            os.write(1, b"more noise")
        if word == "nothing":
            return None
        if word == "nan":
            return Score(value=float("nan"))
        return Score(value=float(word != "wrong"))

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


class Stranger:
    """A task that no other process can read."""

    def __reduce__(self) -> Any:
        return (_only_here, (os.getpid(),))


def _only_here(process: int) -> Stranger:
    if os.getpid() != process:
        raise RuntimeError("not here")
    return Stranger()
