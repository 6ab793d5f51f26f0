"""The FP8 weights that the trainer computes with are the bytes that `save_network(fp8=True)` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.checkpoint.fp8_digest import stored_digests, training_digests
from s1pro.checkpoint.released import save_network
from s1pro.checkpoint.shards import StoredTensors
from s1pro.kernels.fp8 import ScaleFormat, dequantize_blocks
from s1pro.model.network import Network
from s1pro.model.precision import expert_layers, use_fp8_experts
from s1pro.train.setup import to_bfloat16


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
def test_trainer_and_exporter_give_the_same_bytes(
    small_network: Network, tmp_path: Path, scale_format: ScaleFormat, bfloat16: bool
) -> None:
    """Widths are no multiples of 128 (136 and 24)."""
    if bfloat16:
        to_bfloat16(small_network)
    use_fp8_experts(small_network, scale_format=scale_format)
    ours = training_digests(small_network)
    assert len(ours) == 3 * 4  # one layer with four experts; the first layer is dense
    save_network(small_network, tmp_path / "model", fp8=True, scale_format=scale_format)
    assert stored_digests(tmp_path / "model", ours) == ours


def test_the_engine_multiplies_with_what_the_folder_says(small_network: Network, tmp_path: Path) -> None:
    use_fp8_experts(small_network)
    save_network(small_network, tmp_path / "model", fp8=True, scale_format="fp32")
    experts = expert_layers(small_network)[1]
    assert experts.fp8 is not None
    gate_up, down = experts.fp8.weights(experts.gate_up_proj, experts.down_proj, count=False)
    stored = StoredTensors(tmp_path / "model")
    for name, ours in (("gate", gate_up[2, :24]), ("up", gate_up[2, 24:]), ("down", down[2])):
        key = f"model.language_model.layers.1.mlp.experts.2.{name}_proj.weight"
        assert torch.equal(ours, dequantize_blocks(stored.read(key), stored.read(key + "_scale_inv")))


def test_a_changed_weight_or_another_scale_changes_the_digest(small_network: Network, tmp_path: Path) -> None:
    use_fp8_experts(small_network)
    before = training_digests(small_network)
    save_network(small_network, tmp_path / "model", fp8=True, scale_format="ue8m0")
    assert all(stored_digests(tmp_path / "model", before)[name] != digest for name, digest in before.items())
    with torch.no_grad():
        expert_layers(small_network)[1].down_proj[3, 5] *= 1.5
    after = training_digests(small_network)
    assert [name.split(".")[-3:-1] for name in before if before[name] != after[name]] == [["3", "down_proj"]]


def test_a_folder_without_fp8_is_an_error(small_network: Network, tmp_path: Path) -> None:
    use_fp8_experts(small_network)
    save_network(small_network, tmp_path / "model")
    with pytest.raises(InputError, match="not stored in FP8"):
        stored_digests(tmp_path / "model", training_digests(small_network))


def test_layers_out_of_fp8_have_no_digest(small_network: Network) -> None:
    use_fp8_experts(small_network, keep_layers=(1,))
    assert training_digests(small_network) == {}
    with pytest.raises(ValueError, match="layers \\[0\\] have no experts"):
        use_fp8_experts(small_network, keep_layers=(0,))
