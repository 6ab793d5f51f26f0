"""The network against numbers measured with the released code, at the strict tolerances of the goldens.

`model_tiny` is the full architecture, `model_branches` the other branches of the configuration. Generation with a cache
is compared in `tests/serve/test_goldens.py`, the vision tower alone in `test_vision.py`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from s1pro.base.media import Media, Patches
from s1pro.checkpoint.names import pieces
from s1pro.checkpoint.released import load_network
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network, NetworkOutput
from s1pro.model.router import RouterOutput, released_balance_loss

STRICT = {"atol": 2e-5, "rtol": 1e-5}
BRANCHES = ("explicit_num_inv_freq_dense_layer", "no_topk_norm_all_freqs_kept", "plain_rope", "shared_fope_ungrouped")


class Golden(NamedTuple):
    network: Network
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def read_golden(folder: Path) -> Golden:
    numbers = json.loads((folder / "goldens.json").read_text())
    return Golden(load_network(folder).eval(), load_file(folder / "goldens.safetensors"), numbers)


@pytest.fixture(scope="module")
def tiny(goldens_dir: Path) -> Golden:
    return read_golden(goldens_dir / "model_tiny")


@pytest.fixture(scope="module", params=BRANCHES)
def branch(goldens_dir: Path, request: pytest.FixtureRequest) -> Golden:
    return read_golden(goldens_dir / "model_branches" / request.param)


def run(
    network: Network,
    ids_BS: Tensor,
    mask_BS: Tensor | None = None,
    positions_BS: Tensor | None = None,
    media: Media | None = None,
) -> NetworkOutput:
    """Padded rows, packed at their true lengths; positions count from the start of the padded row, as released."""
    valid_BS = torch.ones_like(ids_BS, dtype=torch.bool) if mask_BS is None else mask_BS.bool()
    if positions_BS is None:
        positions_BS = torch.arange(ids_BS.shape[1]).expand(ids_BS.shape)
    context = PackedContext.from_lengths(valid_BS.sum(dim=1).tolist())
    return network(ids_BS[valid_BS], positions_BS[valid_BS], context, media=media)


def patches(tensors: dict[str, Tensor], case: str, kind: str) -> Patches | None:
    key = f"{case}.{kind}_grid_thw"
    if key not in tensors:
        return None
    grids = tuple((int(t), int(h), int(w)) for t, h, w in tensors[key])
    pixels = tensors[f"{case}.pixel_values" + ("_videos" if kind == "video" else "")]
    return Patches(pixel_values_PX=pixels.float(), grids=grids)


def media_of(tensors: dict[str, Tensor], case: str) -> Media:
    return Media(images=patches(tensors, case, "image"), videos=patches(tensors, case, "video"))


def assert_routers(routers: tuple[RouterOutput, ...], tensors: dict[str, Tensor], prefix: str) -> None:
    ids_LTK = torch.stack([router.topk_ids_TK for router in routers])
    weights_LTK = torch.stack([router.topk_weights_TK for router in routers])
    logits_LTE = torch.stack([router.logits_TE for router in routers])
    assert torch.equal(ids_LTK, tensors[prefix + "router_experts"].long())
    torch.testing.assert_close(weights_LTK, tensors[prefix + "router_weights"], **STRICT)
    torch.testing.assert_close(logits_LTE, tensors[prefix + "router_logits"], **STRICT)


def assert_rope(network: Network, positions_T: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Goldens are `[1, (J,) T, C]` with both halves equal; ours is `[T, J or 1, C / 2]`."""
    table = network.model.language_model.rotary_emb(positions_T)
    for ours, released in ((table.cos, cos), (table.sin, sin)):
        expected_JTC = released[0] if released.dim() == 4 else released
        both_halves = torch.cat((ours, ours), dim=-1)
        torch.testing.assert_close(both_halves.transpose(0, 1), expected_JTC, **STRICT)


def causal_loss(logits_TV: Tensor, labels_BS: Tensor) -> Tensor:
    """Mean over the kept targets of the whole batch; labels are shifted by one inside a row, -100 is ignored."""
    targets_BS = torch.nn.functional.pad(labels_BS[:, 1:], (0, 1), value=-100)
    return torch.nn.functional.cross_entropy(logits_TV, targets_BS.flatten())


def gradients(network: Network, loss: Tensor) -> dict[str, Tensor]:
    """Gradients by released name; zeros where a parameter took no part."""
    network.zero_grad(set_to_none=True)
    loss.backward()
    own = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in network.named_parameters()}
    return {
        piece.released: piece.view(own[piece.own])
        for piece in pieces({k: g.shape for k, g in own.items()}, "per_expert")
    }


def assert_gradient_norms(found: dict[str, Tensor], expected: dict[str, float | None]) -> None:
    """Every parameter of the golden; null means that the released code has no gradient (an expert without a token)."""
    wrong = {}
    for name, norm in expected.items():
        ours = float(found[name].double().norm())
        if not (ours == 0.0 if norm is None else math.isclose(ours, norm, rel_tol=1e-4)):
            wrong[name] = (ours, norm)
    assert not wrong
    assert all(float(gradient.norm()) == 0.0 for name, gradient in found.items() if name not in expected)


def test_text_layer_by_layer(tiny: Golden) -> None:
    layers = tiny.network.model.language_model.layers
    attention: list[Tensor] = []
    blocks: list[Tensor] = []
    hooks = [layer.self_attn.register_forward_hook(lambda _m, _i, out: attention.append(out)) for layer in layers]
    hooks += [layer.register_forward_hook(lambda _m, _i, out: blocks.append(out[0])) for layer in layers]
    output = run(tiny.network, tiny.tensors["a_text.input_ids"])
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(torch.stack(attention), tiny.tensors["a_text.attn_outputs"].flatten(1, 2), **STRICT)
    torch.testing.assert_close(torch.stack(blocks), tiny.tensors["a_text.layer_outputs"].flatten(1, 2), **STRICT)
    torch.testing.assert_close(output.logits, tiny.tensors["a_text.logits"].flatten(0, 1), **STRICT)
    assert_routers(output.routers, tiny.tensors, "a_text.")


def test_fope_tables(tiny: Golden) -> None:
    assert_rope(tiny.network, torch.arange(24), tiny.tensors["a_text.fope_cos"], tiny.tensors["a_text.fope_sin"])
    rope, meta = tiny.network.config.text.rope, tiny.numbers["meta"]
    assert rope.kept_frequencies(tiny.network.config.text.head_dim) == meta["fope_kept"] == 6
    kept_D = tiny.network.model.language_model.rotary_emb._inv_freq_D
    torch.testing.assert_close(kept_D, torch.tensor(meta["fope_inv_freq"]), atol=0, rtol=0)


def test_explicit_positions(tiny: Golden) -> None:
    output = run(tiny.network, tiny.tensors["a_offset.input_ids"], positions_BS=tiny.tensors["a_offset.position_ids"])
    torch.testing.assert_close(output.logits, tiny.tensors["a_offset.logits"][0], **STRICT)


@pytest.mark.parametrize("case", ["a_rightpad", "a_leftpad"])
def test_padding(tiny: Golden, case: str) -> None:
    """Left padding counts positions from the start of the padded row, as released: FoPE logits move by up to 0.72."""
    mask_BS = tiny.tensors[f"{case}.attention_mask"]
    output = run(tiny.network, tiny.tensors[f"{case}.input_ids"], mask_BS)
    torch.testing.assert_close(output.logits, tiny.tensors[f"{case}.logits"][mask_BS.bool()], **STRICT)


def test_the_released_cache_agrees_with_one_full_pass(tiny: Golden) -> None:
    output = run(tiny.network, tiny.tensors["e_incremental.input_ids"])
    torch.testing.assert_close(output.logits, tiny.tensors["e_incremental.logits_cached"].flatten(0, 1), **STRICT)


@pytest.mark.parametrize("case", ["b_image", "c_images", "d_video", "d_mixed"])
def test_media(tiny: Golden, case: str) -> None:
    output = run(tiny.network, tiny.tensors[f"{case}.input_ids"], media=media_of(tiny.tensors, case))
    torch.testing.assert_close(output.logits, tiny.tensors[f"{case}.logits"][0], **STRICT)
    assert_routers(output.routers, tiny.tensors, f"{case}.")


def test_two_padded_rows_with_an_image_each(tiny: Golden) -> None:
    mask_BS = tiny.tensors["c_batch.attention_mask"]
    grids = tuple((int(t), int(h), int(w)) for t, h, w in tiny.tensors["c_batch.image_grid_thw"])
    count = sum(t * h * w for t, h, w in grids)
    pixels_PX = tiny.tensors["c_images.pixel_values"][:count].float()
    media = Media(images=Patches(pixel_values_PX=pixels_PX, grids=grids))
    output = run(tiny.network, tiny.tensors["c_batch.input_ids"], mask_BS, media=media)
    torch.testing.assert_close(output.logits, tiny.tensors["c_batch.logits"][mask_BS.bool()], **STRICT)


def test_loss_and_gradients(tiny: Golden) -> None:
    expected = tiny.numbers["losses"]["ce"]
    output = run(tiny.network, tiny.tensors["f_loss.input_ids"])
    loss = causal_loss(output.logits, tiny.tensors["f_loss.labels"])
    assert math.isclose(float(loss.detach()), expected["loss"], abs_tol=1e-5)
    found = gradients(tiny.network, loss)
    stored = {k.removeprefix("f_grad."): g for k, g in tiny.tensors.items() if k.startswith("f_grad.")}
    assert len(stored) == 7
    for name, gradient in stored.items():
        torch.testing.assert_close(found[name], gradient, **STRICT)
    assert_gradient_norms(found, expected["grad_norm"])
    total = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in found.values()))
    assert math.isclose(total, expected["total_grad_norm"], rel_tol=1e-4)


def test_released_balance_loss_and_its_gradients(tiny: Golden) -> None:
    expected = tiny.numbers["losses"]["ce_plus_aux"]
    output = run(tiny.network, tiny.tensors["f_loss.input_ids"])
    aux = released_balance_loss(output.routers)
    loss = causal_loss(output.logits, tiny.tensors["f_loss.labels"]) + 0.001 * aux
    assert math.isclose(float(aux.detach()), expected["aux_loss"], abs_tol=1e-5)
    assert math.isclose(float(loss.detach()), expected["loss"], abs_tol=1e-5)
    assert_gradient_norms(gradients(tiny.network, loss), expected["grad_norm"])


def test_released_balance_loss_of_masked_tokens(tiny: Golden) -> None:
    """Only the balance loss: the golden's cross-entropy also counts rows whose query is padding."""
    output = run(tiny.network, tiny.tensors["f_loss.input_ids"], tiny.tensors["a_rightpad.attention_mask"])
    aux = float(released_balance_loss(output.routers).detach())
    assert math.isclose(aux, tiny.numbers["losses"]["ce_plus_aux_masked"]["aux_loss"], abs_tol=1e-5)


def test_loss_with_an_image_and_gradients_of_the_vision_tower(tiny: Golden) -> None:
    expected = tiny.numbers["losses"]["image_ce"]
    output = run(tiny.network, tiny.tensors["b_image.input_ids"], media=media_of(tiny.tensors, "b_image"))
    loss = causal_loss(output.logits, tiny.tensors["g_image_loss.labels"])
    assert math.isclose(float(loss.detach()), expected["loss"], abs_tol=1e-5)
    assert None in expected["grad_norm"].values()
    assert_gradient_norms(gradients(tiny.network, loss), expected["grad_norm"])


def test_branch_logits_and_routing(branch: Golden) -> None:
    output = run(branch.network, branch.tensors["input_ids"])
    torch.testing.assert_close(output.logits, branch.tensors["logits"].flatten(0, 1), **STRICT)
    assert list(branch.network.config.text.moe_layers) == branch.numbers["moe_layers"]
    assert_routers(output.routers, branch.tensors, "")


def test_branch_rotary_tables(branch: Golden) -> None:
    tensors = branch.tensors
    assert_rope(branch.network, tensors["rope_positions"][0], tensors["rope_cos"], tensors["rope_sin"])
    assert torch.equal(branch.network.model.language_model.rotary_emb._inv_freq_D, tensors["inv_freq"])


def test_branch_loss_and_gradients(branch: Golden) -> None:
    ids_BS = branch.tensors["input_ids"]
    loss = causal_loss(run(branch.network, ids_BS).logits, ids_BS)
    assert math.isclose(float(loss.detach()), branch.numbers["loss"], abs_tol=1e-5)
    assert_gradient_norms(gradients(branch.network, loss), branch.numbers["grad_norm"])
