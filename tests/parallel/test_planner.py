"""The planner against numbers worked out by hand, the network on the meta device, and how torch cuts tensors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import PRESETS
from s1pro.model.sizes import cache_bytes_per_token, count_parameters, forward_flops_per_token
from s1pro.parallel.planner.hardware import Cluster, gpu_named
from s1pro.parallel.planner.memory import training_phases
from s1pro.parallel.planner.plan import Plan, make_plan, plan_to_json
from s1pro.parallel.planner.request import Job, Layout, Serving
from s1pro.parallel.planner.search import Wishes, best_plan, next_change
from s1pro.parallel.planner.timing import Efficiency, forward_flops, training_time
from s1pro.parallel.planner.traffic import Group, training_traffic
from s1pro.parallel.planner.weights import shards, weights_of

PRO = PRESETS["intern-s1-pro"]()
PARTIAL = replace(  # padding everywhere: 12 experts, 90 rows, ranks that divide neither
    PRESETS["tiny"](90),
    text=replace(PRESETS["tiny"](90).text, router=replace(PRESETS["tiny"]().text.router, num_experts=12, num_groups=2)),
)


def h200(num_gpus: int) -> Cluster:
    return Cluster(gpu=gpu_named("h200"), num_gpus=num_gpus)


def test_numbers_of_the_specification() -> None:
    sizes = count_parameters(PRO)
    assert round(sizes.text / 1e9, 1) == 916.6
    assert round(sizes.active / 1e9, 1) == 21.7
    assert cache_bytes_per_token(PRO) == 192_512
    plan = make_plan(PRO, Job(recipe="serve", serving=Serving(sequences=3, context=100)), h200(16), None)
    assert plan.phases[0].parts["KV cache"] == 3 * 200 * 192_512


@pytest.mark.parametrize("name", PRESETS)
def test_every_tensor_of_the_network_is_counted(name: str) -> None:
    config = PRESETS[name]()
    with torch.device("meta"):
        network = Network(replace(config, time_series=None))  # whose module is one piece here
    expected = sorted(tuple(p.shape) for p in network.parameters())
    assert sum(w.numel for w in weights_of(config)) == count_parameters(config).total
    config = replace(config, time_series=None)
    assert sorted(w.shape for w in weights_of(config) for _ in range(w.count)) == expected


@pytest.mark.parametrize("layout", [Layout(dp_shard=7, ep=1), Layout(dp_shard=8, ep=2), Layout(dp_shard=2, ep=4)])
def test_shards_are_what_torch_cuts(layout: Layout) -> None:
    with torch.device("meta"):
        parameters = dict(Network(PARTIAL).named_parameters())
    numbers = 0
    for name, tensor in parameters.items():
        experts = ".experts." in name
        local = tensor.chunk(layout.ep)[0] if experts else tensor
        numbers += local.chunk(layout.expert_shard if experts else layout.dp_shard)[0].numel()
    assert shards(PARTIAL, Job(dtype="float32"), layout).parameters == 4 * numbers


def test_state_of_adamw_in_mixed_precision_is_16_bytes_per_parameter() -> None:
    found = shards(PRO, Job(), Layout(dp_shard=64, ep=8))
    total = found.parameters + found.gradients + found.optimizer
    assert total == pytest.approx(16 * count_parameters(PRO).total / 64, rel=1e-3)
    assert round(total / 1e9) == 229
    muon = shards(PRO, Job(optimizer="muon"), Layout(dp_shard=64, ep=8))
    assert found.optimizer - muon.optimizer == pytest.approx(4 * 915.1e9 / 64, rel=2e-3)  # one moment of the matrices


@pytest.fixture(scope="module")
def refused() -> Plan:
    return best_plan(PRO, Job(), h200(64))


def test_64_gpus_are_refused_with_reason_and_smallest_change(refused: Plan) -> None:
    assert not refused.fits and refused.tightest == "memory"
    assert refused.reason.startswith("229 GB of parameters, gradients and optimizer state per rank")
    assert "do not fit into 135 GB of a h200" in refused.reason
    change = next_change(refused)
    assert change is not None and change.plan.fits
    needed = change.plan.cluster.num_gpus
    assert change.what == f"{needed} GPUs instead of 64" and needed % 8 == 0
    assert not best_plan(PRO, Job(), h200(needed - 8)).fits


@pytest.mark.parametrize("num_gpus", [256, 1024])
@pytest.mark.parametrize("recipe", ["pretrain", "rl"])
def test_256_and_1024_gpus_get_a_layout(num_gpus: int, recipe: str) -> None:
    plan = best_plan(PRO, Job(recipe=recipe), h200(num_gpus))
    assert plan.fits and plan.layout is not None and plan.layout.num_ranks == num_gpus
    assert plan.peak.total <= 135e9
    assert {phase.name for phase in plan.phases} >= {"forward", "loss", "update"}
    assert any(phase.name == "generation" for phase in plan.phases) == (recipe == "rl")
    assert 0.03 < (plan.mfu or 0) < 0.6
    json.dumps(plan_to_json(plan), allow_nan=False)


def test_reinforcement_learning_keeps_the_trainer_beside_the_engine() -> None:
    plan = best_plan(PRO, Job(recipe="rl"), h200(256))
    assert plan.state is not None
    generation = plan.phases[-1]
    assert generation.parts["optimizer"] == plan.state.optimizer
    job = plan.job.serving
    assert generation.parts["routing records"] == job.sequences * 2 * job.context * 1504
    at_once = 256 * job.sequences
    assert plan.rollout_seconds == pytest.approx(-(-plan.job.tokens_per_step // at_once) * plan.decode)


def test_a_group_over_nodes_divides_its_bytes() -> None:
    assert Group(8, 1).split(70.0, 8) == (70.0, 0.0)
    assert Group(16, 1).split(150.0, 8) == (70.0, 80.0)
    assert Group(8, 8).split(70.0, 8) == (0.0, 70.0)
    assert Group(4, 2).split(30.0, 4) == pytest.approx((10.0, 20.0))
    assert Group(1, 1).split(5.0, 8) == (0.0, 0.0)


def test_traffic_by_hand() -> None:
    """PRO on 16 ranks: experts divided among 8 neighbours and cut between 2 nodes; 2 micro-batches of 1000 tokens."""
    layout = Layout(dp_shard=16, ep=8, tokens_per_batch=1000)
    flows = {f.purpose: f for f in training_traffic(PRO, Job(tokens_per_step=32_000), layout, h200(16))}
    experts = 94 * 512 * 3 * 4096 * 1536 / 8
    assert flows["gather weights, experts"].network == pytest.approx(2 * 2 * 2 * experts / 2)  # twice, bf16, half
    assert flows["reduce gradients, experts"].network == pytest.approx(2 * 4 * experts / 2)
    assert flows["gather weights, experts"].node == 0
    dispatch = flows["dispatch tokens"]
    assert dispatch.node == pytest.approx(2 * 94 * 5 * 7 * 1000 * 4096 * 2) and dispatch.network == 0
    assert not dispatch.overlaps
    all_to_all = replace(layout, dispatch="all_to_all", checkpointing=False)
    flows = {f.purpose: f for f in training_traffic(PRO, Job(tokens_per_step=32_000), all_to_all, h200(16))}
    assert flows["dispatch tokens"].node == pytest.approx(2 * 94 * 4 * 8 * 1000 * 7 / 8 * 4096 * 2)


def test_time_by_hand() -> None:
    forward = forward_flops(PRO, Job(sequence_length=8192))
    assert sum(forward.values()) == pytest.approx(forward_flops_per_token(PRO, 4096), rel=1e-12)
    layout = Layout(dp_shard=256, ep=8, tokens_per_batch=8192)
    job = Job(tokens_per_step=256 * 8192)
    efficiency = Efficiency(experts=0.5, head=0.5)
    time = training_time(PRO, job, layout, h200(256), [], efficiency)
    assert time.compute["experts"] == pytest.approx(4 * 8192 * forward["experts"] / (989e12 * 0.5))
    assert time.compute["head"] == pytest.approx(3 * 8192 * 2 * 155008 * 4096 / (67e12 * 0.5))
    assert time.exposed == 0
    fp8 = training_time(PRO, replace(job, expert_precision="fp8"), layout, h200(256), [], efficiency)
    assert fp8.compute["experts"] == pytest.approx(time.compute["experts"] * 989 / 1979)


def test_memory_grows_where_it_should() -> None:
    layout, job = Layout(dp_shard=256, ep=8, tokens_per_batch=8192), Job(tokens_per_step=256 * 8192)
    phases = {p.name: p for p in training_phases(PRO, job, layout)}
    whole = {p.name: p for p in training_phases(PRO, job, replace(layout, checkpointing=False))}
    kept = "kept activations"
    assert whole["loss"].parts[kept] > 5 * phases["loss"].parts[kept]
    assert whole["loss"].parts["parameters"] == phases["loss"].parts["parameters"]
    assert phases["loss"].parts["head and logits"] == 2 * 4 * 155008 * 4096 + 2 * 4 * 1024 * 155008
    assert all(value >= 0 for phase in (*phases.values(), *whole.values()) for value in phase.parts.values())
    accumulated = {p.name: p for p in training_phases(PRO, replace(job, tokens_per_step=10 * 256 * 8192), layout)}
    more = accumulated["loss"].total - phases["loss"].total
    assert more == shards(PRO, job, layout).accumulated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ep": 3}, "parallel.ep=3 must divide"),
        ({"dp_shard": 32}, "this run has 64 ranks"),
        ({"ep": 16, "dispatch": "all_gather"}, "needs whole router groups on every rank"),
    ],
)
def test_layouts_that_do_not_exist_are_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(PRO, Job(), h200(64), replace(Layout(dp_shard=64), **change))


def test_other_impossible_wishes_are_errors() -> None:
    with pytest.raises(InputError, match="leave a setting to the search"):
        best_plan(PRO, Job(), h200(64), Wishes(ep=5))
    with pytest.raises(ValueError, match="no multiple of gpus_per_node"):
        h200(12)
    with pytest.raises(InputError, match="choose from a100"):
        gpu_named("h300")
    plan = make_plan(PRO, Job(sequence_length=16384), h200(256), Layout(dp_shard=256, tokens_per_batch=8192))
    assert not plan.fits and "does not fit a micro-batch of 8192" in plan.reason


def test_small_models_fit_on_one_gpu() -> None:
    config: ModelConfig = PRESETS["demo"]()
    plan = best_plan(config, Job(sequence_length=512, tokens_per_step=8192, total_tokens=1e6), h200(1))
    assert plan.fits and plan.layout is not None and plan.layout.ep == 1
    assert plan.flows == [] and plan.gpu_hours < 0.1
