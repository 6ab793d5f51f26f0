"""The walk of a decoding step against the network itself: the same choices, the same numbers up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from s1pro.kernels import compiled, experts_few, linear
from s1pro.kernels.attention import PagedContext
from s1pro.kernels.experts_fp8 import Fp8Experts
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model import decoding, decoding_compiled
from s1pro.model.adjacent import lay_together
from s1pro.model.config import ModelConfig
from s1pro.model.decoding import DecodingStep
from s1pro.model.exact import use_exact_operators
from s1pro.model.inner_first import lay_inner_first
from s1pro.model.network import Network, NetworkOutput
from s1pro.model.presets import tiny

SIZE = 4
LENGTHS = [9, 3, 6]
ROOM = 20
"""Blocks of a sequence."""


def variant(**changes: object) -> ModelConfig:
    config = tiny()
    return replace(config, text=replace(config.text, **changes))


ROUTER, ROPE = tiny().text.router, tiny().text.rope
CONFIGS = {
    "tiny": tiny(),
    "one group, two of it": variant(router=replace(ROUTER, num_groups=1)),
    "weights as they are": variant(router=replace(ROUTER, norm_topk_prob=False)),
    "an epsilon that counts": variant(router=replace(ROUTER, renorm_eps=1e-2)),
    "straight through": variant(router=replace(ROUTER, straight_through=True, temperature=0.7)),
    "plain rotary positions": variant(rope=replace(ROPE, fope=False)),
    "a dense layer": variant(mlp_only_layers=(0,), intermediate_size=48),
}


def network_of(config: ModelConfig, *, compiled: bool = False) -> Network:
    network = Network(config).eval()
    g = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if "norm" in name:  # norms that tell queries from keys
            nn.init.uniform_(parameter, 0.5, 1.5, generator=g)
        elif "gate.weight" in name or "proj" in name:  # choices with a margin, and layers that matter
            nn.init.normal_(parameter, 0.0, 0.3, generator=g)
    lay_inner_first(network) if compiled else lay_together(network)
    return network


def heads_and_channels(config: ModelConfig) -> int:
    text = config.text
    return (text.num_attention_heads + text.num_key_value_heads) * text.head_dim


class Decoder:
    """Feeds the same tokens to a network, after prompts of `lengths` that are read at once."""

    def __init__(self, network: Network, lengths: list[int], *, in_a_row: bool = True) -> None:
        text = network.config.text
        sizes = (text.num_hidden_layers, ROOM * len(lengths), SIZE, text.num_key_value_heads, text.head_dim)
        self.cache = PagedKVCache(*sizes, dtype=network.lm_head.weight.dtype)
        self.lengths = list(lengths)
        blocks = torch.arange(ROOM * len(lengths)).view(len(lengths), ROOM)
        self.table_BM = blocks if in_a_row else blocks.flip(1)
        self.in_a_row = in_a_row
        g = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(0, text.vocab_size, (len(lengths), ROOM * SIZE), generator=g)
        positions = torch.cat([torch.arange(n) for n in lengths])
        ids = torch.cat([row[:n] for row, n in zip(self.tokens, lengths, strict=True)])
        network(ids, positions, self.context([(0, n) for n in lengths]), compute_logits=False)

    def context(self, spans: list[tuple[int, int]]) -> PagedContext:
        bounds = [0]
        for start, stop in spans:
            bounds.append(bounds[-1] + stop - start)
        slots = [self.slot(b, p) for b, (start, stop) in enumerate(spans) for p in range(start, stop)]
        return PagedContext(
            cache=self.cache,
            cu_seqlens_q=tuple(bounds),
            block_table_BM=self.table_BM,
            context_lens=tuple(stop for _, stop in spans),
            slot_mapping_T=torch.tensor(slots),
            first_slots=tuple(int(row[0]) * SIZE for row in self.table_BM) if self.in_a_row else None,
        )

    def slot(self, sequence: int, position: int) -> int:
        return int(self.table_BM[sequence, position // SIZE]) * SIZE + position % SIZE

    def step(self, run: Callable[..., NetworkOutput]) -> NetworkOutput:
        ids_B = torch.stack([row[n] for row, n in zip(self.tokens, self.lengths, strict=True)])
        output = run(ids_B, torch.tensor(self.lengths), self.context([(n, n + 1) for n in self.lengths]))
        self.lengths = [n + 1 for n in self.lengths]
        return output


def assert_equal(mine: NetworkOutput, other: NetworkOutput) -> None:
    assert len(mine.routers) == len(other.routers)
    for a, b in zip(mine.routers, other.routers, strict=True):
        assert torch.equal(a.topk_ids_TK, b.topk_ids_TK)
        torch.testing.assert_close(a.topk_weights_TK, b.topk_weights_TK, atol=2e-6, rtol=2e-5)
        torch.testing.assert_close(a.logits_TE, b.logits_TE, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(mine.hidden_TD, other.hidden_TD, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mine.logits, other.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight_first", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS[:1], LENGTHS])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_every_step_is_that_of_the_network(
    name: str, lengths: list[int], weight_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (decoding, experts_few, linear):
        monkeypatch.setattr(module, "prefers_weight_first", lambda: weight_first)
    monkeypatch.setattr(decoding, "FEWEST_POSITIONS", 8)  # the table grows on the way, and is given up at 14
    monkeypatch.setattr(decoding, "TABLE_BYTES", 8 * 14 * heads_and_channels(CONFIGS[name]))
    network = network_of(CONFIGS[name])
    step, mine, other = DecodingStep(network), Decoder(network, lengths), Decoder(network, lengths)
    assert step.is_ready()
    for _ in range(7):
        assert_equal(mine.step(step), other.step(network))
    for layer in range(network.config.text.num_hidden_layers):
        torch.testing.assert_close(mine.cache.slots[layer], other.cache.slots[layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [LENGTHS[:1], LENGTHS])
@torch.no_grad()
def test_sequences_that_are_scattered_over_the_cache(lengths: list[int]) -> None:
    network = network_of(tiny())
    step = DecodingStep(network)
    assert step.is_ready()
    mine, other = (Decoder(network, lengths, in_a_row=False) for _ in range(2))
    for _ in range(3):
        assert_equal(mine.step(step), other.step(network))


@pytest.mark.parametrize("in_a_row", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS[:1], LENGTHS])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_compiled_steps_are_those_of_the_network(name: str, lengths: list[int], in_a_row: bool) -> None:
    network, plain = network_of(CONFIGS[name], compiled=True), network_of(CONFIGS[name])
    step = DecodingStep(network)
    mine, other = Decoder(network, lengths, in_a_row=in_a_row), Decoder(plain, lengths, in_a_row=in_a_row)
    assert step.is_ready() and step._compiled is not None
    for _ in range(7):
        assert_equal(mine.step(step), other.step(plain))
    for layer in range(network.config.text.num_hidden_layers):
        torch.testing.assert_close(mine.cache.slots[layer], other.cache.slots[layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "share"), [("tiny", 0.5), ("plain rotary positions", 0.5), ("a dense layer", 1.0)]
)  # a dense layer is computed in bfloat16
@torch.no_grad()
def test_compiled_steps_in_bfloat16_are_closer_to_float32_than_the_network_is(name: str, share: float) -> None:
    half = network_of(CONFIGS[name]).to(torch.bfloat16)
    wide = network_of(CONFIGS[name])
    wide.load_state_dict(half.state_dict())  # the same numbers
    laid = network_of(CONFIGS[name]).to(torch.bfloat16)
    lay_inner_first(laid)
    step = DecodingStep(laid)
    runs = [(Decoder(network, LENGTHS), run) for network, run in ((laid, step), (half, half), (wide, wide))]
    for layer, expected in enumerate(runs[2][0].cache.slots):  # the same past for all of them
        for decoder, _ in runs:
            decoder.cache.slots[layer].copy_(expected)
        expected.copy_(runs[1][0].cache.slots[layer])
    assert step.is_ready() and step._compiled is not None
    mine, rounded, exact = (decoder.step(run) for decoder, run in runs)
    errors = [(output.logits - exact.logits).abs().mean() for output in (mine, rounded)]
    assert errors[0] < share * errors[1]
    torch.testing.assert_close(mine.logits, exact.logits, atol=0.1, rtol=0.05)
    layers = range(len(runs[0][0].cache.slots))
    assert all(runs[0][0].cache.slots[i].dtype is torch.bfloat16 for i in layers)
    for i in layers:
        written, expected = (runs[k][0].cache.slots[i].float() for k in (0, 2))
        torch.testing.assert_close(written, expected, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_norms_in_bfloat16_that_are_written_in_place_are_seen() -> None:
    network = network_of(tiny()).to(torch.bfloat16)
    lay_inner_first(network)
    step = DecodingStep(network)
    assert step.is_ready()
    before = Decoder(network, LENGTHS).step(step).logits
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.mul_(1.5)
    assert step.is_ready()
    after, expected = Decoder(network, LENGTHS).step(step).logits, Decoder(network, LENGTHS).step(network).logits
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(after, expected, atol=0.1, rtol=0.1)


@torch.no_grad()
def test_without_numba_and_large_networks_in_threads_are_for_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, plain = network_of(tiny(), compiled=True), network_of(tiny())
    step = DecodingStep(network)
    assert step.is_ready() and step._compiled is not None
    monkeypatch.setattr(compiled, "is_available", lambda: False)
    for step in (DecodingStep(network), DecodingStep(network_of(tiny(), compiled=True))):
        assert step.is_ready() and step._compiled is None
        assert_equal(Decoder(network, LENGTHS).step(step), Decoder(plain, LENGTHS).step(plain))
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    step = DecodingStep(network)
    assert step.is_ready() and step._compiled is not None
    monkeypatch.setattr(decoding_compiled, "ONE_THREAD_BYTES", 1000)
    step = DecodingStep(network)
    assert step.is_ready() and step._compiled is None


@pytest.mark.parametrize("in_a_row", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS[:1], LENGTHS])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_exact_steps_have_the_bits_of_the_network(name: str, lengths: list[int], in_a_row: bool) -> None:
    network = network_of(CONFIGS[name])
    step = DecodingStep(network)
    assert step.is_ready()
    step(torch.tensor([1]), torch.tensor([0]), Decoder(network, [1]).context([(0, 1)]))  # tables of the usual mode
    use_exact_operators(network)
    mine, other = (Decoder(network, lengths, in_a_row=in_a_row) for _ in range(2))
    assert step.is_ready()
    for _ in range(5):
        ours, expected = mine.step(step), other.step(network)
        assert torch.equal(ours.logits, expected.logits) and torch.equal(ours.hidden_TD, expected.hidden_TD)
        for a, b in zip(ours.routers, expected.routers, strict=True):
            assert torch.equal(a.topk_ids_TK, b.topk_ids_TK) and torch.equal(a.topk_weights_TK, b.topk_weights_TK)
    for layer in range(network.config.text.num_hidden_layers):
        assert torch.equal(mine.cache.slots[layer], other.cache.slots[layer])
    use_exact_operators(network, False)
    assert step.is_ready()
    assert_equal(mine.step(step), other.step(network))


@torch.no_grad()
def test_weights_and_coefficients_written_in_place_are_seen() -> None:
    network = network_of(tiny())
    step, mine, other = DecodingStep(network), Decoder(network, [5]), Decoder(network, [5])
    assert step.is_ready()
    assert_equal(mine.step(step), other.step(network))
    for tensor in network.state_dict().values():
        tensor.mul_(1.1)
    before = step._weights
    assert step.is_ready() and step._weights is before
    assert_equal(mine.step(step), other.step(network))


@torch.no_grad()
def test_coefficients_trained_by_a_fused_optimiser_are_seen() -> None:
    network = network_of(variant(rope=replace(ROPE, learnable=True)))
    step, mine, other = DecodingStep(network), Decoder(network, [5]), Decoder(network, [5])
    assert step.is_ready()
    assert_equal(mine.step(step), other.step(network))
    rotary = network.model.language_model.rotary_emb
    trained = [rotary.sin_coef, rotary.cos_coef]
    versions, values = [coef._version for coef in trained], [coef.clone() for coef in trained]
    for coef in trained:
        coef.grad = torch.ones_like(coef)
    torch.optim.AdamW(trained, lr=0.3, fused=True).step()
    assert [coef._version for coef in trained] == versions  # which therefore cannot tell
    assert not any(map(torch.equal, trained, values))
    assert step.is_ready()
    assert_equal(mine.step(step), other.step(network))
    tables = step._tables._cos_SNC
    assert step.is_ready()
    mine.step(step)
    assert step._tables._cos_SNC is tables  # made again only if they have to be


@torch.no_grad()
def test_weights_in_new_memory_are_looked_up_again() -> None:
    network = network_of(tiny())
    step, mine, other = DecodingStep(network), Decoder(network, [5]), Decoder(network, [5])
    assert step.is_ready()
    experts = network.model.language_model.layers[1].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj * 1.5)
    network.lm_head.weight.data = network.lm_head.weight.data * 0.7
    assert step.is_ready()
    assert_equal(mine.step(step), other.step(network))


def hook(network: Network) -> None:
    network.model.language_model.layers[0].mlp.register_forward_hook(lambda *_: None)


def experts_in_fp8(network: Network) -> None:
    network.model.language_model.layers[1].mlp.experts.fp8 = Fp8Experts("fp32")


def other_dispatch(network: Network) -> None:
    network.model.language_model.layers[0].mlp.dispatch = lambda x_TD, *_: x_TD


def other_layer(network: Network) -> None:
    network.model.language_model.layers[1].mlp = type("Other", (nn.Module,), {})()


def other_epsilon(network: Network) -> None:
    network.model.language_model.layers[0].self_attn.k_norm.eps = 1e-3


def other_router(network: Network) -> None:
    gate = network.model.language_model.layers[0].mlp.gate
    gate.config = replace(gate.config, norm_topk_prob=False)


def other_head(network: Network) -> None:
    network.logits = lambda hidden_ND: hidden_ND @ network.lm_head.weight.t()


def apart(network: Network) -> None:
    k_proj = network.model.language_model.layers[0].self_attn.k_proj
    k_proj.weight.data = k_proj.weight.data.clone()


def half_exact(network: Network) -> None:
    use_exact_operators(network)
    network.model.language_model.layers[1].self_attn.exact = False


REFUSED = [
    hook, experts_in_fp8, other_dispatch, other_layer, other_epsilon, other_router, other_head, apart, half_exact,
    nn.Module.bfloat16,
]  # fmt: skip


def experts_elsewhere(network: Network) -> None:
    """As a rank of several sees its network: half of the experts that routers choose from."""
    for layer in network.model.language_model.layers:
        layer.mlp.dispatch = lambda x_TD, *_: x_TD
        experts = layer.mlp.experts
        for name in ("gate_up_proj", "down_proj"):
            weight = getattr(experts, name)
            share = weight.detach()[: len(weight) // 2].mT.contiguous().mT
            setattr(experts, name, nn.Parameter(share))


@torch.no_grad()
def test_nothing_is_compiled_for_experts_on_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel would read behind their memory."""
    monkeypatch.setattr(decoding, "CompiledStep", None)
    network = network_of(tiny(), compiled=True)
    experts_elsewhere(network)
    assert not DecodingStep(network).is_ready()


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@torch.no_grad()
def test_what_the_step_does_not_compute_is_left_to_the_network(change: Callable[[Network], object]) -> None:
    network = network_of(tiny())
    step = DecodingStep(network)
    assert step.is_ready()
    change(network)
    assert not step.is_ready() and not DecodingStep(network).is_ready()


def test_gradients_and_autocast_are_left_to_the_network() -> None:
    step = DecodingStep(network_of(tiny()))
    assert not step.is_ready()
    with torch.no_grad():
        assert step.is_ready()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not step.is_ready()
