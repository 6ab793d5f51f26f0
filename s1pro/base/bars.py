"""Progress bars with one line per job. Shown on terminals only, on the error stream."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self


class Bars:
    """A context manager; silent unless `shown` (None: shown on a terminal).

    Args:
        told: what stands behind each bar, as a `rich` text template over the fields of `draw`; `{task.completed}` and
            `{task.total}` are always there.
    """

    def __init__(self, told: str, *, shown: bool | None = None) -> None:
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._told = told
        self._bar: Any = None
        self._lines: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if self.shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description:12}"),
                BarColumn(),
                TextColumn(self._told),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def draw(self, line: str, done: int, total: int, **fields: Any) -> None:
        """`done` of `total` of the job `line`; a line that is new is added below the others."""
        if self._bar is None:
            return
        if line not in self._lines:
            self._lines[line] = self._bar.add_task(line, total=total, **fields)
        self._bar.update(self._lines[line], completed=done, total=total, **fields)
