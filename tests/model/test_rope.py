"""FoPE against the unit goldens (release geometry, shared coefficients) and a table computed by hand."""

import json

import pytest
import torch
from safetensors.torch import load_file

from s1pro.model.config import RopeConfig
from s1pro.model.rope import RotaryEmbedding, apply_rotary, inverse_frequencies


@pytest.fixture(scope="module")
def units(goldens_dir):
    meta = json.loads((goldens_dir / "units" / "goldens.json").read_text())
    return meta, load_file(goldens_dir / "units" / "goldens.safetensors")


def build(settings: dict, tensors: dict, name: str, **overrides) -> RotaryEmbedding:
    config = RopeConfig(
        theta=settings["theta"],
        max_position_embeddings=settings["max_position_embeddings"],
        sep_head=settings["sep_head"],
        **overrides,
    )
    rope = RotaryEmbedding(config, settings["head_dim"], settings["kv_heads"])
    with torch.no_grad():
        rope.sin_coef.copy_(tensors[f"{name}.sin_coef"].float())
        rope.cos_coef.copy_(tensors[f"{name}.cos_coef"].float())
    return rope


@pytest.mark.parametrize("name", ["fope.release", "fope.small_shared", "fope.hand"])
def test_tables_match_the_released_code(units, name):
    meta, tensors = units
    rope = build(meta[name], tensors, name)
    assert torch.equal(inverse_frequencies(rope.config, meta[name]["head_dim"]), tensors[f"{name}.inv_freq"])
    table = rope(tensors[f"{name}.positions"])
    for got, part in ((table.cos, "cos"), (table.sin, "sin")):
        expected = tensors[f"{name}.{part}"]
        expected_TJZ = expected.transpose(0, 1) if expected.dim() == 3 else expected[:, None]
        torch.testing.assert_close(got, expected_TJZ, atol=2e-5, rtol=0)


def test_table_computed_by_hand():
    rope = RotaryEmbedding(RopeConfig(theta=10000.0, max_position_embeddings=64), head_dim=8, num_kv_heads=2)
    eye, j = torch.eye(2), torch.tensor([[0.0, 0.25], [0.5, 0.75]]) * 0.1
    with torch.no_grad():
        rope.sin_coef.copy_(torch.stack((eye + j, 2 * eye + j)))
        rope.cos_coef.copy_(torch.stack((eye - j, 0.75 * eye - j)))
    table = rope(torch.tensor([1, 5]))
    expected_sin = torch.tensor([[0.8464626, 0.1283577, 1, 1], [1.6879336, 0.2281911, 1, 1]])
    expected_cos = torch.tensor([[0.4905521, 0.9068713, 1, 1], [0.3554766, 0.6581203, 1, 1]])
    torch.testing.assert_close(table.sin[0], expected_sin, atol=1e-6, rtol=0)
    torch.testing.assert_close(table.cos[0], expected_cos, atol=1e-6, rtol=0)
    torch.testing.assert_close(table.sin[1, 0], torch.tensor([-0.9349530, 0.4914094, 1, 1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(table.cos[1, 0], torch.tensor([0.2397831, 0.8046723, 1, 1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("theta", "max_position", "kept"),
    [(5e6, 262144, 45), (5e6, 131072, 42), (5e6, 65536, 39), (5e6, 40960, 37), (1e6, 262144, 50), (1e6, 32768, 40)],
)
def test_number_of_kept_frequencies(theta, max_position, kept):
    assert RopeConfig(theta=theta, max_position_embeddings=max_position).kept_frequencies(128) == kept


def test_casting_the_model_keeps_frequencies_and_coefficients():
    rope = RotaryEmbedding(RopeConfig(max_position_embeddings=64), head_dim=16, num_kv_heads=2)
    rope.initialise(torch.Generator().manual_seed(1))
    before = rope(torch.arange(50))
    coef = rope.sin_coef.clone()
    rope.to(torch.bfloat16)
    assert rope.sin_coef.dtype == torch.float32 and torch.equal(rope.sin_coef, coef)
    assert torch.equal(rope(torch.arange(50)).cos, before.cos)


def test_padded_pairs_are_one_and_rotate_by_45_degrees():
    rope = RotaryEmbedding(RopeConfig(theta=10000.0, max_position_embeddings=64), head_dim=8, num_kv_heads=1)
    rope.initialise(torch.Generator().manual_seed(1))
    table = rope(torch.tensor([0, 7, 63]))
    assert torch.equal(table.cos[..., 2:], torch.ones(3, 1, 2)) and torch.equal(table.sin[..., 2:], torch.ones(3, 1, 2))
    x = torch.arange(24, dtype=torch.float32).view(3, 1, 8)
    turned = apply_rotary(x, table)
    a, b = x[..., 2:4], x[..., 6:8]
    torch.testing.assert_close(turned[..., 2:4], a - b)
    torch.testing.assert_close(turned[..., 6:8], b + a)


def test_pad_value_is_a_setting():
    rope = RotaryEmbedding(RopeConfig(max_position_embeddings=64, pad_value=0.0), head_dim=16, num_kv_heads=1)
    rope.initialise(torch.Generator().manual_seed(1))
    assert float(rope(torch.tensor([3])).sin[0, 0, -1]) == 0.0


def test_learnable_coefficients_are_parameters_with_gradient():
    frozen = RotaryEmbedding(RopeConfig(max_position_embeddings=64), 16, 2)
    assert not list(frozen.parameters()) and {name for name, _ in frozen.named_buffers()} == {"sin_coef", "cos_coef"}
    learned = RotaryEmbedding(RopeConfig(max_position_embeddings=64, learnable=True), 16, 2)
    learned.initialise(torch.Generator().manual_seed(1))
    table = learned(torch.arange(5))
    (table.cos.square().sum() + table.sin.square().sum()).backward()
    assert all(p.grad is not None and float(p.grad.norm()) > 0 for p in learned.parameters())


def test_initial_noise_has_the_released_scale():
    config = RopeConfig(theta=5e6, max_position_embeddings=262144)
    rope = RotaryEmbedding(config, 128, 4)
    rope.initialise(torch.Generator().manual_seed(0))
    noise = rope.sin_coef - torch.eye(45)
    assert abs(float(noise.std()) - 0.0151) < 5e-4


def test_query_heads_use_the_table_of_their_key_head():
    rope = RotaryEmbedding(RopeConfig(max_position_embeddings=64), head_dim=16, num_kv_heads=2)
    rope.initialise(torch.Generator().manual_seed(3))
    table = rope(torch.arange(6))
    x = torch.randn(6, 1, 16, generator=torch.Generator().manual_seed(0))
    turned = apply_rotary(x.expand(6, 8, 16).contiguous(), table)
    assert torch.equal(turned[:, 0], turned[:, 3]) and torch.equal(turned[:, 4], turned[:, 7])
    assert not torch.equal(turned[1:, 0], turned[1:, 4])
