"""A decoding step in three compiled calls per layer: `model.decoding` without the library.

For weights with the inner size first (`model.inner_first`), sizes that fill the registers, and numba installed (extra
`cpu`). It computes in one thread, but for the experts of many rows: threads that wait for each other at every operation
cost more than they gain where little is read. With several threads and more to read than `ONE_THREAD_BYTES` it is the
library's turn, which uses them all. Nothing is looked up, allocated by torch or dispatched between the calls; queries
and keys are normalised, turned, written to the cache and used while they are still in the processor's cache.

Weights and cache may be bfloat16, half the memory to read. Everything between them is float32 then, so a step is closer
to the float32 network of these weights than the network in bfloat16 is, which rounds after every operation. Norms are
copied as float32 (`take_vectors`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from s1pro.kernels import compiled, experts_compiled
from s1pro.kernels.attention import PagedContext
from s1pro.kernels.experts_compiled import inner_first
from s1pro.kernels.norm import UnitRMS
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.config import TextConfig
from s1pro.model.decoding_weights import DecodingWeights, ExpertWeights, LayerWeights
from s1pro.model.moe import DenseMLP
from s1pro.model.network import NetworkOutput
from s1pro.model.router import NO_CHANGE, RouterOutput

ONE_THREAD_BYTES = 64 * 2**20
"""Of weights that one token reads: about 4 ms."""


class CompiledStep:
    """Called by `DecodingStep`, which knows when it applies."""

    def __init__(self, weights: DecodingWeights, text: TextConfig) -> None:
        from s1pro.kernels.compiled import step
        from s1pro.kernels.compiled.tiles import ADDRESSES

        self._tiles, self._blocks, self._weights = ADDRESSES, step, weights
        self._layers = [_Layer(layer) for layer in weights.layers]
        self._head = inner_first(weights.head_VD)
        self._eps = np.float32(text.rms_norm_eps)
        self._norm = UnitRMS(text.hidden_size, text.rms_norm_eps)
        router = text.router
        counts = router.renorm_eps * router.num_experts > NO_CHANGE
        self._router = router.num_groups, router.norm_topk_prob, np.float32(router.renorm_eps if counts else 0)
        self._top_k = router.top_k
        self.take_vectors()
        self._compile(text)

    @classmethod
    def of(cls, weights: DecodingWeights, text: TextConfig) -> CompiledStep | None:
        """None where the library has to do it. `weights` must be all that the network computes with: a kernel does not
        ask whether the experts that the router chooses are there."""
        if not compiled.is_available():
            return None
        mixtures = [layer.feed_forward for layer in weights.layers if isinstance(layer.feed_forward, ExpertWeights)]
        if any(len(mixture.gate_ED) != len(mixture.down_EDF) for mixture in mixtures):
            return None
        matrices = [weights.head_VD, *(matrix for layer in weights.layers for matrix in _matrices(layer))]
        read = sum(m.nbytes * text.router.top_k // len(m) if m.dim() == 3 else m.nbytes for m in matrices)
        if torch.get_num_threads() > 1 and read > ONE_THREAD_BYTES:
            return None
        sizes = text.hidden_size, text.head_dim, text.moe_intermediate_size
        if not all(matrix.mT.is_contiguous() for matrix in matrices) or not compiled.fills_vectors(*sizes):
            return None
        return cls(weights, text)

    def take_vectors(self) -> None:
        """Looks up the weights of norms, which are copies if they are not float32."""
        for layer in self._layers:
            layer.take_vectors()
        self._last_norm = self._weights.norm_D.float()

    def __call__(self, ids_B: Tensor, turns: tuple[Tensor, Tensor], context: PagedContext) -> NetworkOutput:
        """Cosines and sines of queries contain the scale of attention."""
        h_BD = embedding(ids_B, self._weights.embedding_VD).float()
        h, x = h_BD.numpy(), np.empty(h_BD.shape, np.float32)
        cos_sin = tuple(table.numpy() for table in turns)
        where = context.slot_mapping_T.numpy(), context.block_table_BM.numpy(), np.array(context.context_lens)
        routers: list[RouterOutput] = []
        for layer, slots in zip(self._layers, context.cache.slots, strict=True):
            cache = compiled.memory(slots), *where, context.cache.block_size
            norm, qkv, q_norm, k_norm, o = layer.attention
            self._blocks.attention_block(self._tiles, h, norm, qkv, q_norm, k_norm, *cos_sin, o, self._eps, *cache)
            if layer.dense is None:
                routers.append(self._experts(h, x, layer))
            else:
                h_BD += layer.dense(self._norm(h_BD).mul_(layer.post_norm).to(layer.dtype))
        hidden_BD, logits_BV = torch.empty_like(h_BD), torch.empty(len(ids_B), self._head.shape[1])
        last_norm, arrays = self._last_norm.numpy(), (hidden_BD.numpy(), logits_BV.numpy())
        self._blocks.head_block(self._tiles, h, last_norm, self._head, self._eps, *arrays)
        return NetworkOutput(hidden_BD, logits_BV, tuple(routers))

    def _compile(self, text: TextConfig) -> None:
        """One step of nothing: numba compiles what is called for the first time, or finds it on the disk."""
        sizes = text.num_hidden_layers, 1, 1, text.num_key_value_heads, text.head_dim
        cache = PagedKVCache(*sizes, dtype=self._weights.embedding_VD.dtype)
        zero, heads = torch.zeros(1, dtype=torch.int64), text.num_attention_heads + text.num_key_value_heads
        context = PagedContext(cache, (0, 1), zero[None], (1,), zero)
        self(zero, (torch.zeros(1, heads, text.head_dim),) * 2, context)

    def _experts(self, h: Any, x: Any, layer: _Layer) -> RouterOutput:
        ids_BK = torch.empty(len(h), self._top_k, dtype=torch.int64)
        weights_BK, logits_BE = torch.empty(len(h), self._top_k), torch.empty(len(h), layer.gate.shape[1])
        ids, weights, logits = (tensor.numpy() for tensor in (ids_BK, weights_BK, logits_BE))
        norm = layer.post_norm.numpy()
        self._blocks.router_block(self._tiles, h, norm, layer.gate, self._eps, *self._router, x, logits, ids, weights)
        experts_compiled.add(x, ids, weights, *layer.experts, h)
        return RouterOutput(ids_BK, weights_BK, logits_BE)


class _Layer:
    """The weights of one layer as the compiled calls take them.

    Attributes:
        attention: norm, queries with keys and values, norms of both, output.
        gate, experts: of a mixture.
        dense: the feed-forward module of a layer without one.
    """

    def __init__(self, weights: LayerWeights) -> None:
        self._weights = weights
        self.dtype = weights.qkv_ND.dtype
        feed_forward = weights.feed_forward
        self.dense: DenseMLP | None = None
        if isinstance(feed_forward, DenseMLP):
            self.dense = feed_forward
        else:
            self.gate = inner_first(feed_forward.gate_ED)
            self.experts = inner_first(feed_forward.gate_up_EFD), inner_first(feed_forward.down_EDF)
        self._qkv, self._o = inner_first(weights.qkv_ND), inner_first(weights.o_ND)

    def take_vectors(self) -> None:
        own = self._weights
        self.post_norm = own.post_norm_D.float()
        self._norms = [norm.float() for norm in (own.norm_D, own.q_norm_C, own.k_norm_C)]
        norm, q_norm, k_norm = (norm.numpy() for norm in self._norms)
        self.attention = norm, self._qkv, q_norm, k_norm, self._o


def _matrices(layer: LayerWeights) -> list[Tensor]:
    expert = layer.feed_forward
    experts = [expert.gate_ED, expert.gate_up_EFD, expert.down_EDF] if isinstance(expert, ExpertWeights) else []
    return [layer.qkv_ND, layer.o_ND, *experts]
