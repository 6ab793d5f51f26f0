"""The peer of all comparisons: a Qwen3-MoE of transformers with the sizes of a preset and random weights."""

from __future__ import annotations

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from s1pro.model.config import ModelConfig


def build_peer(config: ModelConfig, implementation: str, seed: int = 0) -> Qwen3MoeForCausalLM:
    """Same sizes and parameters; plain top-k and plain rotary positions, as transformers has them.

    Args:
        implementation: its expert implementation: "eager", "grouped_mm" or "batched_mm".
    """
    text = config.text
    peer = Qwen3MoeConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        num_hidden_layers=text.num_hidden_layers,
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        moe_intermediate_size=text.moe_intermediate_size,
        intermediate_size=text.moe_intermediate_size,
        num_experts=text.router.num_experts,
        num_experts_per_tok=text.router.top_k,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        max_position_embeddings=text.rope.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": text.rope.theta},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = Qwen3MoeForCausalLM(peer)
    model.set_experts_implementation(implementation)
    return model
