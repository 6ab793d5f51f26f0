"""The progress bar of an evaluation: one line per task."""

from __future__ import annotations

from s1pro.base.bars import Bars


class ProgressBar(Bars):
    """A context manager; silent unless `shown` (None: shown on a terminal)."""

    def __init__(self, *, shown: bool | None = None) -> None:
        super().__init__("{task.completed:,}/{task.total:,}", shown=shown)

    def update(self, name: str, done: int, total: int) -> None:
        """`done` of `total` items of the task `name` are answered."""
        self.draw(name, done, total)
