"""Ctrl-C during training: the first one asks to finish the step and save, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class GracefulInterrupt:
    """Context manager. While it is active, `requested` becomes true at the first SIGINT.

    A second SIGINT raises `KeyboardInterrupt` where the program is. Outside the main thread it does nothing, because
    Python delivers signals to the main thread only.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None
        self._active = False

    def __enter__(self) -> GracefulInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
            self._active = True
        return self

    def __exit__(self, *unused: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._previous)
            self._active = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
