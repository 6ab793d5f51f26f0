"""A decoding step in few calls: the decoder for one new token of each of B sequences, float32 on a CPU.

At batch 1 a step reads each weight once and does two operations per number, so a small network spends most of the step
on *calling* operations: on methods of modules, on views, on looking up attributes. `model.decoder` is written for
packed batches of any kind, with gradients, replay, towers and ranks. This module walks the same layers for the one case
that serving repeats all day, with the same operations in the same order:

1. all tensors are looked up once (`model.decoding_weights`);
2. whenever a batch is put together `is_ready` asks whether they still lie where they lay, and whether somebody wants
   more than this module does (hooks, experts in FP8 or on other ranks, autocast): then the caller takes the network;
3. rotary tables are made for many positions at a time and kept until `is_ready` finds other coefficients. The scale of
   attention is in those of the queries, hence results are equal up to rounding only.

Where weights lie with the inner size first and numba is there, the whole step is compiled (`model.decoding_compiled`).
In exact mode (`model.exact`) products, attention and experts are the exact ones, and attention applies its scale
itself: then the results have the bits of the network.

Dense layers are called as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding

from s1pro.kernels import experts_exact
from s1pro.kernels.attention import PagedContext, attention_step
from s1pro.kernels.experts import experts_forward
from s1pro.kernels.experts_few import one_float32_token
from s1pro.kernels.norm import UnitRMS
from s1pro.kernels.processor import prefers_weight_first
from s1pro.model.decoding_compiled import CompiledStep
from s1pro.model.decoding_weights import DecodingWeights, ExpertWeights, LayerWeights
from s1pro.model.network import Network, NetworkOutput
from s1pro.model.rope import RotaryEmbedding, turn
from s1pro.model.router import RouterOutput, Selection

TABLE_BYTES = 32 * 2**20
"""Most memory for rotary tables of positions; further ones are computed when they are needed."""

FEWEST_POSITIONS = 512
"""Of the first table; longer ones are made twice as long as needed."""

Turns = tuple[Tensor, Tensor]
"""Cosines and sines of queries and keys, both `[B, H + J, C]`."""


class DecodingStep:
    """See the module docstring. One thread at a time."""

    def __init__(self, network: Network) -> None:
        text = network.config.text
        self._network = network
        self._weights: DecodingWeights | None = None
        self._compiled: CompiledStep | None = None
        self._tried_to_compile = False
        self._exact = False
        self._heads = text.num_attention_heads, text.num_key_value_heads
        self._head_dim = text.head_dim
        self._norm = UnitRMS(text.hidden_size, text.rms_norm_eps)
        self._head_norm = UnitRMS(text.head_dim, text.rms_norm_eps)
        self._select = Selection(text.router)
        self._tables = _Tables(network.model.language_model.rotary_emb, self._heads, text.head_dim)

    def is_ready(self) -> bool:
        """Whether the next step can be computed here."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        moved = self._weights is None or not self._weights.are_in_place()
        if moved:
            self._weights, self._exact = DecodingWeights.of(self._network), self._network.exact
            self._compiled, self._tried_to_compile = None, False
        if moved or not self._tables.are_current():
            self._tables.scale = 1.0 if self._exact else self._head_dim**-0.5
            self._tables.forget()
        if self._weights is None or not self._weights.are_all():
            return False
        if not self._tried_to_compile:
            self._compiled, self._tried_to_compile = CompiledStep.of(self._weights, self._network.config.text), True
        if self._compiled is not None:
            self._compiled.take_vectors()
        return self._compiled is not None or self._weights.embedding_VD.dtype is torch.float32

    def forget(self) -> None:
        """Drops what was computed from weights; whoever replaces them calls it."""
        self._tables.forget()

    def __call__(self, ids_B: Tensor, positions_B: Tensor, context: PagedContext) -> NetworkOutput:
        """As the network would, if `is_ready`.

        Args:
            ids_B: the new token of each sequence.
            positions_B: their positions.
            context: of these tokens.
        """
        weights = self._weights
        assert weights is not None, "ask is_ready first"
        if self._compiled is not None:
            return self._compiled(ids_B, self._tables(positions_B, context.context_lens), context)
        batch = len(ids_B)
        if batch == 1 < weights.rows_of_one:
            ids_B = ids_B.expand(weights.rows_of_one)
        turns = self._tables(positions_B, context.context_lens)
        h_BD = embedding(ids_B, weights.embedding_VD)
        routers: list[RouterOutput] = []
        for number, layer in enumerate(weights.layers):
            x_BD = self._norm(h_BD).mul_(layer.norm_D)
            h_BD += self._attention(x_BD, layer, turns, context, number)
            x_BD = self._norm(h_BD).mul_(layer.post_norm_D)
            if isinstance(layer.feed_forward, ExpertWeights):
                router = self._select(layer.feed_forward.gate(x_BD)[:batch])
                routers.append(router)
                h_BD += _experts(x_BD, router, layer.feed_forward, self._exact)
            else:
                h_BD += layer.feed_forward(x_BD)
        hidden_BD = self._norm(h_BD).mul_(weights.norm_D)
        return NetworkOutput(hidden_BD[:batch], weights.head(hidden_BD)[:batch], tuple(routers))

    def _attention(self, x_BD: Tensor, layer: LayerWeights, turns: Turns, context: PagedContext, number: int) -> Tensor:
        (heads, kv_heads), rows, channels = self._heads, x_BD.shape[0], self._head_dim
        batch = len(context.context_lens)
        qkv_BNC = layer.qkv(x_BD).view(rows, -1, channels)
        if rows != batch:
            qkv_BNC = qkv_BNC[:batch]
        qk_BNC = qkv_BNC.narrow(1, 0, heads + kv_heads)
        unit_BNC = self._head_norm(qk_BNC)
        unit_BNC.narrow(1, 0, heads).mul_(layer.q_norm_C)
        unit_BNC.narrow(1, heads, kv_heads).mul_(layer.k_norm_C)
        turn(unit_BNC, *turns, out=qk_BNC)
        q_BHC, kv_BNC = qkv_BNC.narrow(1, 0, heads), qkv_BNC.narrow(1, heads, 2 * kv_heads)
        kv_B2JC = kv_BNC.view(batch, 2, kv_heads, channels)
        scale = channels**-0.5 if self._exact else 1.0
        o_BHC = attention_step(q_BHC, kv_B2JC, context, layer=number, scale=scale, exact=self._exact)
        o_BN = o_BHC.view(batch, -1)
        return layer.o(o_BN if rows == batch else o_BN.repeat(rows, 1))


def _experts(x_BD: Tensor, router: RouterOutput, weights: ExpertWeights, exact: bool) -> Tensor:
    ids_BK, weights_BK, _ = router
    if exact:
        return experts_exact.forward_few(x_BD, ids_BK, weights_BK, weights.gate_ups, weights.downs)
    if x_BD.shape[0] == 1 and not prefers_weight_first():
        return one_float32_token(x_BD, ids_BK[0].tolist(), weights_BK[0], weights.gate_ups, weights.downs)
    return experts_forward(x_BD, ids_BK, weights_BK, weights.gate_up_EFD, weights.down_EDF)


class _Tables:
    """Rotary tables of all positions up to the furthest one asked for, if they need at most `TABLE_BYTES`; those of
    queries contain `scale`.

    Tables hold for the coefficients that they were made of, of which a copy is kept: a few thousand numbers, compared
    whenever a batch is put together.
    """

    def __init__(self, rotary: RotaryEmbedding, heads: tuple[int, int], head_dim: int) -> None:
        self._rotary, self._heads = rotary, heads
        self._most = TABLE_BYTES // (8 * sum(heads) * head_dim)
        self.scale = head_dim**-0.5
        self.forget()

    def forget(self) -> None:
        self._size = 0
        self._made_of = tuple(coef.clone() for coef in self._rotary.coefficients())

    def are_current(self) -> bool:
        """Whether the coefficients are still those that tables are made of.

        The version of a tensor does not tell: fused AdamW leaves it as it is, and so does writing to `.data`.
        """
        return all(map(torch.equal, self._made_of, self._rotary.coefficients()))

    def __call__(self, positions_B: Tensor, context_lens: tuple[int, ...]) -> Turns:
        longest = max(context_lens)
        if longest > self._most:
            return self._make(positions_B)
        if longest > self._size:
            self._size = min(max(2 * longest, FEWEST_POSITIONS), self._most)
            self._cos_SNC, self._sin_SNC = self._make(torch.arange(self._size))
        if len(context_lens) == 1:
            last = longest - 1
            return self._cos_SNC.narrow(0, last, 1), self._sin_SNC.narrow(0, last, 1)
        return self._cos_SNC.index_select(0, positions_B), self._sin_SNC.index_select(0, positions_B)

    def _make(self, positions_T: Tensor) -> Turns:
        heads, kv_heads = self._heads
        cos_TNC, sin_TNC = self._rotary(positions_T).side_by_side(heads, kv_heads)
        if self.scale != 1:
            for kind_TNC in (cos_TNC, sin_TNC):
                kind_TNC.narrow(1, 0, heads).mul_(self.scale)
        return cos_TNC, sin_TNC
