"""The progress bar of a run: step, loss, rate, remaining time. Shown on terminals only, on the error stream."""

from __future__ import annotations

import sys
from typing import Any


class ProgressBar:
    """A context manager; silent unless `shown` (None: shown on a terminal)."""

    def __init__(self, title: str, total: int, *, start: int = 0, shown: bool | None = None) -> None:
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._title, self._total, self._start = title, total, start
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        if self.shown:
            self._bar = _rich_bar()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._start, note="")
            self._bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=f"loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s")


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
