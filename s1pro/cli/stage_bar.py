"""The progress bar of `s1pro corpus`: units, documents, pages per second, time left. On terminals only, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from s1pro.corpus.work import Progress


class StageBar:
    """A context manager with one line per stage; silent unless `shown` (None: shown on a terminal)."""

    def __init__(self, *, shown: bool | None = None) -> None:
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._bar: Any = None
        self._lines: dict[str, Any] = {}
        self._began: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        if self.shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description:12}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
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

    def files(self, done: int, total: int) -> None:
        """So many files are registered."""
        if self._bar is not None:
            self._update("register", done, total, f"{done:,}/{total:,} files")

    def __call__(self, progress: Progress) -> None:
        if self._bar is None:
            return
        began, before = self._began.setdefault(progress.stage, (time.monotonic(), progress.pages))
        seconds = time.monotonic() - began
        rate = f"{(progress.pages - before) / seconds:.1f}" if seconds > 1 else "-"
        told = (
            f"{progress.inputs_done:,}/{progress.inputs:,} inputs, {progress.units_done:,}/{progress.units:,} units, "
            f"{progress.pages:,} pages, {rate} pages/s"
        )
        self._update(progress.stage, progress.inputs_done, progress.inputs, told)

    def _update(self, line: str, done: int, total: int, told: str) -> None:
        if line not in self._lines:
            self._lines[line] = self._bar.add_task(line, total=total, told=told)
        self._bar.update(self._lines[line], completed=done, told=told)
