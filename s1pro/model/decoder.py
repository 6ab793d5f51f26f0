"""The text decoder over packed tokens `[T, D]`: sequences lie one after another, nothing is padded.

One block is `h += attention(norm(h)); h += feed_forward(norm(h))`. Attention is causal with grouped key/value heads;
queries and keys are normalised per head before the rotary turn. Where keys and values live, and which tokens see which,
is the business of the `AttentionContext` (packed for training, paged for generation).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s1pro.kernels.attention import AttentionContext, attention
from s1pro.kernels.norm import unit_rms
from s1pro.model.adjacent import Adjacent
from s1pro.model.config import TextConfig
from s1pro.model.layers import Embedding, Linear, RMSNorm
from s1pro.model.moe import DenseMLP, MoE
from s1pro.model.rope import RopeTable, RotaryEmbedding, apply_rotary, turn
from s1pro.model.router import RouterOutput


class Attention(nn.Module):
    """Causal grouped-query attention with q/k RMSNorm.

    A decoding step spends more on calling operations than on their arithmetic. Without gradients queries, keys and
    values are therefore one product where their weights lie together in memory (`model.adjacent`), and queries and keys
    are normalised and turned in one tensor.
    """

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.heads = (config.num_attention_heads, config.num_key_value_heads)
        hidden, bias = config.hidden_size, config.attention_bias
        q_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(hidden, q_width, bias=bias)
        self.k_proj = Linear(hidden, kv_width, bias=bias)
        self.v_proj = Linear(hidden, kv_width, bias=bias)
        self.o_proj = Linear(q_width, hidden, bias=bias)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.exact = False
        self.adjacent = Adjacent((self.q_proj, self.k_proj, self.v_proj))

    def forward(self, x_TD: Tensor, table: RopeTable, context: AttentionContext) -> Tensor:
        tokens = x_TD.shape[0]
        together = None if self.exact or torch.is_grad_enabled() else self.adjacent.product(x_TD)
        if together is None:
            q_THC = self.q_norm(self.q_proj(x_TD).view(tokens, -1, self.head_dim))
            k_TJC = self.k_norm(self.k_proj(x_TD).view(tokens, -1, self.head_dim))
            v_TJC = self.v_proj(x_TD).view(tokens, -1, self.head_dim)
            q_THC, k_TJC = apply_rotary(q_THC, table), apply_rotary(k_TJC, table)
        else:
            q_THC, k_TJC, v_TJC = self._normalised_and_turned(together.view(tokens, -1, self.head_dim), table)
        o_THC = attention(q_THC, k_TJC, v_TJC, context, layer=self.layer, scale=self.head_dim**-0.5, exact=self.exact)
        return self.o_proj(o_THC.reshape(tokens, -1))

    def _normalised_and_turned(self, qkv_TNC: Tensor, table: RopeTable) -> tuple[Tensor, Tensor, Tensor]:
        heads, kv_heads = self.heads
        qk_TNC, v_TJC = qkv_TNC.split((heads + kv_heads, kv_heads), dim=1)
        qk_TNC = unit_rms(qk_TNC, self.q_norm.eps)
        q_THC, k_TJC = qk_TNC.split(self.heads, dim=1)
        q_THC.mul_(self.q_norm.weight)
        k_TJC.mul_(self.k_norm.weight)
        turned_TNC = turn(qk_TNC, *table.side_by_side(heads, kv_heads))
        return *turned_TNC.split(self.heads, dim=1), v_TJC


class DecoderLayer(nn.Module):
    """One block. `mlp` is a mixture or, where the configuration says so, a dense SwiGLU."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: MoE | DenseMLP = MoE(config) if config.is_moe_layer(layer) else DenseMLP(config)

    def forward(
        self, h_TD: Tensor, table: RopeTable, context: AttentionContext, replay_ids_TK: Tensor | None
    ) -> tuple[Tensor, RouterOutput | None]:
        h_TD = h_TD + self.self_attn(self.input_layernorm(h_TD), table, context)
        x_TD = self.post_attention_layernorm(h_TD)
        if isinstance(self.mlp, MoE):
            y_TD, router = self.mlp(x_TD, replay_ids_TK)
            return h_TD + y_TD, router
        return h_TD + self.mlp(x_TD), None


class Decoder(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config.rope, config.head_dim, config.num_key_value_heads)

    def forward(
        self,
        inputs_embeds_TD: Tensor,
        position_ids_T: Tensor,
        context: AttentionContext,
        routed_experts_LTK: Tensor | None = None,
    ) -> tuple[Tensor, tuple[RouterOutput, ...]]:
        """Returns the normalised hidden states `[T, D]` and one router output per MoE layer."""
        table = self.rotary_emb(position_ids_T)
        h_TD = inputs_embeds_TD
        routers: list[RouterOutput] = []
        for layer in self.layers:
            replay = None
            if routed_experts_LTK is not None and isinstance(layer.mlp, MoE):
                replay = routed_experts_LTK[len(routers)]
            h_TD, router = layer(h_TD, table, context, replay)
            if router is not None:
                routers.append(router)
        return self.norm(h_TD), tuple(routers)
