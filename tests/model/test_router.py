"""The router against the unit goldens, a float64 reference of the straight-through gradient, and its error cases."""

import json

import pytest
import torch
from safetensors.torch import load_file

from s1pro.model.config import RouterConfig
from s1pro.model.router import (
    ROUTER_PRESETS,
    Router,
    RouterOutput,
    balance_loss,
    released_balance_loss,
    route,
    router_preset,
    z_loss,
)


@pytest.fixture(scope="module")
def units(goldens_dir):
    meta = json.loads((goldens_dir / "units" / "goldens.json").read_text())
    return meta, load_file(goldens_dir / "units" / "goldens.safetensors")


def build(settings: dict, weight: torch.Tensor, preset: str = "s1pro") -> Router:
    config = RouterConfig(
        num_experts=settings["E"], top_k=settings["K"], num_groups=settings["G"], norm_topk_prob=settings["norm"]
    )
    router = Router(router_preset(config, preset), settings["H"])
    with torch.no_grad():
        router.weight.copy_(weight)
    return router


@pytest.mark.parametrize("name", ["release_fp32", "two_per_group", "no_norm", "ungrouped"])
def test_float32_routers_match_the_released_code(units, name):
    meta, tensors = units
    key = f"router.{name}"
    out = build(meta[key], tensors[f"{key}.weight"].float())(tensors[f"{key}.x"].float())
    torch.testing.assert_close(out.logits_TE, tensors[f"{key}.logits"], atol=1e-5, rtol=0)
    keep = ~tensors[f"{key}.tie_rows"]
    assert torch.equal(out.topk_ids_TK[keep], tensors[f"{key}.experts"].long()[keep])
    torch.testing.assert_close(out.topk_weights_TK[keep], tensors[f"{key}.weights"][keep], rtol=1e-4, atol=1e-7)


def test_bfloat16_gate_of_the_released_code(units):
    meta, tensors = units
    key, source = "router.release_bf16", "router.release_fp32"
    router = build(meta[key], tensors[f"{source}.weight"], preset="hf").to(torch.bfloat16)
    out = router(tensors[f"{source}.x"])
    assert out.logits_TE.dtype == out.topk_weights_TK.dtype == torch.bfloat16
    expected = tensors[f"{key}.logits"].float()
    ulp = torch.exp2(expected.abs().clamp(min=1e-6).log2().floor() - 7)
    assert bool(((out.logits_TE.float() - expected).abs() <= ulp).all())
    same_logits = (out.logits_TE == tensors[f"{key}.logits"]).all(dim=-1)
    keep = ~tensors[f"{key}.tie_rows"] & same_logits
    assert int(keep.sum()) >= 8
    assert torch.equal(out.topk_ids_TK[keep], tensors[f"{key}.experts"].long()[keep])
    torch.testing.assert_close(
        out.topk_weights_TK[keep].float(), tensors[f"{key}.weights"][keep].float(), atol=0.004, rtol=0
    )


def test_every_group_gets_the_same_number_of_experts():
    config = RouterConfig(num_experts=24, top_k=6, num_groups=3)
    ids = route(torch.randn(100, 24, generator=torch.Generator().manual_seed(0)), config).topk_ids_TK
    counts = torch.stack([(ids // 8 == group).sum(dim=-1) for group in range(3)], dim=-1)
    assert torch.equal(counts, torch.full((100, 3), 2))


@pytest.mark.parametrize("norm", [True, False])
def test_straight_through_forward_is_bit_identical(norm):
    logits = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    plain = RouterConfig(num_experts=16, top_k=4, num_groups=4, norm_topk_prob=norm)
    through = RouterConfig(
        num_experts=16, top_k=4, num_groups=4, norm_topk_prob=norm, straight_through=True, temperature=0.7
    )
    a, b = route(logits, plain), route(logits.requires_grad_(), through)
    assert torch.equal(a.topk_ids_TK, b.topk_ids_TK) and torch.equal(a.topk_weights_TK, b.topk_weights_TK)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_straight_through_gradient_equals_a_float64_reference(temperature):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 12, generator=generator)
    upstream = torch.randn(7, 4, generator=generator)
    config = RouterConfig(num_experts=12, top_k=4, num_groups=2, straight_through=True, temperature=temperature)
    leaf = logits.clone().requires_grad_()
    out = route(leaf, config)
    (grad,) = torch.autograd.grad((out.topk_weights_TK * upstream).sum(), leaf)

    # dL/dz_j = sum over selected i of dL/dp_i * p_i (1[i = j] - p_j) / tau, written as loops in float64
    p = (logits.double() / temperature).softmax(-1)
    expected = torch.zeros_like(p)
    for t in range(7):
        for k in range(4):
            i = int(out.topk_ids_TK[t, k])
            for j in range(12):
                expected[t, j] += upstream[t, k].double() * p[t, i] * (float(i == j) - p[t, j]) / temperature
    torch.testing.assert_close(grad.double(), expected, atol=1e-6, rtol=1e-5)
    selected = torch.zeros(7, 12, dtype=torch.bool).scatter_(1, out.topk_ids_TK, True)
    assert bool((grad[selected] != 0).all()) and bool((grad[~selected] != 0).all())


def test_ordinary_gradient_reaches_only_what_the_renormalised_weights_depend_on():
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
    out = route(logits, RouterConfig(num_experts=12, top_k=4, num_groups=2))
    (grad,) = torch.autograd.grad(out.topk_weights_TK[:, 0].sum(), logits)
    selected = torch.zeros(5, 12, dtype=torch.bool).scatter_(1, out.topk_ids_TK, True)
    assert bool((grad[selected].abs() > 1e-9).all()) and float(grad[~selected].abs().max()) < 1e-6


def test_replay_uses_given_ids_and_keeps_the_gradient():
    logits = torch.randn(9, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)
    config = RouterConfig(num_experts=16, top_k=4, num_groups=4)
    recorded = torch.stack([torch.arange(4) * 4 + (t % 4) for t in range(9)])
    out = route(logits, config, recorded.to(torch.int32))
    assert torch.equal(out.topk_ids_TK, recorded)
    expected = logits.softmax(-1).gather(1, recorded)
    torch.testing.assert_close(out.topk_weights_TK, expected / expected.sum(-1, keepdim=True))
    out.topk_weights_TK[:, 0].sum().backward()
    assert float(logits.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 4, 8]], "shape"),
        ([[0, 4, 8, 16]], r"lie in \[0, 16\)"),
        ([[0, 4, 8, -1]], r"lie in \[0, 16\)"),
        ([[0, 1, 8, 12]], "each of 4 groups"),
        ([[0, 0, 8, 12]], "distinct"),
    ],
)
def test_replayed_ids_that_do_not_fit_are_refused(ids, message):
    config = RouterConfig(num_experts=16, top_k=4, num_groups=4)
    with pytest.raises(ValueError, match=message):
        route(torch.zeros(1, 16), config, torch.tensor(ids))


def test_presets_are_the_three_upstream_variants():
    config = RouterConfig(num_experts=8, top_k=2)
    assert {name: router_preset(config, name).gate_dtype for name in ROUTER_PRESETS} == {
        "s1pro": "float32",
        "hf": "model",
        "lmdeploy": "model",
        "xtuner": "float32",
    }
    with pytest.raises(ValueError, match="unknown router preset 'vllm'"):
        router_preset(config, "vllm")


def uniform_router(num_tokens: int, num_experts: int, top_k: int) -> RouterOutput:
    ids = torch.stack([(torch.arange(top_k) * (num_experts // top_k) + t) % num_experts for t in range(num_tokens)])
    return RouterOutput(ids, torch.full((num_tokens, top_k), 1 / top_k), torch.zeros(num_tokens, num_experts))


def test_balance_loss_is_one_at_uniform_routing_and_grows_when_experts_are_preferred():
    assert float(balance_loss([uniform_router(16, 8, 2)])) == pytest.approx(1.0)
    logits = torch.zeros(16, 8)
    logits[:, 0] = 3.0
    skewed = route(logits + 0.01 * torch.randn(16, 8), RouterConfig(num_experts=8, top_k=2))
    assert float(balance_loss([skewed])) > 1.5


def test_balance_loss_ignores_masked_tokens():
    good, valid = uniform_router(16, 8, 2), torch.ones(20, dtype=torch.bool)
    valid[16:] = False
    ids = torch.cat((good.topk_ids_TK, torch.zeros(4, 2, dtype=torch.long)))
    logits = torch.cat((good.logits_TE, torch.full((4, 8), 9.0)))
    padded = RouterOutput(ids, torch.full((20, 2), 0.5), logits)
    assert float(balance_loss([padded], valid)) == pytest.approx(1.0)


def test_released_balance_loss_is_k_at_uniform_routing():
    logits = 1e-3 * torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))
    router = route(logits, RouterConfig(num_experts=8, top_k=2, num_groups=2))
    assert float(released_balance_loss([router])) == pytest.approx(2.0, rel=1e-3)


def test_z_loss_is_the_squared_log_partition():
    router = RouterOutput(torch.zeros(3, 1, dtype=torch.long), torch.ones(3, 1), torch.zeros(3, 8))
    assert float(z_loss([router])) == pytest.approx(float(torch.tensor(8.0).log() ** 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_experts": 10, "top_k": 4, "num_groups": 4}, "num_experts=10 is not divisible"),
        ({"num_experts": 16, "top_k": 3, "num_groups": 2}, "num_experts_per_tok=3 is not divisible"),
        ({"num_experts": 4, "top_k": 8}, "exceeds"),
        ({"num_experts": 4, "top_k": 2, "temperature": 0.0}, "temperature"),
    ],
)
def test_impossible_routers_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RouterConfig(**settings)
