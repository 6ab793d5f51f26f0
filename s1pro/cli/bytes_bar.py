"""The progress bar of commands that write a model: bytes so far."""

from __future__ import annotations

from s1pro.base.bars import Bars


class BytesBar(Bars):
    """A context manager; silent unless `shown` (None: shown on a terminal)."""

    def __init__(self, title: str, *, shown: bool | None = None) -> None:
        super().__init__("{task.fields[told]}", shown=shown)
        self._title = title

    def update(self, done: int, total: int) -> None:
        """`done` of `total` bytes are written."""
        self.draw(self._title, done, total, told=f"{done / 1e6:,.1f}/{total / 1e6:,.1f} MB")
