"""Freezing: the projector learns through a frozen language model, and what is frozen stays as it was, bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches
from s1pro.data.sequence import TokenSequence
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.train.config import DataConfig, TrainRun
from s1pro.train.losses import LossConfig
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.setup import prepare_network
from s1pro.train.stage import train
from tests.train import shapes

MakeRun = Callable[..., TrainRun]
IMAGE = shapes.VOCABULARY


class CaptionedShapes:
    """`picture words`: the language model has to name what the picture shows."""

    name = "captions"

    def __init__(self, *, held_out: bool = False) -> None:
        self._pairs = shapes.pairs(held_out=held_out, seed=int(held_out))

    def __len__(self) -> int:
        return len(self._pairs)

    def num_rows(self, index: int) -> int:
        return self.sequence(index).num_rows

    def is_conversation(self, index: int) -> bool:
        return True

    def has_media(self, index: int) -> bool:
        return True

    def sequence(self, index: int) -> TokenSequence:
        pair = self._pairs.pair(index)
        tokens = len(pair.patches_PX) // 4
        ids = np.concatenate([np.full(tokens, IMAGE), pair.caption_ids]).astype(np.int32)
        weights = np.concatenate([np.zeros(tokens), np.ones(len(pair.caption_ids))]).astype(np.float32)
        media = Media(images=Patches(pixel_values_PX=pair.patches_PX, grids=(pair.grid,)))
        return TokenSequence(
            token_ids=ids, loss_weights=weights, prompt_group="general", conversation=True, media=media
        )


def vision_language() -> ModelConfig:
    vision = dataclasses.replace(shapes.model_config(out=64).vision, out_hidden_size=64)
    return dataclasses.replace(tiny(vocab_size=shapes.VOCABULARY + 2), vision=vision, image_token_id=IMAGE)


@pytest.fixture
def media_run(tiny_run: MakeRun) -> MakeRun:
    def make(**changes: Any) -> TrainRun:
        options: dict[str, Any] = {
            "model": vision_language(),
            "data": DataConfig(tokens_per_batch=128, max_length=32, lookahead=4),
            "loss": LossConfig(balance=0.0),
            "steps": 4,
        }
        return tiny_run(**(options | changes))

    return make


def weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_only_the_projector_changes_and_only_it_has_state(media_run: MakeRun, kind: str, dtype: str) -> None:
    run = media_run(
        trainable=("model.visual.merger.*",),
        dtype=dtype,
        optimizer=OptimizerConfig(kind=kind, lr=1e-2),  # type: ignore[arg-type]
    )
    before = weights(prepare_network(Network(run.model, seed=run.seed), run))  # type: ignore[arg-type]
    network = train(run, sources={"captions": CaptionedShapes()}).network
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    projector = {name for name in before if name.startswith("model.visual.merger.")}
    assert changed == projector and len(projector) == 6
    assert set(Optimizer(network, run.optimizer).state_dict()) == projector
    assert {name for name, param in network.named_parameters() if param.requires_grad} == projector


def test_the_projector_learns_through_the_frozen_language_model(media_run: MakeRun) -> None:
    run = media_run(trainable=("model.visual.merger.*",), steps=40, optimizer=OptimizerConfig(kind="muon", lr=1e-2))
    result = train(run, sources={"captions": CaptionedShapes()})
    losses = [record["loss"] for record in read_metrics(run.folder, "train")]
    assert losses[-1] < losses[0] - 0.1
    assert result.skipped == 0


def test_gradients_of_the_projector_do_not_depend_on_what_is_frozen(media_run: MakeRun) -> None:
    found = []
    for trainable in (("model.visual.merger.*",), None):
        run = media_run(trainable=trainable, steps=1, optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.0),
                        folder=media_run().folder / str(trainable is None))  # fmt: skip
        run = dataclasses.replace(run, guards=dataclasses.replace(run.guards, max_grad_norm=None))
        network = train(run, sources={"captions": CaptionedShapes()}).network
        found.append({n: p.detach() for n, p in network.named_parameters() if n.startswith("model.visual.merger.")})
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], atol=1e-7, rtol=1e-5)


def test_frozen_routers_stay_frozen_whatever_is_trainable(media_run: MakeRun) -> None:
    gate = "model.language_model.layers.0.mlp.gate.weight"
    for freeze, trainable, expected in (
        (True, ("model.language_model.*",), False),
        (False, ("model.language_model.*",), True),
        (False, ("model.visual.*",), False),
        (True, None, False),
    ):
        run = media_run(freeze_router=freeze, trainable=trainable)
        network = prepare_network(Network(vision_language()), run)
        assert network.get_parameter(gate).requires_grad is expected
        assert network.lm_head.weight.requires_grad is (trainable is None)


def test_a_resumed_stage_keeps_its_frozen_parts(media_run: MakeRun, tmp_path: Path) -> None:
    whole = media_run(trainable=("model.visual.merger.*", "lm_head.*"), checkpoint_every=2, folder=tmp_path / "whole")
    result = train(whole, sources={"captions": CaptionedShapes()})
    broken = dataclasses.replace(whole, folder=tmp_path / "broken")

    def stop(trainer: Any) -> dict[str, Any]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train(dataclasses.replace(broken, eval_every=3), sources={"captions": CaptionedShapes()}, on_evaluate=stop)
    resumed = train(broken, sources={"captions": CaptionedShapes()})
    pairs = zip(result.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(InputError, match=r"trainable\.1 was 'lm_head\.\*', now None"):
        train(
            dataclasses.replace(broken, trainable=("model.visual.merger.*",)), sources={"captions": CaptionedShapes()}
        )


def test_patterns_without_a_match_list_the_parts(media_run: MakeRun) -> None:
    message = r"trainable: 'model.visual.projector.\*' matches no parameter; there are lm_head.weight, model.lang"
    with pytest.raises(InputError, match=message):
        train(media_run(trainable=("model.visual.projector.*",)), sources={"captions": CaptionedShapes()})
    with pytest.raises(ValueError, match="empty list"):
        media_run(trainable=())
