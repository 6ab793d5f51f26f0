"""One plan: a job on a cluster in a layout, with its memory, traffic and time, and whether it can run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.model.config import ModelConfig
from s1pro.model.sizes import cache_bytes_per_token, count_parameters, routing_bytes_per_token
from s1pro.parallel.config import MeshSizes, ParallelConfig
from s1pro.parallel.planner.hardware import Cluster
from s1pro.parallel.planner.memory import Phase, training_phases
from s1pro.parallel.planner.request import Dispatch, Job, Layout
from s1pro.parallel.planner.timing import Efficiency, StepTime, decode_seconds, engine_weight_bytes, training_time
from s1pro.parallel.planner.traffic import Flow, training_traffic
from s1pro.parallel.planner.weights import Shards, shards

GENERATION = "generation"
"""The phase in which the engine runs."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """See the module docstring.

    Attributes:
        layout: of the training ranks; None when nothing is trained.
        state: what training keeps on one rank, None when nothing is trained.
        phases: memory of one rank, phase by phase.
        flows, time: of one optimizer step; empty and None when nothing is trained.
        decode: seconds of one generated token of every running sequence; None when nothing is generated.
    """

    model: ModelConfig
    cluster: Cluster
    job: Job
    efficiency: Efficiency
    layout: Layout | None
    state: Shards | None
    phases: Sequence[Phase]
    flows: Sequence[Flow] = ()
    time: StepTime | None = None
    decode: float | None = None
    faults: Sequence[str] = field(default=())

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def fits(self) -> bool:
        return not self.faults and self.peak.total <= self.cluster.usable_bytes

    @property
    def state_bytes(self) -> float:
        """Parameters, gradients, master weights and moments of one rank."""
        return 0 if self.state is None else self.state.parameters + self.state.gradients + self.state.optimizer

    @property
    def rollout_seconds(self) -> float:
        """Generating the tokens of one step, on all GPUs."""
        if self.decode is None or self.job.recipe != "rl":
            return 0.0
        at_once = self.cluster.num_gpus * self.job.serving.sequences
        return math.ceil(self.job.tokens_per_step / at_once) * self.decode

    @property
    def tokens_per_second(self) -> float:
        """Of the whole cluster: learned from, or generated when serving."""
        if self.time is None or self.layout is None:
            assert self.decode is not None
            return self.cluster.num_gpus * self.job.serving.sequences / self.decode
        tokens = self.layout.accumulation(self.job.tokens_per_step) * self.layout.tokens_per_batch
        return tokens * self.layout.num_ranks / (self.time.step + self.rollout_seconds)

    @property
    def gpu_hours(self) -> float:
        return self.job.total_tokens / self.tokens_per_second / 3600 * self.cluster.num_gpus

    @property
    def mfu(self) -> float | None:
        """Arithmetic that the model needs, over what all bfloat16 units could do in the time of a training step."""
        if self.time is None:
            return None
        return self.time.flops / (self.time.step * self.cluster.gpu.bf16_tflops * 1e12)

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of a step by what they wait for."""
        if self.time is None:
            return {"generation": self.decode or 0.0}
        kinds = {f"arithmetic, {kind}": seconds for kind, seconds in self.time.compute.items()}
        if self.time.exposed:
            kinds["traffic that nothing hides"] = self.time.exposed
        kinds["optimizer, memory bandwidth"] = self.time.update
        return kinds | ({"generation": self.rollout_seconds} if self.rollout_seconds else {})

    @property
    def tightest(self) -> str:
        """The resource that ends first: memory when it does not suffice, else what most of the time is spent on."""
        if self.peak.total > self.cluster.usable_bytes:
            return "memory"
        kind, seconds = max(self.spent.items(), key=lambda item: item[1])
        return f"{kind} ({seconds / sum(self.spent.values()):.0%} of the time)"

    @property
    def reason(self) -> str:
        """Why it can run, or cannot, in one sentence."""
        gpu, usable, peak = self.cluster.gpu, self.cluster.usable_bytes / 1e9, self.peak
        room = f"{usable:.0f} GB of a {gpu.name} ({gpu.memory_gb:.0f} GB less {self.cluster.reserve_gb:.0f} GB reserve)"
        if self.faults:
            return self.faults[0]
        state = f"{self.state_bytes / 1e9:.0f} GB of parameters, gradients and optimizer state per rank, "
        state = state if self.state is not None else ""
        if self.fits:
            return f"{state}{peak.total / 1e9:.0f} GB at the peak ({peak.name}), fit into {room}"
        return f"{state}{peak.total / 1e9:.0f} GB at the peak ({peak.name}), do not fit into {room}"


def make_plan(
    model: ModelConfig, job: Job, cluster: Cluster, layout: Layout | None, efficiency: Efficiency | None = None
) -> Plan:
    """The plan of exactly this layout.

    Raises:
        InputError: axes that do not fit the cluster or the model.
    """
    efficiency = efficiency or Efficiency()
    if job.trains != (layout is not None):
        raise InputError("a layout of training ranks is needed where something is trained, and nowhere else")
    plan = Plan(model=model, cluster=cluster, job=job, efficiency=efficiency, layout=layout, state=None, phases=())
    if layout is not None:
        check_layout(model, cluster, layout)
        flows = training_traffic(model, job, layout, cluster)
        plan = replace(
            plan,
            state=shards(model, job, layout),
            phases=training_phases(model, job, layout, busiest=efficiency.busiest(layout)),
            flows=flows,
            time=training_time(model, job, layout, cluster, flows, efficiency),
        )
    return with_engine(plan, job)


def with_engine(plan: Plan, job: Job) -> Plan:
    """The plan with the engine of `job`, which differs from the plan's own job in nothing else."""
    plan = replace(plan, job=job, faults=_faults(plan.model, job, plan.cluster, plan.layout))
    if not job.generates:
        return plan
    training = [phase for phase in plan.phases if phase.name != GENERATION]
    return replace(
        plan,
        phases=(*training, _generation(plan.model, job, plan.state)),
        decode=decode_seconds(plan.model, job, plan.cluster, plan.efficiency),
    )


def check_layout(model: ModelConfig, cluster: Cluster, layout: Layout) -> None:
    """The rules of `parallel.config` and `parallel.dispatch`, before anything is computed."""
    parallel = ParallelConfig(dp_replicate=layout.dp_replicate, dp_shard=layout.dp_shard, ep=layout.ep)
    MeshSizes.of(parallel, cluster.num_gpus)
    router = model.text.router
    if layout.ep > 1 and not model.text.moe_layers:
        raise InputError(f"ep={layout.ep}, but this model has no experts")
    if router.num_experts % layout.ep:
        raise InputError(f"ep={layout.ep}: {router.num_experts} experts cannot be divided among so many ranks")
    if layout.ep > 1 and layout.dispatch != best_dispatch(model, layout.ep) != "all_gather":
        raise InputError(
            f"dispatch={layout.dispatch} needs whole router groups on every rank; {router.num_groups} groups cannot be "
            f"divided among ep={layout.ep} ranks"
        )


def best_dispatch(model: ModelConfig, ep: int) -> Dispatch:
    """What `dispatch=auto` takes."""
    return "all_gather" if model.text.router.num_groups % ep == 0 else "counted"


def _faults(model: ModelConfig, job: Job, cluster: Cluster, layout: Layout | None) -> list[str]:
    """What makes a plan impossible, apart from memory."""
    faults = []
    if layout is not None and layout.tokens_per_batch < job.sequence_length:
        faults.append(
            f"a sequence of {job.sequence_length} tokens does not fit a micro-batch of {layout.tokens_per_batch}"
        )
    longest = model.text.rope.max_position_embeddings
    if job.sequence_length > longest:
        faults.append(f"sequences of {job.sequence_length} tokens are longer than this model's {longest} positions")
    ranks, experts = job.serving.ranks, model.text.router.num_experts
    if job.generates and (cluster.num_gpus % ranks or experts % ranks):
        faults.append(
            f"an engine on {ranks} ranks does not divide {cluster.num_gpus} GPUs and {experts} experts; "
            "choose another serving.ranks"
        )
    return faults


def _generation(model: ModelConfig, job: Job, state: Shards | None) -> Phase:
    """The engine at work; beside it, in reinforcement learning, the trainer at rest."""
    serving = job.serving
    full = 2 * serving.context  # a sequence is half generated on average
    parts: dict[str, float] = {
        "engine weights": engine_weight_bytes(model, job),
        "KV cache": serving.sequences * full * cache_bytes_per_token(model),
        "dispatch buffers": 8 * 2 * serving.sequences * serving.ranks * model.text.hidden_size,
    }
    if state is not None:
        parts |= {"parameters": state.parameters, "optimizer": state.optimizer}
        parts["routing records"] = serving.sequences * full * routing_bytes_per_token(model)
    return Phase(name=GENERATION, parts=parts)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Everything a program may want to know; bytes and seconds."""
    sizes = count_parameters(plan.model)
    time = None
    if plan.time is not None:
        time = {
            "step": plan.time.step,
            "compute": dict(plan.time.compute),
            "node_links": plan.time.node_links,
            "network": plan.time.network,
            "exposed": plan.time.exposed,
            "update": plan.time.update,
            "flops_per_rank": plan.time.flops,
            "mfu": plan.mfu,
        }
    return {
        "feasible": plan.fits,
        "reason": plan.reason,
        "tightest": plan.tightest,
        "parameters": sizes.total,
        "active_parameters": sizes.active,
        "cluster": config_to_json(plan.cluster),
        "job": config_to_json(plan.job),
        "efficiency": config_to_json(plan.efficiency),
        "layout": None if plan.layout is None else config_to_json(plan.layout),
        "state_bytes_per_rank": plan.state_bytes,
        "usable_bytes_per_rank": plan.cluster.usable_bytes,
        "peak_bytes_per_rank": plan.peak.total,
        "peak_phase": plan.peak.name,
        "phases": {phase.name: dict(phase.parts) for phase in plan.phases},
        "traffic_bytes_per_step": {
            flow.purpose: {"node": flow.node, "network": flow.network, "overlaps": flow.overlaps} for flow in plan.flows
        },
        "seconds": time,
        "rollout_seconds": plan.rollout_seconds,
        "decode_seconds": plan.decode,
        "tokens_per_second": plan.tokens_per_second,
        "gpu_hours": plan.gpu_hours,
    }
