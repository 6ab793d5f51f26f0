"""Routing traces on the wire: `.npy` files, uint16 `[T, L, K]`, never lists in JSON.

A reply names its trace (`{"ref": "...", "shape": [T, L, K]}`), and the client fetches the bytes. Nothing but numbers is
read from them: no pickle, and no more than the shape that was announced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from s1pro.base.records import RoutingTrace

_REF = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_ENTRIES = 512 * 2**20


def reference_of(value: Any) -> tuple[str, tuple[int, int, int]] | None:
    """Name and shape of a trace that a reply announces; None for anything else (a list of lists, a bare key)."""
    if not isinstance(value, Mapping):
        return None
    ref, shape = value.get("ref"), value.get("shape")
    if not isinstance(ref, str) or not _REF.fullmatch(ref):
        return None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
        return None
    return ref, (shape[0], shape[1], shape[2])


def read_trace(data: bytes, shape: tuple[int, int, int], policy_version: int) -> RoutingTrace:
    """The trace of an `.npy` file. Raises `ValueError` for other bytes, another type or another shape."""
    if int(np.prod(shape)) > MAX_ENTRIES:
        raise ValueError(f"a routing trace of shape {shape} is too large")
    try:
        experts = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"the routing trace is no .npy file ({error})") from error
    if not isinstance(experts, np.ndarray) or experts.shape != shape or experts.dtype != np.uint16:
        raise ValueError(f"the routing trace is not uint16 {shape}")
    return RoutingTrace(experts_TLK=experts, policy_version=policy_version)
