"""FP8 folders: numbers of the released code on dequantised weights, exact bytes in both directions."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s1pro.base.media import Media, Patches
from s1pro.checkpoint.names import pieces
from s1pro.checkpoint.quantization import quantize
from s1pro.checkpoint.released import load_network, save_network
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network, NetworkOutput

Folders = dict[tuple[str, str], Path]
GOLDENS = ("model_fp8_small", "model_fp8_64e")
FORMATS = ("fp32", "ue8m0")
LOGITS = {"atol": 2e-4, "rtol": 1e-4}
COEFFICIENTS = ("rotary_emb.sin_coef", "rotary_emb.cos_coef")


@pytest.fixture(params=GOLDENS)
def golden(request: pytest.FixtureRequest) -> str:
    return request.param


def numbers(goldens_dir: Path, golden: str) -> tuple[dict, dict[str, Tensor]]:
    folder = goldens_dir / golden
    return json.loads((folder / "goldens.json").read_text()), load_file(folder / "goldens.safetensors")


def run(network: Network, ids_BS: Tensor, media: Media | None = None) -> NetworkOutput:
    rows, length = ids_BS.shape
    return network(
        ids_BS.flatten(), torch.arange(length).repeat(rows), PackedContext.from_lengths([length] * rows), media=media
    )


def by_released_name(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    table = pieces({name: tensor.shape for name, tensor in tensors.items()}, "per_expert")
    return {piece.released: piece.view(tensors[piece.own]) for piece in table}


def dequantised(values: Tensor, scale: Tensor) -> Tensor:
    """Block by block, so that nothing is shared with the code under test."""
    weight = values.to(torch.float32)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            weight[128 * i : 128 * (i + 1), 128 * j : 128 * (j + 1)] *= scale[i, j]
    return weight


def sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def quantised_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.endswith("_scale_inv") or tensor.dtype == torch.float8_e4m3fn
    }


def assert_same_bytes(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert expected and found.keys() == expected.keys()
    wrong = [n for n, t in expected.items() if found[n].dtype != t.dtype or sha256(found[n]) != sha256(t)]
    assert wrong == []


@pytest.mark.parametrize("scale_format", FORMATS)
def test_dequantised_weights_are_exact(made_fp8: Folders, golden: str, scale_format: str) -> None:
    folder = made_fp8[golden, scale_format]
    loaded = by_released_name(load_network(folder).state_dict())
    stored = load_file(folder / "model.safetensors")
    for name, weight in loaded.items():
        scale = stored.get(name + "_scale_inv")
        expected = stored[name].float() if scale is None else dequantised(stored[name], scale)
        assert torch.equal(weight, expected), name
    assert stored.keys() == loaded.keys() | {name for name in stored if name.endswith("_scale_inv")}


def test_the_stored_golden_is_what_its_script_makes(made_fp8: Folders, goldens_dir: Path) -> None:
    stored = load_file(goldens_dir / "model_fp8_small" / "model.safetensors")
    assert_same_bytes(load_file(made_fp8["model_fp8_small", "fp32"] / "model.safetensors"), stored)


def test_logits_and_routing(made_fp8: Folders, goldens_dir: Path, golden: str) -> None:
    _, tensors = numbers(goldens_dir, golden)
    output = run(load_network(made_fp8[golden, "fp32"]), tensors["a_text.input_ids"])
    torch.testing.assert_close(output.logits, tensors["a_text.logits"].flatten(0, 1), **LOGITS)
    assert torch.equal(output.routing_LTK, tensors["a_text.router_experts"].long())
    weights_LTK = torch.stack([router.topk_weights_TK for router in output.routers])
    logits_LTE = torch.stack([router.logits_TE for router in output.routers])
    torch.testing.assert_close(weights_LTK, tensors["a_text.router_weights"], **LOGITS)
    torch.testing.assert_close(logits_LTE, tensors["a_text.router_logits"], **LOGITS)


def test_logits_with_power_of_two_scales(made_fp8: Folders, goldens_dir: Path, golden: str) -> None:
    _, tensors = numbers(goldens_dir, golden)
    output = run(load_network(made_fp8[golden, "ue8m0"]), tensors["a_text.input_ids"])
    torch.testing.assert_close(output.logits, tensors["a_text.logits_ue8m0"].flatten(0, 1), **LOGITS)
    assert not torch.allclose(tensors["a_text.logits_ue8m0"], tensors["a_text.logits"], **LOGITS)


def test_logits_of_an_image_and_of_a_longer_text(made_fp8: Folders, goldens_dir: Path, golden: str) -> None:
    _, tensors = numbers(goldens_dir, golden)
    network = load_network(made_fp8[golden, "fp32"])
    grids = tuple((int(t), int(h), int(w)) for t, h, w in tensors["b_image.image_grid_thw"])
    media = Media(images=Patches(pixel_values_PX=tensors["b_image.pixel_values"].float(), grids=grids))
    with_image = run(network, tensors["b_image.input_ids"], media)
    torch.testing.assert_close(with_image.logits, tensors["b_image.logits"][0], **LOGITS)
    text = run(network, tensors["e_incremental.input_ids"])
    torch.testing.assert_close(text.logits, tensors["e_incremental.logits_full"][0], **LOGITS)


def test_loss_and_gradient_norms(made_fp8: Folders, goldens_dir: Path, golden: str) -> None:
    expected, tensors = numbers(goldens_dir, golden)
    network, ids_BS = load_network(made_fp8[golden, "fp32"]), tensors["a_text.input_ids"]
    targets_BS = torch.nn.functional.pad(ids_BS[:, 1:], (0, 1), value=-100)
    loss = torch.nn.functional.cross_entropy(run(network, ids_BS).logits, targets_BS.flatten())
    assert math.isclose(float(loss.detach()), expected["loss"], rel_tol=1e-5)
    loss.backward()
    zeros = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    found = by_released_name({n: zeros[n] if p.grad is None else p.grad for n, p in network.named_parameters()})
    norms = {name: float(found[name].double().norm()) for name in expected["grad_norm"]}
    wrong = {
        name: (norms[name], norm)
        for name, norm in expected["grad_norm"].items()
        if not (norms[name] == 0.0 if norm is None else math.isclose(norms[name], norm, rel_tol=1e-3))
    }
    assert wrong == {}


@pytest.mark.parametrize("scale_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_and_saving_again_gives_the_same_bytes(
    made_fp8: Folders, goldens_dir: Path, tmp_path: Path, golden: str, scale_format: str, dtype: torch.dtype
) -> None:
    source = made_fp8[golden, scale_format]
    save_network(load_network(source, dtype=dtype), tmp_path / "again", fp8=True)
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert_same_bytes(quantised_part(after), quantised_part(before))
    for name in before.keys() - quantised_part(before).keys():
        assert torch.equal(after[name].float(), before[name].float()), name
    if dtype == torch.bfloat16:
        listed = numbers(goldens_dir, golden)[0]["sha256"]["ue8m0" if scale_format == "ue8m0" else "fp32_scale"]
        wrong = [name for name, digest in listed.items() if sha256(after[name]) != digest]
        assert all(name.endswith(COEFFICIENTS) for name in wrong)  # kept in float32 whatever the dtype of the network
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    released = json.loads((source / "config.json").read_text())
    assert config["quantization_config"] == released["quantization_config"]


@pytest.mark.parametrize("scale_format", FORMATS)
def test_quantising_reproduces_the_bytes_of_the_golden(
    made_fp8: Folders, unquantised: Path, tmp_path: Path, scale_format: str
) -> None:
    save_network(load_network(unquantised), tmp_path / "fp8", fp8=True, scale_format=scale_format)
    expected = load_file(made_fp8["model_fp8_64e", scale_format] / "model.safetensors")
    found = load_file(tmp_path / "fp8" / "model.safetensors")
    assert len(quantised_part(expected)) == 2 * 392
    assert_same_bytes(quantised_part(found), quantised_part(expected))
    assert found.keys() == expected.keys()


def test_a_block_of_zeros_has_scale_one(made_fp8: Folders, goldens_dir: Path, tmp_path: Path, golden: str) -> None:
    save_network(load_network(made_fp8[golden, "fp32"]), tmp_path / "again", fp8=True, scale_format="fp32")
    stored = load_file(tmp_path / "again" / "model.safetensors")
    name, row, column = numbers(goldens_dir, golden)[0]["meta"]["zero_block"]
    assert float(stored[name + "_scale_inv"][row, column]) == 1.0
    assert bool((stored[name][:128, :128].float() == 0).all())


def test_training_changes_only_the_scales_of_changed_blocks(made_fp8: Folders, tmp_path: Path) -> None:
    """The declared scales are not those of our rule here: an untouched block must keep its own all the same."""
    source = tmp_path / "odd"
    shutil.copytree(made_fp8["model_fp8_small", "fp32"], source)
    (source / "model_fp32.safetensors").unlink()
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    tensors = load_file(source / "model.safetensors")
    tensors[name] = (tensors[name].float() / 2).to(torch.float8_e4m3fn)
    tensors[name + "_scale_inv"] = tensors[name + "_scale_inv"] * 1.7
    rewrite(source, tensors)
    network = load_network(source)
    with torch.no_grad():
        network.model.language_model.layers[0].self_attn.q_proj.weight[5, 140] = 9.0
    save_network(network, tmp_path / "again", fp8=True)
    after = load_file(tmp_path / "again" / "model.safetensors")
    scale, expected = after[name + "_scale_inv"], tensors[name + "_scale_inv"]
    assert torch.equal(scale[0, 0], expected[0, 0]) and math.isclose(float(scale[0, 1]), 9.0 / 448, rel_tol=1e-6)
    assert sha256(after[name][:, :128]) == sha256(tensors[name][:, :128])


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_declared_powers_of_two_that_are_none_warn(made_fp8: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "released"
    shutil.copytree(made_fp8["model_fp8_small", "fp32"], folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"scale_fmt": "float"', '"scale_fmt": "ue8m0"'))
    with pytest.warns(UserWarning, match=r"config\.json: scale_fmt says ue8m0, but 16 of 16 tensors"):
        network = load_network(folder)
    save_network(network, tmp_path / "again", fp8=True)  # as they are: the same scales again
    found = load_file(tmp_path / "again" / "model.safetensors")
    assert_same_bytes(quantised_part(found), quantised_part(load_file(folder / "model.safetensors")))


@pytest.mark.parametrize("scale_format", FORMATS)
def test_true_declarations_do_not_warn(made_fp8: Folders, scale_format: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_network(made_fp8["model_fp8_small", scale_format])


def test_a_scale_that_is_a_power_of_two_already_stays() -> None:
    weight = torch.zeros(130, 4)
    weight[0, 0], weight[129, 3] = -448 * 2.0**-10, 449 * 2.0**-10
    for scale_format, second in (("fp32", 449 / 448 * 2.0**-10), ("ue8m0", 2.0**-9)):
        values, scale = quantize(weight, scale_format, None)
        assert scale.flatten().tolist() == torch.tensor([2.0**-10, second]).tolist()
        assert float(values[0, 0]) == -448 and values.dtype == torch.float8_e4m3fn
