"""A network in exact mode: the same bits in any packing, any chunks of a prompt, any batch and any cache layout."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from s1pro.kernels import compiled
from s1pro.kernels.attention import PackedContext, PagedContext
from s1pro.kernels.cross_entropy import linear_cross_entropy
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.presets import tiny
from s1pro.parallel.dispatch import AllGatherDispatch

LENGTHS = (1, 90, 17, 140, 64)
BLOCKS = 260


def build(dtype: torch.dtype = torch.float32, *, exact: bool = True, fope: bool = True) -> Network:
    config = tiny()
    config = replace(config, text=replace(config.text, rope=replace(config.text.rope, fope=fope)))
    network = Network(config, seed=1).eval().to(dtype)
    with torch.no_grad():
        for layer in network.model.language_model.layers:
            layer.mlp.gate.weight.mul_(20)
    use_exact_operators(network, exact)
    return network


def sequences(network: Network) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randint(1, network.config.text.vocab_size, (length,), generator=g) for length in LENGTHS]


def packed(network: Network, ids: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Logits and routing `[S, L, K]` of every sequence, computed together."""
    lengths = [len(x) for x in ids]
    positions = torch.cat([torch.arange(n) for n in lengths])
    output = network(torch.cat(ids), positions, PackedContext.from_lengths(lengths))
    return list(zip(output.logits.split(lengths), output.routing_LTK.transpose(0, 1).split(lengths), strict=True))


def fed_in_random_steps(network: Network, ids: list[Tensor], seed: int) -> list[tuple[Tensor, Tensor]]:
    """The same through a cache with scattered blocks: every step takes some sequences and some of their tokens."""
    rng, text = random.Random(seed), network.config.text
    size = rng.choice([1, 3, 16])
    cache = PagedKVCache(
        text.num_hidden_layers, BLOCKS * 2, size, text.num_key_value_heads, text.head_dim,
        dtype=network.lm_head.weight.dtype,
    )  # fmt: skip
    for slots in (*cache.key, *cache.value):
        slots.normal_(generator=torch.Generator().manual_seed(seed))  # left behind by others
    free = rng.sample(range(BLOCKS * 2), BLOCKS * 2)
    tables = [[free.pop() for _ in range(-(-len(x) // size))] for x in ids]
    done, results = [0] * len(ids), [([], []) for _ in ids]
    while any(d < len(x) for d, x in zip(done, ids, strict=True)):
        single = rng.random() < 0.5
        ready = [b for b in range(len(ids)) if done[b] < len(ids[b])]
        chosen = rng.sample(ready, rng.randint(1, len(ready)))
        new = [1 if single else rng.randint(1, len(ids[b]) - done[b]) for b in chosen]
        positions = [torch.arange(done[b], done[b] + n) for b, n in zip(chosen, new, strict=True)]
        slots = [torch.tensor(tables[b])[p // size] * size + p % size for b, p in zip(chosen, positions, strict=True)]
        width = max(len(tables[b]) for b in chosen)
        context = PagedContext(
            cache=cache,
            cu_seqlens_q=PackedContext.from_lengths(new).cu_seqlens,
            block_table_BM=torch.tensor([tables[b] + [0] * (width - len(tables[b])) for b in chosen]),
            context_lens=tuple(done[b] + n for b, n in zip(chosen, new, strict=True)),
            slot_mapping_T=torch.cat(slots),
        )
        fed = torch.cat([ids[b][p] for b, p in zip(chosen, positions, strict=True)])
        output = network(fed, torch.cat(positions), context)
        parts = zip(output.logits.split(new), output.routing_LTK.transpose(0, 1).split(new), strict=True)
        for b, n, (logits, routing) in zip(chosen, new, parts, strict=True):
            results[b][0].append(logits)
            results[b][1].append(routing)
            done[b] += n
    return [(torch.cat(logits), torch.cat(routing)) for logits, routing in results]


def differences(got: list[tuple[Tensor, Tensor]], want: list[tuple[Tensor, Tensor]]) -> int:
    pairs = zip(got, want, strict=True)
    return sum(not (torch.equal(a, c) and torch.equal(b, d)) for (a, b), (c, d) in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_any_packing(dtype: torch.dtype) -> None:
    network = build(dtype)
    ids = sequences(network)
    together = packed(network, ids)
    assert differences([packed(network, [x])[0] for x in ids], together) == 0
    for seed in range(4):
        order = random.Random(seed).sample(range(len(ids)), len(ids))
        mixed = packed(network, [ids[b] for b in order])
        assert differences(mixed, [together[b] for b in order]) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_experts_in_fp8(dtype: torch.dtype) -> None:
    network = build(dtype)
    plain = packed(network, sequences(network))
    use_fp8_experts(network, keep_layers=[0])
    ids = sequences(network)
    together = packed(network, ids)
    assert differences(together, plain) > 0
    assert differences([packed(network, [x])[0] for x in ids], together) == 0
    assert differences(fed_in_random_steps(network, ids, 3), together) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(6))
@torch.inference_mode()
def test_any_steps(dtype: torch.dtype, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr(compiled, "is_available", lambda: False)
    network = build(dtype, fope=seed % 2 == 0)
    ids = sequences(network)
    assert differences(fed_in_random_steps(network, ids, seed), packed(network, ids)) == 0


@pytest.mark.slow
@torch.inference_mode()
def test_two_threads() -> None:
    torch.set_num_threads(2)
    network = build()
    ids = sequences(network)
    assert differences(fed_in_random_steps(network, ids, 7), packed(network, ids)) == 0


@torch.inference_mode()
def test_the_usual_mode_differs_in_bits_only() -> None:
    network = build(exact=False)
    ids = sequences(network)
    usual, steps = packed(network, ids), fed_in_random_steps(network, ids, 0)
    assert differences(steps, usual) > 0
    use_exact_operators(network)
    for (exact, routing), (close, other) in zip(packed(network, ids), usual, strict=True):
        torch.testing.assert_close(exact, close, atol=1e-4, rtol=1e-4)
        assert torch.equal(routing, other)
    use_exact_operators(network, False)
    assert differences(packed(network, ids), usual) == 0


def test_gradients_are_those_of_the_usual_mode() -> None:
    gradients = []
    for exact in (True, False):
        network = build(exact=exact)
        ids = sequences(network)
        lengths = [len(x) for x in ids]
        positions = torch.cat([torch.arange(n) for n in lengths])
        hidden = network(torch.cat(ids), positions, PackedContext.from_lengths(lengths), compute_logits=False).hidden_TD
        targets = torch.cat(ids).roll(-1)
        weights = torch.ones(len(targets)) / len(targets)
        loss, _ = linear_cross_entropy(hidden, network.lm_head.weight, targets, weights, exact=network.exact)
        loss.backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, ours in gradients[0].items():
        torch.testing.assert_close(ours, gradients[1][name], atol=1e-6, rtol=1e-3, msg=name)


def test_training_and_inference_give_the_same_bits() -> None:
    network = build()
    ids = sequences(network)
    with torch.inference_mode():
        without = packed(network, ids)
    with_gradient = packed(network.train(), ids)
    assert with_gradient[0][0].requires_grad
    assert differences(with_gradient, without) == 0


def test_what_cannot_be_exact_says_so() -> None:
    network = build(exact=False)
    network.model.language_model.layers[0].mlp.dispatch = AllGatherDispatch(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="AllGatherDispatch adds the results of experts in an order of its own"):
        use_exact_operators(network)
    assert not network.exact
