"""Where the numbers of a run go: `metrics.jsonl`, and TensorBoard when it is installed.

Every line is one JSON object with `kind` (train, validation, router, routing, fp8, skip; in reinforcement learning also
rollout) and `step`. Losses, counts and router loads are reproducible; `seconds`, `tokens_per_second` and `mfu` are not.
On resume, lines behind the checkpoint are removed first, so a killed and resumed run leaves each step exactly once.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import MissingExtraError

FILE_NAME = "metrics.jsonl"


class MetricsWriter:
    """Appends records to `folder/metrics.jsonl`.

    Args:
        tensorboard: None writes event files if the package is installed, true insists on it.

    Raises:
        MissingExtraError: TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self._board = _open_board(folder / "tensorboard", tensorboard)
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace")

    def write(self, kind: str, step: int, record: Mapping[str, Any]) -> None:
        """One line; non-finite numbers become null."""
        line = {"kind": kind, "step": step, **record}
        self._file.write(json.dumps(_finite(line), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for tag, value in _scalars(record, kind):
                self._board.add_scalar(tag, value, step)

    def forget_after(self, step: int) -> None:
        """Removes the lines of later steps (and a line that a kill cut short)."""
        self._file.close()
        kept = [record for record in read_metrics(self.path) if record["step"] <= step]
        temporary = self.path.with_name(f".{FILE_NAME}.tmp")
        temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class NoMetrics:
    """Stands in for a `MetricsWriter` on ranks that write nothing."""

    def write(self, kind: str, step: int, record: Mapping[str, Any]) -> None:
        """Does nothing."""

    def forget_after(self, step: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


Metrics = MetricsWriter | NoMetrics


def read_metrics(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Records of a run folder or of its file, of one kind or all. A last line without end is ignored."""
    file = path / FILE_NAME if path.is_dir() else path
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record for record in records if kind is None or record["kind"] == kind]


def _open_board(folder: Path, wanted: bool | None) -> Any:
    if wanted is False:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        if wanted:
            raise MissingExtraError("tensorboard", "tensorboard")
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))  # type: ignore[no-untyped-call]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _scalars(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Numbers with their path; lists (loads per expert) stay in the JSONL file."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}/{key}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}/{key}", float(value)
