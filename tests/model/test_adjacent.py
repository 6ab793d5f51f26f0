"""Weights side by side: the same numbers, and nobody can tell except by addresses."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from s1pro.kernels.attention import PackedContext
from s1pro.model.adjacent import lay_together
from s1pro.model.network import Network
from s1pro.model.presets import tiny


def logits(network: Network) -> torch.Tensor:
    ids = torch.arange(3, 12)
    with torch.no_grad():
        return network(ids, torch.arange(9), PackedContext.from_lengths([9])).logits


@pytest.fixture
def network() -> Network:
    network = Network(tiny()).eval()
    g = torch.Generator().manual_seed(3)
    for layer in network.model.language_model.layers:  # norms that tell queries from keys
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5, generator=g)
    return network


def attention_of(network: Network):
    return network.model.language_model.layers[0].self_attn


def is_one_product(network: Network) -> bool:
    size = network.config.text.hidden_size
    return attention_of(network).adjacent.product(torch.zeros(1, size)) is not None


def test_the_same_numbers_and_parameters(network: Network) -> None:
    before, parameters = logits(network), dict(network.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    assert not is_one_product(network)
    lay_together(network)
    assert is_one_product(network)
    torch.testing.assert_close(logits(network), before, atol=1e-5, rtol=1e-5)
    after = dict(network.named_parameters())
    assert list(after) == list(parameters) and all(after[name] is parameters[name] for name in after)
    assert all(torch.equal(after[name], values[name]) for name in after)


def test_plain_rotary_positions_too(network: Network) -> None:
    config = network.config
    rope = replace(config.text.rope, fope=False)
    plain = Network(replace(config, text=replace(config.text, rope=rope))).eval()
    before = logits(plain)
    lay_together(plain)
    torch.testing.assert_close(logits(plain), before, atol=1e-5, rtol=1e-5)


def test_changes_in_place_are_seen(network: Network) -> None:
    lay_together(network)
    q_proj, k_proj = attention_of(network).q_proj, attention_of(network).k_proj
    with torch.no_grad():
        q_proj.weight.mul_(1.5)
    k_proj.weight.data.copy_(k_proj.weight.data.flip(0))
    state = network.state_dict()
    assert is_one_product(network)
    fresh = Network(network.config).eval()
    fresh.load_state_dict(state)
    torch.testing.assert_close(logits(network), logits(fresh), atol=1e-5, rtol=1e-5)
    lay_together(fresh)
    fresh.load_state_dict(Network(network.config, seed=7).state_dict())
    torch.testing.assert_close(logits(fresh), logits(Network(network.config, seed=7).eval()), atol=1e-5, rtol=1e-5)


def test_new_memory_undoes_it(network: Network) -> None:
    before = logits(network)
    lay_together(network)
    attention_of(network).v_proj.weight.data = attention_of(network).v_proj.weight.data.clone()
    assert not is_one_product(network)
    assert torch.equal(logits(network), before) or torch.allclose(logits(network), before, atol=1e-5)
    lay_together(network)
    assert is_one_product(network)
    assert not is_one_product(network.to(torch.float64).to(torch.float32))


def test_copies_do_not_share(network: Network) -> None:
    lay_together(network)
    before = logits(network)
    twin = copy.deepcopy(network)
    assert not is_one_product(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    lay_together(twin)
    assert torch.equal(logits(network), before)
    assert not torch.allclose(logits(twin), before)


def test_gradients_are_those_of_single_layers(network: Network) -> None:
    twin = copy.deepcopy(network)
    lay_together(network)
    ids, context = torch.arange(3, 12), PackedContext.from_lengths([9])
    for model in (network, twin):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model(ids, torch.arange(9), context).logits.logsumexp(-1).sum().backward()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert is_one_product(network)
