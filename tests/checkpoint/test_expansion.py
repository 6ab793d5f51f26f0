"""Expanded folders: against transformers with tiny random weights, against loops, and against networks in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches
from s1pro.checkpoint.expansion import expand_folder, expand_network
from s1pro.checkpoint.expansion_plan import ExpansionConfig
from s1pro.checkpoint.names import Layout
from s1pro.checkpoint.released import load_network, save_network
from s1pro.checkpoint.rewrite import Storage
from s1pro.checkpoint.shards import StoredTensors
from s1pro.checkpoint.sources import FolderWeights, network_of
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, VisionConfig
from s1pro.model.network import Network
from s1pro.model.presets import small_time_series, tiny

IDENTITY = ExpansionConfig(factor=1, groups=1, strategy="A")
SYMMETRIC = ExpansionConfig(factor=4, groups=8, strategy="A", router_noise=0.0, allow_symmetric=True)
TEXT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "moe_intermediate_size": 24,
    "intermediate_size": 48,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "max_position_embeddings": 256,
}
VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}


def shaken(model: nn.Module) -> Any:
    """Weights of a size at which every part matters."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name and parameter.dim() == 1
            parameter.copy_(1 + 0.1 * noise if norm else noise * parameter.shape[-1] ** -0.5)
    return model.eval()


def qwen(**changes: Any) -> Qwen3MoeForCausalLM:
    settings = {**TEXT, "tie_word_embeddings": False, "attn_implementation": "eager", **changes}
    return shaken(Qwen3MoeForCausalLM(Qwen3MoeConfig(**settings)))


def qwen_vl(deepstack: list[int]) -> Qwen3VLMoeForConditionalGeneration:
    vision = {**VISION, "deepstack_visual_indexes": deepstack}
    tokens = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
    config = Qwen3VLMoeConfig(text_config=TEXT, vision_config=vision, tie_word_embeddings=False, **tokens)
    return shaken(Qwen3VLMoeForConditionalGeneration(config))


IDS = torch.randint(0, 90, (40,), generator=torch.Generator().manual_seed(2))


def their_logits(model: nn.Module, ids_T: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids_T[None]).logits[0].float()


def our_logits(folder: Path, ids_T: Tensor = IDS, media: Media[Tensor] | None = None) -> Tensor:
    return logits_of(load_network(folder), ids_T, media)


def logits_of(network: Network, ids_T: Tensor = IDS, media: Media[Tensor] | None = None) -> Tensor:
    with torch.no_grad():
        output = network(ids_T, torch.arange(len(ids_T)), PackedContext.from_lengths([len(ids_T)]), media=media)
    assert output.logits is not None
    return output.logits


class SlowMixture(nn.Module):
    """Every group takes its best expert; weights are divided by their sum. A loop over the original experts."""

    def __init__(self, mixture: nn.Module, groups: list[list[int]]) -> None:
        super().__init__()
        self.mixture, self.groups = mixture, groups

    def forward(self, hidden: Tensor) -> Tensor:
        gate = self.mixture.gate.weight
        gate_up, down = self.mixture.experts.gate_up_proj, self.mixture.experts.down_proj
        out = torch.zeros_like(hidden)
        for b, t in np.ndindex(*hidden.shape[:2]):
            x = hidden[b, t]
            p = (gate @ x).softmax(-1)
            active = [max(group, key=lambda i, p=p: float(p[i])) for group in self.groups]
            total = sum(p[i] for i in active)
            for i in active:
                first, second = (gate_up[i] @ x).chunk(2)
                out[b, t] += p[i] / total * (down[i] @ (silu(first) * second))
        return out


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[nn.Module], Path]:
    def save(model: nn.Module) -> Path:
        model.save_pretrained(tmp_path / "source")
        return tmp_path / "source"

    return save


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_topk_prob": False},
        {"mlp_only_layers": [1]},
        {"tie_word_embeddings": True},
        {"attention_bias": True, "num_key_value_heads": 4},
    ],
    ids=str,
)
def test_identity_computes_what_qwen_computes(
    saved: Callable[[nn.Module], Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = qwen(**changes)
    done = expand_folder(FolderWeights(saved(model)), tmp_path / "target", IDENTITY)
    assert done.after.text.router == RouterConfig(
        num_experts=8, top_k=2, norm_topk_prob=changes.get("norm_topk_prob", True)
    )
    assert not done.after.text.rope.fope
    assert (our_logits(tmp_path / "target") - their_logits(model)).abs().max() <= 1e-5


@pytest.mark.parametrize("settings", [{}, {"factor": 2, "groups": 4}, {"factor": 2, "groups": 8}], ids=str)
def test_a_computes_the_best_of_every_block(
    saved: Callable[[nn.Module], Path], tmp_path: Path, settings: dict[str, int]
) -> None:
    model, config = qwen(), replace(SYMMETRIC, **settings)
    folder = saved(model)
    done = expand_folder(FolderWeights(folder), tmp_path / "target", config)
    assert done.after.text.router.num_experts == 8 * config.factor
    expected = qwen()
    blocks = config.groups // config.factor
    groups = [[i for i in range(8) if i // (8 // blocks) == g % blocks] for g in range(config.groups)]
    for layer in expected.model.layers:
        layer.mlp = SlowMixture(layer.mlp, groups)
    assert (our_logits(tmp_path / "target") - their_logits(expected)).abs().max() <= 1e-5
    assert (our_logits(tmp_path / "target") - their_logits(model)).abs().max() > 1e-3  # it is another function


def test_b_computes_all_originals(saved: Callable[[nn.Module], Path], tmp_path: Path) -> None:
    """With as many groups as originals, B is the dense mixture, wherever calibration puts them."""
    from s1pro.checkpoint.calibration import Calibration

    random = np.random.default_rng(0)
    ones = np.ones((3, 1, 1), dtype=np.float32)
    calibration = Calibration(
        top_k=2,
        num_tokens=5,
        ids_LTX=np.zeros((3, 1, 1), dtype=np.int32),
        probs_LTX=ones,
        weights_LTX=ones,
        rank_counts_LEX=random.integers(0, 9, (3, 8, 8)),
    )
    expand_folder(FolderWeights(saved(qwen())), tmp_path / "target", replace(SYMMETRIC, strategy="B"), calibration)
    expected = qwen()
    for layer in expected.model.layers:
        layer.mlp = SlowMixture(layer.mlp, [[i] for i in range(8)])
    assert (our_logits(tmp_path / "target") - their_logits(expected)).abs().max() <= 1e-5


def test_vision_language_models_keep_their_tower(saved: Callable[[nn.Module], Path], tmp_path: Path) -> None:
    """With an image of one merged token the three positions of M-RoPE are those of plain RoPE."""
    model = qwen_vl([])
    done = expand_folder(FolderWeights(saved(model)), tmp_path / "target", IDENTITY)
    assert done.after.vision == VisionConfig(**VISION)
    assert done.after.image_token_id == 90
    assert any("M-RoPE" in note for note in done.notes)
    assert (our_logits(tmp_path / "target") - their_logits(model)).abs().max() <= 1e-5
    pixels = torch.randn(4, 3 * 2 * 16 * 16, generator=torch.Generator().manual_seed(3))
    ids = torch.cat([IDS[:5], torch.tensor([92, 90, 93]), IDS[5:12]])
    with torch.no_grad():
        kinds = (ids == 90).long()[None]
        theirs = model(
            input_ids=ids[None], pixel_values=pixels, image_grid_thw=torch.tensor([[1, 2, 2]]), mm_token_type_ids=kinds
        ).logits[0]
    media = Media(images=Patches(pixel_values_PX=pixels, grids=((1, 2, 2),)))
    assert (our_logits(tmp_path / "target", ids, media) - theirs).abs().max() <= 1e-5


def test_deepstack_has_to_be_given_up_explicitly(saved: Callable[[nn.Module], Path], tmp_path: Path) -> None:
    folder = saved(qwen_vl([0]))
    with pytest.raises(InputError, match=r"vision layers \[0\].*--drop-deepstack"):
        FolderWeights(folder)
    source = FolderWeights(folder, drop_deepstack=True)
    done = expand_folder(source, tmp_path / "target", SYMMETRIC)
    assert any("deepstack" in note for note in done.notes)
    assert not any("deepstack" in name for name in StoredTensors(tmp_path / "target").entries)
    stored = load_file(folder / "model.safetensors")
    merger = load_file(tmp_path / "target" / "model.safetensors")["model.visual.merger.linear_fc1.weight"]
    assert torch.equal(merger, stored["model.visual.merger.linear_fc1.weight"])


def test_published_fused_experts_are_read(saved: Callable[[nn.Module], Path], tmp_path: Path) -> None:
    """Files of Qwen3-VL-MoE on the hub hold [E, D, 2F] and [E, F, D]; transformers 5 saves the transposed ones."""
    folder = saved(qwen_vl([]))
    tensors = load_file(folder / "model.safetensors")
    turned = {
        name: tensor.transpose(1, 2).contiguous() if ".mlp.experts." in name else tensor
        for name, tensor in tensors.items()
    }
    published = tmp_path / "published"
    published.mkdir()
    save_file(turned, published / "model.safetensors")
    (published / "config.json").write_text((folder / "config.json").read_text())
    for source, name in ((folder, "one"), (published, "two")):
        expand_folder(FolderWeights(source), tmp_path / name, SYMMETRIC)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling: rope_type is 'yarn'"),
        ({"model_type": "llama"}, "model_type is 'llama'; known are 'interns1_pro', 'qwen3_moe'"),
        ({"shared_expert_intermediate_size": 5}, "unknown key 'shared_expert_intermediate_size'"),
        ({"num_experts": 9}, "num_experts and num_local_experts differ"),
        ({"num_local_experts": 16}, "mlp.gate.weight has shape [8, 32], config.json asks for [16, 32]"),
    ],
)
def test_settings_without_counterpart_are_errors(
    saved: Callable[[nn.Module], Path], change: dict[str, Any], message: str
) -> None:
    folder = saved(qwen())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError) as error:
        FolderWeights(folder)
    assert message in str(error.value)
    assert str(folder) in str(error.value)


def ungrouped(media: bool = False) -> ModelConfig:
    """E = 8, K = 2 in one group, FoPE, a dense layer, and optionally the parts for images and time series."""
    text = replace(
        tiny(64).text,
        num_hidden_layers=3,
        mlp_only_layers=(1,),
        intermediate_size=40,
        router=RouterConfig(num_experts=8, top_k=2),
    )
    tower = VisionConfig(**{**VISION, "out_hidden_size": 64}) if media else None
    return replace(tiny(64), text=text, vision=tower, time_series=small_time_series(64) if media else None)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    save_network(Network(ungrouped(media=True), seed=4), tmp_path / "own")
    (tmp_path / "own" / "generation_config.json").write_text('{"top_p": 0.9}')
    (tmp_path / "own" / "notes").mkdir()
    return tmp_path / "own"


def test_identity_is_the_identity_bit_for_bit(own: Path, tmp_path: Path) -> None:
    for strategy in ("A", "B", "fitted"):
        target = tmp_path / strategy
        expand_folder(FolderWeights(own), target, replace(IDENTITY, strategy=strategy))
        for name in ("model.safetensors", "config.json", "generation_config.json"):
            assert (target / name).read_bytes() == (own / name).read_bytes()
        assert sorted(path.name for path in target.iterdir()) == [
            "config.json",
            "generation_config.json",
            "model.safetensors",
        ]


@pytest.mark.parametrize("scale_format", ["fp32", "ue8m0"])
def test_identity_of_an_fp8_folder_is_bit_for_bit(
    made_fp8: dict[tuple[str, str], Path], tmp_path: Path, scale_format: str
) -> None:
    """Bytes of every tensor; the golden's folder has 8 groups of its own."""
    source = made_fp8["model_fp8_64e", scale_format]
    groups = json.loads((source / "config.json").read_text())["text_config"]["router_n_groups"]
    config = ExpansionConfig(factor=1, groups=groups, strategy="A")
    expand_folder(FolderWeights(source), tmp_path / "target", config, storage=Storage(fp8=True))
    before, after = StoredTensors(source), StoredTensors(tmp_path / "target")
    assert before.entries.keys() == after.entries.keys()
    for name in before.entries:
        first, second = before.read(name), after.read(name)
        assert first.dtype == second.dtype
        assert torch.equal(first.view(torch.uint8), second.view(torch.uint8)), name


def test_copies_of_fp8_experts_have_the_bytes_of_their_originals(
    made_fp8: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    source = made_fp8["model_fp8_64e", "fp32"]
    groups = json.loads((source / "config.json").read_text())["text_config"]["router_n_groups"]
    config = ExpansionConfig(factor=2, groups=2 * groups, strategy="A")
    done = expand_folder(FolderWeights(source), tmp_path / "target", config, storage=Storage(fp8=True))
    before, after = StoredTensors(source), StoredTensors(tmp_path / "target")
    stem = "model.language_model.layers.1.mlp.experts"
    for expert in (0, 5, 70, 127):
        original = done.origins[1, expert]
        for part in ("gate_proj.weight", "down_proj.weight", "up_proj.weight_scale_inv"):
            first, second = before.read(f"{stem}.{original}.{part}"), after.read(f"{stem}.{expert}.{part}")
            assert torch.equal(first.view(torch.uint8), second.view(torch.uint8))


@pytest.mark.parametrize("layout", ["per_expert", "fused", "fused_out_in"])
def test_a_folder_holds_what_the_network_in_memory_holds(own: Path, tmp_path: Path, layout: Layout) -> None:
    config = ExpansionConfig(factor=2, groups=4, strategy="random", seed=3, expert_noise=0.01)
    expected, origins = expand_network(load_network(own), config)
    small_shards = Storage(layout=layout, max_shard_bytes=50_000)
    done = expand_folder(FolderWeights(own), tmp_path / "target", config, storage=small_shards)
    assert np.array_equal(done.origins, origins)
    assert len(list((tmp_path / "target").glob("*.safetensors"))) > 5
    found = load_network(tmp_path / "target")
    assert found.config == expected.config
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert done.num_bytes == sum(t.numel() * 4 for t in expected.state_dict().values())


def test_everything_but_experts_and_gates_goes_through_unchanged(own: Path, tmp_path: Path) -> None:
    before = load_network(own).state_dict()
    done = expand_folder(FolderWeights(own), tmp_path / "target", SYMMETRIC)
    after = load_network(tmp_path / "target").state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if ".mlp.experts." in name or name.endswith("mlp.gate.weight"):
            origins = torch.from_numpy(done.origins[0 if ".layers.0." in name else 1])
            assert torch.equal(after[name], tensor[origins])
        else:
            assert torch.equal(after[name], tensor), name


def test_noise_has_the_stated_size_and_only_copies_get_it() -> None:
    network = Network(ungrouped(), seed=4)
    config = ExpansionConfig(factor=4, groups=8, strategy="A", router_noise=0.1, expert_noise=0.05)
    expanded, origins = expand_network(network, config)
    before, after = network.state_dict(), expanded.state_dict()
    gate = "model.language_model.layers.2.mlp.gate.weight"
    original = before[gate][torch.from_numpy(origins[1])]
    relative = (after[gate] - original).norm(dim=1) / original.norm(dim=1)
    assert relative.mean() == pytest.approx(0.1, rel=0.1)
    assert len({tuple(row.tolist()) for row in after[gate]}) == 32
    down = "model.language_model.layers.2.mlp.experts.down_proj"
    original = before[down][torch.from_numpy(origins[1])]
    difference = (after[down] - original).flatten(1)
    rms = original.flatten(1).square().mean(dim=1).sqrt()
    assert (difference.std(dim=1) / rms).mean() == pytest.approx(0.05, rel=0.05)
    assert difference.mean().abs() < 1e-3 * rms.mean()


def test_seeds_draw_other_noise() -> None:
    network = Network(ungrouped(), seed=4)
    gate = "model.language_model.layers.0.mlp.gate.weight"
    gates = [expand_network(network, ExpansionConfig(strategy="A", seed=s))[0].state_dict()[gate] for s in (0, 0, 1)]
    assert torch.equal(gates[0], gates[1])
    assert not torch.equal(gates[0], gates[2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_target_precision(own: Path, tmp_path: Path, dtype: Any) -> None:
    expand_folder(FolderWeights(own), tmp_path / "target", SYMMETRIC, storage=Storage(dtype=dtype))
    stored = StoredTensors(tmp_path / "target")
    short = {"bfloat16": "BF16", "float32": "F32"}[dtype]
    assert {entry.dtype for name, entry in stored.entries.items() if "rotary" not in name} == {short}
    assert {entry.dtype for name, entry in stored.entries.items() if "rotary" in name} == {"F32"}
    assert load_network(tmp_path / "target", dtype=None).lm_head.weight.dtype == getattr(torch, dtype)


def test_fope_is_the_identity_only_where_all_frequencies_are_kept(
    saved: Callable[[nn.Module], Path], tmp_path: Path
) -> None:
    model = qwen()
    source = FolderWeights(saved(model))
    done = expand_folder(source, tmp_path / "target", IDENTITY, fope=True)
    assert done.after.text.rope.fope
    kept = done.after.text.rope.kept_frequencies(16)
    assert kept < 8 and f"{8 - kept} of 8 frequencies" in done.notes[-1]
    network = load_network(tmp_path / "target")
    assert torch.equal(network.model.language_model.rotary_emb.sin_coef, torch.eye(kept).expand(2, kept, kept))
    assert (logits_of(network) - their_logits(model)).abs().max() > 1e-3
    whole = replace(network.config.text.rope, num_inv_freq=8)
    full = Network(replace(network.config, text=replace(network.config.text, rope=whole)))
    state = {name: t for name, t in network.state_dict().items() if "rotary" not in name}
    identity = {f"model.language_model.rotary_emb.{n}_coef": torch.eye(8).expand(2, 8, 8) for n in ("sin", "cos")}
    full.load_state_dict({**state, **identity})
    assert (logits_of(full) - their_logits(model)).abs().max() <= 1e-5
    with pytest.raises(InputError, match="Fourier positions already"):
        expand_folder(FolderWeights(tmp_path / "target"), tmp_path / "again", IDENTITY, fope=True)


def test_foreign_folders_become_networks(saved: Callable[[nn.Module], Path]) -> None:
    model = qwen()
    network = network_of(FolderWeights(saved(model)))
    assert network.config.text.rope == RopeConfig(theta=10000.0, max_position_embeddings=256, fope=False)
    assert (logits_of(network) - their_logits(model)).abs().max() <= 1e-5


def test_bad_targets_and_sources(own: Path, tmp_path: Path) -> None:
    source = FolderWeights(own)
    for target in (own, own / "notes"):
        with pytest.raises(InputError, match=r"source itself|exists already"):
            expand_folder(source, target, SYMMETRIC)
    dense = Network(replace(ungrouped(), text=replace(ungrouped().text, mlp_only_layers=(0, 1, 2))))
    save_network(dense, tmp_path / "dense")
    with pytest.raises(InputError, match="no layers with experts"):
        expand_folder(FolderWeights(tmp_path / "dense"), tmp_path / "target", SYMMETRIC)
    with pytest.raises(InputError, match="cannot be stored in FP8"):
        Storage(layout="fused", fp8=True)
    assert not (tmp_path / "target").exists()


def test_a_weight_that_is_not_finite_leaves_nothing_behind(own: Path, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in load_file(own / "model.safetensors").items()}
    state["model.language_model.layers.2.mlp.experts.3.down_proj.weight"][0, 0] = float("inf")
    save_file(state, own / "model.safetensors")
    with pytest.raises(InputError, match=r"layers\.2\.mlp\.experts\.3\.down_proj\.weight has 1 of"):
        expand_folder(FolderWeights(own), tmp_path / "target", SYMMETRIC, storage=Storage(max_shard_bytes=50_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]
