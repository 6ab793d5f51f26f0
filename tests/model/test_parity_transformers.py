"""The text network against an independent implementation: `Qwen3MoeForCausalLM` of transformers.

Without FoPE and with one group our decoder is a Qwen3 mixture of experts. The weights travel as transformers stores
them (`save_pretrained`, one tensor per expert, `model.layers…`) through our checkpoint reader.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from s1pro.checkpoint.config_file import config_json
from s1pro.checkpoint.released import load_network
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig
from s1pro.model.network import Network

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dense first layer": {"mlp_only_layers": [0], "intermediate_size": 48},
    "every second layer dense": {"decoder_sparse_step": 2, "intermediate_size": 40},
    "no renormalisation": {"norm_topk_prob": False},
    "attention bias, no shared heads": {"attention_bias": True, "num_key_value_heads": 4},
    "long positions": {"rope_theta": 1_000_000.0, "rms_norm_eps": 1e-5},
    "one expert": {"num_experts_per_tok": 1, "norm_topk_prob": False},
    "all experts": {"num_experts_per_tok": 8},
}
BASE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "moe_intermediate_size": 24,
    "intermediate_size": 48,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "norm_topk_prob": True,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
}


def reference(settings: dict[str, Any]) -> Qwen3MoeForCausalLM:
    """Weights of a size at which every part matters: logits and router logits have a spread of about one."""
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": settings["rope_theta"]}}
    config = Qwen3MoeConfig(**{**settings, **theta}, tie_word_embeddings=False, attn_implementation="eager")
    model = Qwen3MoeForCausalLM(config)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif name.endswith("embed_tokens.weight"):
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5 * (2.0 if "mlp.gate." in name else 1.0))
    return model


def our_config(settings: dict[str, Any]) -> ModelConfig:
    settings = dict(settings)
    router = RouterConfig(
        num_experts=settings.pop("num_experts"),
        top_k=settings.pop("num_experts_per_tok"),
        norm_topk_prob=settings.pop("norm_topk_prob"),
    )
    rope = RopeConfig(
        theta=settings.pop("rope_theta"), max_position_embeddings=settings.pop("max_position_embeddings"), fope=False
    )
    layers = tuple(settings.pop("mlp_only_layers"))
    return ModelConfig(text=TextConfig(router=router, rope=rope, mlp_only_layers=layers, **settings))


@pytest.fixture(params=SETTINGS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Qwen3MoeForCausalLM, Network]:
    settings = {**BASE, **SETTINGS[request.param]}
    theirs = reference(settings)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_json(our_config(settings))))
    return theirs, load_network(tmp_path)


def test_logits_routing_and_gradients(pair: tuple[Qwen3MoeForCausalLM, Network]) -> None:
    theirs, ours = pair
    ids_BS = torch.randint(0, 96, (2, 33), generator=torch.Generator().manual_seed(2))
    expected = theirs(ids_BS, output_router_logits=True)
    positions_T = torch.arange(33).repeat(2)
    found = ours(ids_BS.flatten(), positions_T, PackedContext.from_lengths([33, 33]))
    assert 0.3 < float(expected.logits.detach().std()) < 3.0
    torch.testing.assert_close(found.logits, expected.logits.flatten(0, 1), atol=1e-5, rtol=1e-5)
    assert len(found.routers) == len(expected.router_logits) == len(ours.config.text.moe_layers)
    for router, router_logits in zip(found.routers, expected.router_logits, strict=True):
        torch.testing.assert_close(router.logits_TE, router_logits, atol=1e-5, rtol=1e-5)

    targets_T = ids_BS.roll(-1, dims=1).flatten()
    torch.nn.functional.cross_entropy(found.logits, targets_T).backward()
    torch.nn.functional.cross_entropy(expected.logits.flatten(0, 1), targets_T).backward()
    gradients = {name.replace(".language_model.", "."): p.grad for name, p in ours.named_parameters()}
    their_gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        assert gradient is not None and float(gradient.norm()) > 0, name
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4 * scale, rtol=1e-4, msg=name)
