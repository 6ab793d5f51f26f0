"""Placement of parameters, master weights, optimizer state by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s1pro.base.config import with_overrides
from s1pro.base.errors import InputError
from s1pro.model.config import VisionConfig
from s1pro.model.network import Network
from s1pro.model.presets import small_time_series, tiny
from s1pro.train.optim import Optimizer, OptimizerConfig, gradient_norm, placement


def test_every_parameter_of_the_network_has_its_place() -> None:
    network = Network(tiny(vocab_size=16))
    places = {name: placement(name, p, "muon") for name, p in network.named_parameters()}
    layer = "model.language_model.layers.0"
    assert places[f"{layer}.self_attn.q_proj.weight"].rule == "muon"
    assert places[f"{layer}.mlp.experts.gate_up_proj"] == placement(
        f"{layer}.mlp.experts.gate_up_proj", torch.zeros(2, 4, 4), "muon"
    )
    assert places[f"{layer}.mlp.experts.gate_up_proj"].matrices == 2
    assert places[f"{layer}.mlp.experts.down_proj"].matrices == 1
    assert {n for n, p in places.items() if p.rule == "adamw" and p.decay} == {
        "lm_head.weight",
        "model.language_model.layers.0.mlp.gate.weight",
        "model.language_model.layers.1.mlp.gate.weight",
    }
    undecayed = {n for n, p in places.items() if not p.decay}
    assert (
        all("norm" in n or "embed" in n or "rotary" in n for n in undecayed)
        and "model.language_model.norm.weight" in undecayed
    )
    assert {placement(n, p, "adamw").rule for n, p in network.named_parameters()} == {"adamw"}


def test_kernels_and_tables_of_the_time_series_module_are_no_matrices_for_muon() -> None:
    network = Network(replace(tiny(vocab_size=16), time_series=small_time_series(64)))
    tower = network.model.time_series
    places = {n: placement(f"model.time_series.{n}", p, "muon") for n, p in tower.named_parameters()}
    plain = {n for n, place in places.items() if place.rule == "adamw" and place.decay}
    assert plain == {"encoder_embed.conv.weight", "encoder.conv1.weight", "encoder.conv2.weight"}
    assert not places["encoder.embed_positions.weight"].decay
    layer = "encoder_embed.transformer_encoder.layers.0"
    for name in ("encoder.adapt_in.weight", f"{layer}.linear1.weight", f"{layer}.self_attn.in_proj_weight"):
        assert places[name].rule == "muon" and places[name].decay
    assert all(not place.decay for name, place in places.items() if "norm" in name or name.endswith("bias"))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_by_name_round_trips_and_starts_like_a_fresh_optimizer(kind: str) -> None:
    networks = [Network(tiny(vocab_size=16), seed=1) for _ in range(2)]
    first, second = (Optimizer(n, OptimizerConfig(kind=kind, lr=1e-2)) for n in networks)  # type: ignore[arg-type]

    def step(network: Network, optimizer: Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        for param in network.parameters():
            param.grad = torch.randn_like(param)
        optimizer.step(0.5)
        optimizer.zero_grad()

    step(networks[0], first, 0)
    networks[1].load_state_dict(networks[0].state_dict())
    second.load_state_dict({n: {k: t.clone() for k, t in s.items()} for n, s in first.state_dict().items()})
    for network, optimizer in zip(networks, (first, second), strict=True):
        step(network, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True))
    with pytest.raises(ValueError, match="differs in parameters"):
        second.load_state_dict({})


def test_adamw_equals_torch_with_the_same_groups() -> None:
    torch.manual_seed(0)
    module, twin = nn.Linear(4, 3), nn.Linear(4, 3)
    twin.load_state_dict(module.state_dict())
    optimizer = Optimizer(module, OptimizerConfig(lr=1e-2, weight_decay=0.5))
    groups = [{"params": [twin.weight], "weight_decay": 0.5}, {"params": [twin.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), fused=True)
    for _ in range(3):
        for a, b in zip(module.parameters(), twin.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.step(1.0)
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))


def test_master_weights_keep_updates_that_bfloat16_would_lose() -> None:
    module = nn.Linear(8, 8, bias=False)
    nn.init.constant_(module.weight, 1.0)
    module = module.bfloat16()
    optimizer = Optimizer(module, OptimizerConfig(lr=1e-4, weight_decay=0.0))
    for _ in range(100):
        module.weight.grad = torch.ones_like(module.weight)
        optimizer.collect_gradients()
        assert module.weight.grad is None
        optimizer.step(1.0)
        optimizer.zero_grad()
    assert optimizer.state_dict()["weight"]["master"][0, 0].item() == pytest.approx(0.99, abs=1e-4)
    assert module.weight[0, 0].item() == pytest.approx(0.99, abs=4e-3)


def test_master_gradients_add_up_in_float32() -> None:
    module = nn.Linear(1, 1, bias=False).bfloat16()
    optimizer = Optimizer(module, OptimizerConfig())
    for value in (1.0, 2.0**-12):
        module.weight.grad = torch.full_like(module.weight, value)
        optimizer.collect_gradients()
    assert optimizer.gradients[0].item() == 1 + 2.0**-12


def test_frozen_parameters_have_no_state_and_all_frozen_is_an_error() -> None:
    module = nn.Linear(4, 3)
    module.bias.requires_grad_(False)
    assert set(Optimizer(module, OptimizerConfig()).state_dict()) == {"weight"}
    module.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen"):
        Optimizer(module, OptimizerConfig())


def test_gradient_norm_is_the_euclidean_norm_over_all() -> None:
    grads = [torch.full((2, 2), 2.0), torch.tensor([3.0])]
    assert gradient_norm(grads).item() == pytest.approx(5.0)


def test_bad_optimizer_settings_are_refused() -> None:
    for bad in ({"lr": 0.0}, {"weight_decay": -1.0}, {"betas": (0.9, 1.0)}):
        with pytest.raises(ValueError, match="must"):
            OptimizerConfig(**bad)  # type: ignore[arg-type]


MEDIA_PLACES = {
    "model.visual.patch_embed.proj.weight": ("adamw", True, 1),
    "model.visual.patch_embed.proj.bias": ("adamw", False, 1),
    "model.visual.pos_embed.weight": ("adamw", False, 1),
    "model.visual.blocks.0.attn.qkv.weight": ("expert_muon", True, 3),
    "model.visual.blocks.0.attn.proj.weight": ("muon", True, 1),
    "model.visual.blocks.0.mlp.linear_fc1.weight": ("muon", True, 1),
    "model.visual.blocks.0.norm1.weight": ("adamw", False, 1),
    "model.visual.merger.linear_fc2.weight": ("muon", True, 1),
    "model.visual.merger.linear_fc2.bias": ("adamw", False, 1),
}


def test_vision_tower_matrices_get_muon_and_its_convolution_and_positions_do_not() -> None:
    vision = VisionConfig(
        depth=1, hidden_size=16, num_heads=2, intermediate_size=32, patch_size=2, num_position_embeddings=16,
        out_hidden_size=64,
    )  # fmt: skip
    network = Network(replace(tiny(vocab_size=16), vision=vision))
    places = {name: placement(name, p, "muon") for name, p in network.named_parameters()}
    found = {name: (places[name].rule, places[name].decay, places[name].matrices) for name in MEDIA_PLACES}
    assert found == MEDIA_PLACES


@pytest.mark.parametrize(
    ("name", "shape", "rule"),
    [
        ("model.time_series.encoder_embed.conv.weight", (128, 1, 5), "adamw"),
        ("model.time_series.encoder_embed.layer.linear1.weight", (256, 128), "muon"),
        ("model.time_series.encoder_embed.layer.self_attn.in_proj_weight", (384, 128), "expert_muon"),
        ("model.time_series.encoder.conv1.weight", (768, 80, 3), "adamw"),
        ("model.time_series.encoder.embed_positions.weight", (1500, 768), "adamw"),
        ("model.time_series.encoder.layers.0.fc1.weight", (64, 32), "muon"),
        ("model.time_series.projector.linear_1.weight", (64, 32), "muon"),
        ("logit_scale", (), "adamw"),
    ],
)
def test_places_follow_from_name_and_shape(name: str, shape: tuple[int, ...], rule: str) -> None:
    assert placement(name, torch.zeros(shape), "muon").rule == rule


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_parts_learn_at_their_own_rate(kind: str) -> None:
    """A step with a multiplier is the step of an optimizer whose whole rate is so much smaller."""
    settings: dict[str, Any] = {"kind": kind, "weight_decay": 0.5}
    multipliers = (("*.layers.0.*", 0.25), ("*.layers.*", 4.0))
    rates = {0.25: "layers.0.", 4.0: "layers.1.", 1.0: "lm_head"}

    def stepped(lr: float, pairs: tuple[tuple[str, float], ...] = ()) -> dict[str, Tensor]:
        network = Network(tiny(vocab_size=16), seed=1)
        optimizer = Optimizer(network, OptimizerConfig(lr=lr, lr_multipliers=pairs, **settings))
        torch.manual_seed(0)
        for param in network.parameters():
            param.grad = torch.randn_like(param)
        optimizer.step(0.5)
        return dict(network.named_parameters())

    mixed = stepped(1e-2, multipliers)
    for factor, part in rates.items():
        expected = stepped(1e-2 * factor)
        names = [name for name in mixed if part in name]
        assert names
        for name in names:
            torch.testing.assert_close(mixed[name], expected[name], atol=1e-9, rtol=1e-6)


def test_multipliers_are_checked() -> None:
    with pytest.raises(ValueError, match="positive factor, got 0"):
        OptimizerConfig(lr_multipliers=(("*", 0.0),))
    with pytest.raises(
        InputError, match=r"optimizer.lr_multipliers: 'model.visual.\*' matches no parameter; there are"
    ):
        Optimizer(Network(tiny(vocab_size=16)), OptimizerConfig(lr_multipliers=(("model.visual.*", 0.1),)))
    changed = with_overrides(OptimizerConfig(), ['lr_multipliers=[["model.visual.*", 0.1]]'])
    assert changed.lr_multipliers == (("model.visual.*", 0.1),)
    assert (changed.multiplier("model.visual.a"), changed.multiplier("lm_head.weight")) == (0.1, 1.0)
