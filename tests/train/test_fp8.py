"""Training with FP8 experts: what the option reaches, what is reported, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from s1pro.base.config import config_from_json, config_to_json
from s1pro.base.errors import InputError
from s1pro.model.network import Network
from s1pro.model.precision import expert_layers
from s1pro.train.config import Fp8Config, TrainRun
from s1pro.train.metrics import read_metrics
from s1pro.train.setup import prepare_network
from s1pro.train.stage import train

MakeRun = Callable[..., TrainRun]


def test_layers_can_be_kept_out(tiny_run: MakeRun) -> None:
    run = tiny_run(expert_precision="fp8", fp8=Fp8Config(scale_format="ue8m0", keep_layers=(0,)))
    layers = expert_layers(prepare_network(Network(run.model), run))
    assert layers[0].fp8 is None
    assert layers[1].fp8 is not None and layers[1].fp8.scale_format == "ue8m0"
    assert config_from_json(TrainRun, config_to_json(run)) == run


def test_settings_without_effect_are_errors(tiny_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="no effect without expert_precision=fp8"):
        tiny_run(fp8=Fp8Config(keep_layers=(0,)))
    run = tiny_run(expert_precision="fp8", fp8=Fp8Config(keep_layers=(2,)))
    with pytest.raises(InputError, match=r"keep_layers: layers \[2\] have no experts"):
        prepare_network(Network(run.model), run)


def test_it_learns_like_float32(tiny_run: MakeRun, copy_source: Callable[..., Any]) -> None:
    losses = {}
    for precision in ("network", "fp8"):
        run = tiny_run(steps=60, expert_precision=precision, router_every=20)
        result = train(run, sources={"copy": copy_source()})
        losses[precision] = [record["loss"] for record in read_metrics(run.folder, "train")]
        records = read_metrics(run.folder, "fp8")
        if precision == "fp8":
            assert [record["step"] for record in records] == [1, 20, 40, 60]
            assert set(records[0]["layers"]) == {"0", "1"}
            assert set(records[0]["layers"]["1"]) == {"gate_up", "down", "x", "h", "dy", "da", "rows"}
            assert all(
                numbers["clipped"] == 0 and 0 < numbers["error"] < 0.1
                for record in records
                for layer in record["layers"].values()
                for numbers in layer.values()
            )
        else:
            assert records == []
        assert all(experts.fp8 is None or experts.fp8.statistics is None for experts in
                   expert_layers(result.network).values())  # fmt: skip
        run.folder.rename(run.folder.with_name(precision))
    first, last = losses["network"][0], losses["network"][-1]
    assert last < first - 0.5
    assert losses["fp8"] != losses["network"]
    assert abs(losses["fp8"][-1] - last) < 0.1 * (first - last)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activation_checkpointing_changes_no_bit(
    tiny_run: MakeRun, copy_source: Callable[..., Any], dtype: str
) -> None:
    losses = []
    for checkpointing in (False, True):
        run = tiny_run(steps=3, expert_precision="fp8", activation_checkpointing=checkpointing, dtype=dtype)
        result = train(run, sources={"copy": copy_source()})
        losses.append((result.loss, [p.detach().clone() for p in result.network.parameters()]))
        run.folder.rename(run.folder.with_name(f"run-{checkpointing}"))
    assert losses[0][0] == losses[1][0]
    assert all(torch.equal(a, b) for a, b in zip(losses[0][1], losses[1][1], strict=True))
