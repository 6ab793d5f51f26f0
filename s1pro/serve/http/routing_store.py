"""Routing traces that wait to be fetched.

A trace is uint16 `[T, L, K]`: for a long answer of a large model some megabytes, which as JSON lists would be ten times
as much and would block the event loop while they are written. So an answer names its trace, `{"ref": "...", "shape":
[T, L, K], "dtype": "uint16"}`, and whoever wants it fetches `GET /routed_experts/REF` as an `.npy` file.

The store holds the bytes of the newest traces; older ones are forgotten (404) once the limit is reached.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import numpy as np

from s1pro.base.records import RoutingTrace


class RoutingStore:
    """See the module docstring.

    Args:
        max_bytes: of all traces together; a single larger one is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._traces: OrderedDict[str, RoutingTrace] = OrderedDict()

    def put(self, ref: str, trace: RoutingTrace) -> dict[str, Any]:
        """Keeps a trace; returns what an answer says about it."""
        self._traces[ref] = trace
        self.bytes += trace.experts_TLK.nbytes
        while self.bytes > self.max_bytes:
            _, oldest = self._traces.popitem(last=False)
            self.bytes -= oldest.experts_TLK.nbytes
        return {"ref": ref, "shape": list(trace.experts_TLK.shape), "dtype": "uint16"}

    def get(self, ref: str) -> RoutingTrace | None:
        return self._traces.get(ref)

    def drop(self, ref: str) -> bool:
        """Forgets a trace; whether there was one."""
        trace = self._traces.pop(ref, None)
        if trace is not None:
            self.bytes -= trace.experts_TLK.nbytes
        return trace is not None


def as_npy(trace: RoutingTrace) -> bytes:
    """The trace as the bytes of an `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(trace.experts_TLK), allow_pickle=False)
    return stream.getvalue()
