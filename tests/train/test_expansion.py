"""Watching an expansion from the training side: calibration, comparison of networks, copies that come apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from s1pro.base.errors import InputError
from s1pro.checkpoint.calibration import load_calibration, save_calibration
from s1pro.checkpoint.expansion import expand_network
from s1pro.checkpoint.expansion_plan import ExpansionConfig
from s1pro.data.batch import PackedBatch
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig, RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.train.calibration import calibrate
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.copies import copies_hook, copy_similarity, read_origins
from s1pro.train.divergence import compare_networks
from s1pro.train.metrics import read_metrics
from s1pro.train.setup import validation_batches
from s1pro.train.stage import train

Source = Callable[..., object]


def base_config(top_k: int = 2, groups: int = 1) -> ModelConfig:
    config = tiny(16)
    return replace(
        config, text=replace(config.text, router=RouterConfig(num_experts=8, top_k=top_k, num_groups=groups))
    )


@pytest.fixture
def batches(copy_source: Source) -> list[PackedBatch]:
    data = DataConfig(tokens_per_batch=50, max_length=32, lookahead=4, validation_batches=3)
    found = validation_batches([copy_source()], data)
    assert all(batch.num_real_rows < batch.num_rows for batch in found)  # there are tails that must not count
    return found


def spread_out(network: Network) -> Network:
    """Gates large enough for clear choices."""
    with torch.no_grad():
        for layer in network.model.language_model.layers:
            layer.mlp.gate.weight.mul_(20)
    return network


@pytest.mark.parametrize("groups", [1, 2])
def test_calibration_counts_what_the_router_does(batches: list[PackedBatch], groups: int) -> None:
    network = spread_out(Network(base_config(groups=groups), seed=1))
    found = calibrate(network, batches, max_tokens=60)
    counts = np.zeros((2, 8, 8), dtype=np.int64)
    rows = []
    for batch in batches:
        context = PackedContext(cu_seqlens=batch.cu_seqlens)
        with torch.no_grad():
            routers = network(batch.input_ids_T, batch.position_ids_T, context).routers
        for token in range(batch.num_real_rows):
            row = []
            for layer, router in enumerate(routers):
                probs = router.logits_TE[token].softmax(-1)
                order = sorted(range(8), key=lambda e, p=probs: -float(p[e]))
                active = dict(
                    zip(router.topk_ids_TK[token].tolist(), router.topk_weights_TK[token].tolist(), strict=True)
                )
                for rank, expert in enumerate(order):
                    counts[layer, expert, rank] += 1
                row.append((order, [float(probs[e]) for e in order], [active.get(e, 0.0) for e in order]))
            rows.append(row)
    assert found.num_tokens == len(rows) == sum(batch.num_real_rows for batch in batches)
    assert np.array_equal(found.rank_counts_LEX, counts)
    assert found.ids_LTX.shape == (2, 60, 8)
    for token, layer in np.ndindex(60, 2):
        ids, probs, weights = rows[token][layer]
        assert found.ids_LTX[layer, token].tolist() == ids
        assert found.probs_LTX[layer, token] == pytest.approx(probs, abs=1e-6)
        assert found.weights_LTX[layer, token] == pytest.approx(weights, abs=1e-6)


def test_calibration_files_come_back_and_bad_ones_are_refused(batches: list[PackedBatch], tmp_path: Path) -> None:
    made = calibrate(Network(base_config(), seed=1), batches)
    path = tmp_path / "new" / "calibration.safetensors"
    save_calibration(made, path)
    read = load_calibration(path)
    assert (read.top_k, read.num_tokens) == (made.top_k, made.num_tokens)
    for name in ("ids_LTX", "probs_LTX", "weights_LTX", "rank_counts_LEX"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    with pytest.raises(InputError, match="no such calibration"):
        load_calibration(tmp_path / "none")
    tensors = load_file(path)
    good = {"format": "s1pro-calibration-1", "sizes": json.dumps({"top_k": 2, "num_tokens": 10})}

    def refused(changes: dict[str, np.ndarray], metadata: dict[str, str], message: str) -> None:
        save_file({**tensors, **changes}, path, metadata=metadata)
        with pytest.raises(InputError, match=message):
            load_calibration(path)

    refused({}, {"format": "other"}, "not a calibration file")
    refused({}, {"format": good["format"]}, "damaged")
    refused({"ids_LTX": tensors["ids_LTX"] + 7}, good, "out of range")
    refused({"probs_LTX": tensors["probs_LTX"] * np.float32(np.nan)}, good, "not finite")
    refused({"weights_LTX": tensors["weights_LTX"][:, :1]}, good, "different shapes")
    refused({"rank_counts_LEX": tensors["rank_counts_LEX"][:, :4]}, good, "sizes do not fit")
    refused({"ids_LTX": tensors["ids_LTX"].astype(np.int64)}, good, "ids_LTX is int64")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged"):
        load_calibration(path)


def test_comparison_is_the_formula(batches: list[PackedBatch]) -> None:
    before, after = spread_out(Network(base_config(), seed=1)), spread_out(Network(base_config(), seed=2))
    found = compare_networks(before, after, batches, chunk=7)
    losses, divergences = [], []
    for batch in batches:
        with torch.no_grad():
            p, q = (
                n(batch.input_ids_T, batch.position_ids_T, PackedContext(cu_seqlens=batch.cu_seqlens))
                .logits.double()
                .softmax(-1)
                for n in (before, after)
            )
        for row in (batch.loss_weights_T > 0).nonzero()[:, 0].tolist():
            target = int(batch.targets_T[row])
            losses.append((-float(p[row, target].log()), -float(q[row, target].log())))
            divergences.append(float((p[row] * (p[row] / q[row]).log()).sum()))
    assert found["loss_before"] == pytest.approx(np.mean([a for a, _ in losses]), abs=1e-6)
    assert found["loss_after"] == pytest.approx(np.mean([b for _, b in losses]), abs=1e-6)
    assert found["kl"] == pytest.approx(np.mean(divergences), abs=1e-6)
    assert found["tokens"] == len(losses)
    assert compare_networks(before, before, batches)["kl"] == 0
    with pytest.raises(ValueError, match="loss weight"):
        empty = replace(batches[0], loss_weights_T=torch.zeros(50), targets_T=torch.full((50,), -100))
        compare_networks(before, after, [empty])


def test_similarity_is_its_definition() -> None:
    network, origins = expand_network(
        Network(base_config(), seed=1), ExpansionConfig(factor=2, groups=4, strategy="A", expert_noise=0.1)
    )
    found = copy_similarity(network, origins)["1"]
    experts = network.model.language_model.layers[1].mlp.experts
    distances, cosines = [], []
    for original in range(8):
        first, second = np.flatnonzero(origins[1] == original)
        a, b = (
            torch.cat([experts.gate_up_proj[e].flatten(), experts.down_proj[e].flatten()]).detach()
            for e in (first, second)
        )
        distances.append(float((a - b).norm() / ((a.norm() + b.norm()) / 2)))
        cosines.append(float(a @ b / a.norm() / b.norm()))
    assert found["expert_distance"] == pytest.approx(np.mean(distances), rel=1e-4)
    assert found["expert_cosine"] == pytest.approx(np.mean(cosines), rel=1e-4)
    assert found["identical"] == 0
    assert 0.015 < found["router_distance"] < 0.04  # two draws of 0.02
    with pytest.raises(ValueError, match="origins of"):
        copy_similarity(Network(base_config()), origins)


def continued(run: TrainRun, source: object, config: ExpansionConfig, steps: int = 25) -> dict[str, dict[str, float]]:
    """Copies after so many steps of AdamW on an expanded network, measured by the hook of the training loop."""
    base = Network(base_config(), seed=1)
    data = validation_batches([source], DataConfig(tokens_per_batch=240, max_length=32, validation_batches=2))
    network, origins = expand_network(base, config, calibrate(base, data))
    run = replace(run, steps=steps, eval_every=5, model=None, straight_through=True)
    result = train(run, network=network, sources={"copy": source}, on_evaluate=copies_hook(origins))
    stored = read_metrics(run.folder, "validation")
    assert [record["step"] for record in stored] == [5, 10, 15, 20, 25]
    copies: dict[str, dict[str, float]] = result.validation["copies"]
    assert copies == copy_similarity(network, origins)
    return copies


def test_copies_without_noise_stay_equal_in_every_bit(tiny_run: Callable[..., TrainRun], copy_source: Source) -> None:
    config = ExpansionConfig(strategy="A", router_noise=0.0, allow_symmetric=True)
    for layer in continued(tiny_run(), copy_source(), config).values():
        assert (layer["expert_distance"], layer["router_distance"], layer["identical"]) == (0, 0, 1)


def test_copies_with_noise_come_apart(tiny_run: Callable[..., TrainRun], copy_source: Source) -> None:
    for layer in continued(tiny_run(), copy_source(), ExpansionConfig(strategy="A")).values():
        assert layer["identical"] == 0
        assert layer["expert_distance"] > 0.01


def test_fitted_copies_come_apart_even_without_noise(tiny_run: Callable[..., TrainRun], copy_source: Source) -> None:
    """Their sets are cut differently, so copies meet different rivals and get different tokens."""
    config = ExpansionConfig(strategy="fitted", router_noise=0.0, allow_symmetric=True)
    copies = continued(tiny_run(), copy_source(), config)
    assert max(layer["expert_distance"] for layer in copies.values()) > 0.01


def test_origins_are_read_from_the_folder_of_an_expansion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not written by s1pro expand"):
        read_origins(tmp_path)
    for text in ("{", "{}", '{"origins": [[1], [2, 3]]}', '{"origins": [1]}'):
        (tmp_path / "expansion.json").write_text(text)
        with pytest.raises(InputError, match="origins"):
            read_origins(tmp_path)
    (tmp_path / "expansion.json").write_text('{"origins": [[1, 0], [0, 1]]}')
    assert read_origins(tmp_path).tolist() == [[1, 0], [0, 1]]
