"""Weights on the wire: FP8 experts as bytes, and a changed bit is noticed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from s1pro.model.network import Network
from s1pro.model.precision import expert_layers
from s1pro.rl.config import RLRun
from s1pro.rl.system import publication
from s1pro.rl.system.publication import PublicationError, check_received, drop_masters, publish, receive
from s1pro.serve.engine import Engine
from s1pro.train.config import Fp8Config
from s1pro.train.setup import prepare_network
from tests.rl.letters import VOCABULARY, policy, run_in


def sides(folder: Path, **settings: object) -> tuple[Network, Network]:
    """A trainer's network, and a worker's that has other weights."""
    run: RLRun = run_in(folder, **settings)
    trainer, worker = (prepare_network(policy(seed), run) for seed in (1, 2))
    worker.eval().requires_grad_(False)
    drop_masters(worker)
    return trainer, worker


def load_into(worker: Network, published: publication.Publication) -> Engine:
    engine = Engine(worker)
    engine.update_weights(receive(worker, published), published.version, partial=True)
    check_received(worker, published)
    return engine


@pytest.mark.parametrize("precision", ["network", "fp8"])
def test_both_sides_compute_the_same(precision: str, tmp_path: Path) -> None:
    trainer, worker = sides(tmp_path, expert_precision=precision)
    published = publish(trainer, 5)
    engine = load_into(worker, published)
    assert engine.policy_version == 5
    ids = torch.arange(20) % VOCABULARY
    from s1pro.kernels.attention import PackedContext

    with torch.no_grad():
        outputs = [n.eval()(ids, torch.arange(20), PackedContext(cu_seqlens=(0, 20))) for n in (trainer, worker)]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    if precision == "fp8":
        for experts in expert_layers(worker).values():
            assert experts.gate_up_proj.untyped_storage().nbytes() == 4  # no masters beside the bytes


def test_experts_travel_as_bytes(tmp_path: Path) -> None:
    trainer, _ = sides(tmp_path, expert_precision="fp8", fp8=Fp8Config(keep_layers=(0,)))
    tensors = {name: t for piece in publish(trainer, 0).pieces for name, t in load(piece.tobytes()).items()}
    prefix = "model.language_model.layers.{}.mlp.experts."
    assert tensors[prefix.format(1) + "gate_up.fp8"].dtype is torch.float8_e4m3fn
    assert tensors[prefix.format(1) + "gate_up.scale"].dtype is torch.float32
    assert prefix.format(1) + "gate_up_proj" not in tensors and prefix.format(0) + "gate_up_proj" in tensors
    plain, _ = sides(tmp_path)
    experts = sum(p.numel() for e in expert_layers(plain).values() for p in e.parameters())
    quantised, _ = sides(tmp_path, expert_precision="fp8")
    saved = publish(plain, 0).num_bytes - publish(quantised, 0).num_bytes
    assert 2.9 * experts < saved <= 3 * experts  # three of four bytes, less the scales


def test_the_hash_is_over_names_types_shapes_and_bytes(tmp_path: Path) -> None:
    trainer, _ = sides(tmp_path)
    expected = hashlib.sha256()
    for name, tensor in sorted(trainer.state_dict().items()):
        expected.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode() + tensor.numpy().tobytes())
    assert publish(trainer, 0).digest == expected.hexdigest()


@pytest.mark.parametrize("precision", ["network", "fp8"])
def test_a_changed_byte_is_noticed(precision: str, tmp_path: Path) -> None:
    trainer, worker = sides(tmp_path, expert_precision=precision)
    published = publish(trainer, 3)
    draw = np.random.default_rng(0)
    (piece,) = published.pieces
    header = 8 + int.from_bytes(piece[:8].tobytes(), "little")
    for place in draw.integers(header, len(piece), 20):
        changed = piece.copy()
        changed[place] ^= 1
        with pytest.raises(PublicationError, match="weights 3: what arrived has SHA-256"):
            load_into(worker, replace(published, pieces=(changed,)))
    load_into(worker, published)


def test_other_precision_on_the_other_side_is_noticed(tmp_path: Path) -> None:
    trainer, _ = sides(tmp_path, expert_precision="fp8")
    _, worker = sides(tmp_path)
    with pytest.raises(PublicationError, match="in the publication or the network, not both"):
        receive(worker, publish(trainer, 0))
    trainer, _ = sides(tmp_path)
    worker = worker.bfloat16()
    with pytest.raises(PublicationError, match="do not compute with the same numbers"):
        load_into(worker, publish(trainer, 0))


def test_large_models_travel_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "PIECE_BYTES", 100_000)
    trainer, worker = sides(tmp_path)
    published = publish(trainer, 1)
    assert len(published.pieces) > 5 and max(piece.nbytes for piece in published.pieces) < 270_000
    load_into(worker, published)
