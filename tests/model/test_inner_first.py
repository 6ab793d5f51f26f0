"""Weights with the inner size first: the same numbers, wherever they are read, written, saved and trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from s1pro.base.records import Sampling
from s1pro.checkpoint.released import load_network, save_network
from s1pro.kernels import compiled
from s1pro.kernels.attention import PackedContext
from s1pro.model import inner_first
from s1pro.model.decoding import DecodingStep
from s1pro.model.exact import use_exact_operators
from s1pro.model.inner_first import is_inner_first, lay_inner_first
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.engine import Engine
from s1pro.train.optim import Optimizer, OptimizerConfig

PROMPTS = [[5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9], [11] * 20, [400, 3]]
SAMPLING = Sampling(max_new_tokens=12, ignore_eos=True)


@pytest.fixture(autouse=True)
def rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_first, "prefers_weight_first", lambda: False)


def logits(network: Network) -> Tensor:
    ids = torch.arange(3, 12)
    return network(ids, torch.arange(9), PackedContext.from_lengths([9])).logits


def laid(seed: int = 0) -> Network:
    network = Network(tiny(), seed=seed).eval()
    lay_inner_first(network)
    return network


@torch.no_grad()
def test_the_same_parameters_in_another_order() -> None:
    network = Network(tiny()).eval()
    before, parameters = logits(network), dict(network.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    lay_inner_first(network)
    after = dict(network.named_parameters())
    assert list(after) == list(parameters) and all(after[name] is parameters[name] for name in after)
    assert all(torch.equal(after[name], values[name]) for name in after)
    torch.testing.assert_close(logits(network), before, atol=1e-5, rtol=1e-5)
    changed = {
        name.rsplit(".", 2)[-2 if name.endswith("weight") else -1] for name in after if is_inner_first(after[name])
    }
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate", "gate_up_proj", "down_proj", "lm_head"}
    attention = network.model.language_model.layers[0].self_attn
    assert attention.adjacent.weight is not None and is_inner_first(attention.adjacent.weight)


def test_an_engine_that_only_serves_gives_the_same_answers_by_the_short_steps() -> None:
    plain, serving = Engine(Network(tiny()).eval()), Engine(Network(tiny()).eval(), serves_only=True)
    with torch.no_grad():
        assert DecodingStep(serving.network).is_ready()
    for count in (1, len(PROMPTS)):
        pairs = zip(plain.generate(PROMPTS[:count], SAMPLING), serving.generate(PROMPTS[:count], SAMPLING), strict=True)
        for expected, mine in pairs:
            assert mine.token_ids == expected.token_ids
            assert mine.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


@torch.no_grad()
def test_new_weights_and_files(tmp_path: Path) -> None:
    other = Network(tiny(), seed=1).eval()
    network = laid()
    Engine(network, serves_only=True).update_weights(other.state_dict(), version=1)
    assert is_inner_first(network.lm_head.weight)
    torch.testing.assert_close(logits(network), logits(other), atol=1e-5, rtol=1e-5)
    save_network(network, tmp_path / "saved")
    loaded = load_network(tmp_path / "saved", dtype=torch.float32)
    for name, value in other.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    save_network(Network(tiny(), seed=2), tmp_path / "new")
    Engine(network, serves_only=True).update_weights(tmp_path / "new", version=2)
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), Network(tiny(), seed=2).parameters(), strict=True)
    )


def test_it_is_not_trained() -> None:
    """Fused AdamW would update the wrong numbers of queries, keys and values. Neither before nor after."""
    network = Network(tiny())
    optimizer = Optimizer(network, OptimizerConfig())
    lay_inner_first(network)
    for attempt in (lambda: optimizer.step(1.0), lambda: Optimizer(network, OptimizerConfig())):
        with pytest.raises(ValueError, match=r"q_proj.weight is laid out for an engine that only serves"):
            attempt()


def test_exact_mode_refuses_it() -> None:
    with pytest.raises(ValueError, match="load the network anew"):
        use_exact_operators(laid())
    with pytest.raises(ValueError, match="serves_only"):
        Engine(Network(tiny()).eval(), exact=True, serves_only=True)


def is_laid(network: Network) -> bool:
    return any(parameter.dim() > 1 and is_inner_first(parameter) for parameter in network.parameters())


def test_other_networks_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Network(tiny()).eval().to(torch.float64)
    lay_inner_first(double)
    assert not is_laid(double)
    monkeypatch.setattr(compiled, "is_available", lambda: False)
    half = Network(tiny()).eval().to(torch.bfloat16)
    lay_inner_first(half)
    monkeypatch.setattr(inner_first, "prefers_weight_first", lambda: True)
    assert not is_laid(half) and not is_laid(laid())


def test_compiled_kernels_want_it_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_first, "prefers_weight_first", lambda: True)
    half = Network(tiny()).eval().to(torch.bfloat16)
    lay_inner_first(half)
    assert is_laid(laid()) and is_laid(half)
    attention = half.model.language_model.layers[0].self_attn
    assert attention.adjacent.weight is not None and is_inner_first(attention.adjacent.weight)
