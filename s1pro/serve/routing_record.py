"""Which experts every token used, per cache slot beside its keys and values.

Whoever shares a block of the cache shares its record; a finished request reads the slots of its blocks. A sequence of
T tokens has T - 1 rows, because the last token was sampled but never fed. Beside the experts stands the token itself,
so that a trace says what it is about. Writing one row costs as much as writing many: a fiftieth of a small decoding
step. So the steps of a decoding batch wait and are written `BUNDLE` at a time, and before anybody reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s1pro.base.records import RoutingTrace
from s1pro.model.router import RouterOutput

BUNDLE = 32
"""Decoding steps that are written together."""


class RoutingRecord:
    """Of `num_slots` slots of a network with `num_layers` layers of experts."""

    def __init__(self, num_slots: int, num_layers: int, top_k: int, device: torch.device) -> None:
        self._experts = torch.empty(num_slots, num_layers, top_k, dtype=torch.int16, device=device)  # bits of uint16
        self._tokens = torch.empty(num_slots, dtype=torch.int32, device=device)
        self._waiting: list[tuple[Tensor, Tensor, list[Tensor]]] = []

    def write(self, slots_T: Tensor, ids_T: Tensor, routers: Sequence[RouterOutput]) -> None:
        """The tokens of a step, one router output per layer."""
        self.flush()
        self.write_later(slots_T, ids_T, routers)
        self.flush()

    def put(self, slots_T: Tensor, ids_T: Tensor, routers: Sequence[RouterOutput]) -> None:
        """The same where nothing waits, by operations on the device alone: a recorded step can do it."""
        assert not self._waiting, "flush before"
        self._put(slots_T, ids_T, torch.stack([router.topk_ids_TK for router in routers], dim=1))

    def write_later(self, slots_T: Tensor, ids_T: Tensor, routers: Sequence[RouterOutput]) -> None:
        """The same with the steps that follow. The caller flushes before a slot is written a second time."""
        self._waiting.append((slots_T, ids_T, [router.topk_ids_TK for router in routers]))
        if len(self._waiting) == BUNDLE:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if not self._waiting:
            return
        slots, ids, experts = zip(*self._waiting, strict=True)
        self._waiting = []
        slots_T = torch.cat(slots)
        experts_TLK = torch.stack([torch.cat(of_layer) for of_layer in zip(*experts, strict=True)], dim=1)
        self._put(slots_T, torch.cat(ids), experts_TLK)

    def _put(self, slots_T: Tensor, ids_T: Tensor, experts_TLK: Tensor) -> None:
        self._tokens.index_copy_(0, slots_T, ids_T.to(torch.int32))
        self._experts.index_copy_(0, slots_T, experts_TLK.to(torch.int16))

    def copy_blocks(self, source: Tensor, target: Tensor, block_size: int) -> None:
        self.flush()
        for record in (self._experts, self._tokens):
            blocks = record.unflatten(0, (-1, block_size))
            blocks[target] = blocks[source]

    def trace(self, slots_T: Tensor, policy_version: int) -> RoutingTrace:
        """Of a sequence that lies in these slots."""
        self.flush()
        experts_TLK = self._experts[slots_T].cpu().numpy().view(np.uint16)
        tokens_T = self._tokens[slots_T].cpu().numpy()
        return RoutingTrace(experts_TLK=experts_TLK, policy_version=policy_version, token_ids_T=tokens_T)
