"""How numba compiles the functions here: without the interpreter's lock, divisions as numpy does them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit


def jit(function: Callable[..., Any]) -> Any:
    """For functions that others here call."""
    return njit(nogil=True, error_model="numpy")(function)


def kept_jit(function: Callable[..., Any]) -> Any:
    """For functions that are called from outside: kept on the disk, if there is a place that can be written."""
    compiled = jit(function)
    with suppress(RuntimeError):
        compiled.enable_caching()
    return compiled
