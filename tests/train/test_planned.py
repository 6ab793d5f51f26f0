"""What the planner predicts is what the real parallel code needs: on fake tensors, in worlds of many ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch.distributed as dist

from s1pro.base.errors import InputError
from s1pro.model.config import ModelConfig
from s1pro.model.presets import PRESETS
from s1pro.parallel.planner.hardware import Cluster, gpu_named
from s1pro.parallel.planner.plan import Plan, make_plan
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.timing import Efficiency
from s1pro.recipes import RECIPES
from s1pro.recipes.at_scale import plan_of
from s1pro.rl.planned import policy_loss
from s1pro.train.planned import language_model_loss, verify


def plan(model: ModelConfig, layout: Layout, **job: object) -> Plan:
    """Equal rows on all ranks, which is what tensors without values have."""
    cluster = Cluster(gpu=gpu_named("h200"), num_gpus=layout.num_ranks)
    return make_plan(model, Job(**job), cluster, layout, Efficiency(imbalance=1.0))  # type: ignore[arg-type]


def wide() -> ModelConfig:
    """A model small enough for a fast test, with the proportions of a large one."""
    text = PRESETS["bench"]().text
    return replace(
        PRESETS["bench"](),
        text=replace(text, hidden_size=1024, num_hidden_layers=12, moe_intermediate_size=512, head_dim=128),
    )


@pytest.mark.parametrize(
    ("layout", "batches"),
    [
        (Layout(dp_shard=32, ep=8, tokens_per_batch=4096), 2),
        (Layout(dp_shard=16, ep=16, dispatch="counted", tokens_per_batch=2048, checkpointing=False), 1),
    ],
    ids=["recomputed", "kept"],
)
def test_prediction_and_measurement_agree(layout: Layout, batches: int) -> None:
    job = {"sequence_length": 2048, "tokens_per_step": batches * layout.num_ranks * layout.tokens_per_batch}
    found = verify(plan(wide(), layout, **job), depths=(3, 4))
    assert found.parameters_agree
    assert found.predicted_optimizer == found.measured.optimizer
    assert abs(found.peak_error) < 0.05
    assert found.predicted_received == pytest.approx(found.measured.received, rel=0.02)
    assert not dist.is_initialized()


def test_what_cannot_be_verified_is_an_error() -> None:
    served = make_plan(wide(), Job(recipe="serve"), Cluster(gpu=gpu_named("h200"), num_gpus=16), None)
    with pytest.raises(InputError, match="nothing is trained"):
        verify(served)
    fine = plan(wide(), Layout(dp_shard=8, ep=8))
    with pytest.raises(InputError, match="at least two different"):
        verify(fine, depths=(4,))
    text = replace(wide().text, mlp_only_layers=(0,), intermediate_size=512)
    with pytest.raises(InputError, match="dense blocks"):
        verify(plan(replace(wide(), text=text), Layout(dp_shard=8, ep=8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"{m}-{stage}" for m in ("30b-a3b", "intern-s1-pro") for stage in ("cpt", "sft", "rl")]
)
def test_recipes_are_what_they_plan_to_be(name: str) -> None:
    run = RECIPES[name]()
    planned = plan_of(run, name.rsplit("-", 1)[0])  # type: ignore[arg-type]
    assert planned.fits
    found = verify(planned, loss_of=policy_loss if name.endswith("rl") else language_model_loss)
    assert found.agrees(), f"{found.peak_error:+.2%}"


@pytest.mark.slow
def test_a_thousand_ranks_in_two_copies() -> None:
    layout = Layout(dp_replicate=2, dp_shard=512, ep=8, tokens_per_batch=8192)
    found = verify(plan(PRESETS["intern-s1-pro"](), layout, tokens_per_step=1024 * 8192))
    assert found.agrees(), f"{found.peak_error:+.2%}"
