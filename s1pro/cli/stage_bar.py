"""The progress bar of `s1pro corpus`: inputs, units, pages per second, time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from s1pro.base.bars import Bars

if TYPE_CHECKING:
    from s1pro.corpus.work import Progress


class StageBar(Bars):
    """A context manager with one line per stage; silent unless `shown` (None: shown on a terminal)."""

    def __init__(self, *, shown: bool | None = None) -> None:
        super().__init__("{task.fields[told]}", shown=shown)
        self._began: dict[str, tuple[float, int]] = {}

    def files(self, done: int, total: int) -> None:
        """So many files are registered."""
        self.draw("register", done, total, told=f"{done:,}/{total:,} files")

    def __call__(self, progress: Progress) -> None:
        began, before = self._began.setdefault(progress.stage, (time.monotonic(), progress.pages))
        seconds = time.monotonic() - began
        rate = f"{(progress.pages - before) / seconds:.1f}" if seconds > 1 else "-"
        told = (
            f"{progress.inputs_done:,}/{progress.inputs:,} inputs, {progress.units_done:,}/{progress.units:,} units, "
            f"{progress.pages:,} pages, {rate} pages/s"
        )
        self.draw(progress.stage, progress.inputs_done, progress.inputs, told=told)
