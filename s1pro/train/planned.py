"""A training step without numbers: the real code on fake tensors, in a world of ranks that do not exist.

What `parallel.planner` says on paper is measured here, on one CPU core, for any number of ranks:

1. a process group of the `fake` backend, in which this process is rank 0 of hundreds, and the meshes of `parallel.mesh`
2. the network at some depth on the meta device, spread by `parallel.apply` (experts, recomputation, FSDP2) as for real
   training; then, under `FakeTensorMode`, its optimizer, the language-model loss, forward and backward, the update
3. torch's `MemTracker` watches every byte: peaks of the forward pass and of each block's backward pass, and what lies
   there before and after gradients are collected
4. this at three depths; every one of these numbers grows linearly with depth, so a line through them gives the full one

Bytes that collectives move are counted beside it. Shapes are those of a GPU: experts take the way of `experts_grouped`.
Attention is the flash kernel of the CPU, which keeps what that of a GPU keeps. Not seen are workspaces of kernels and
what an allocator loses; that is what the reserve of a cluster is for. Media are left out; their towers are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from s1pro.base.errors import InputError
from s1pro.data.batch import PackedBatch
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.parallel.apply import parallelize
from s1pro.parallel.config import MeshSizes, ParallelConfig
from s1pro.parallel.mesh import Ranks, build_ranks
from s1pro.parallel.planner.memory import training_phases
from s1pro.parallel.planner.plan import Plan
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.traffic import training_traffic
from s1pro.parallel.planner.weights import shards
from s1pro.parallel.regions import local_part
from s1pro.train.losses import LanguageModelLoss, LossConfig, LossFunction, StepTotals
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.setup import to_bfloat16

DEPTHS = (3, 4, 5)
MOST_BATCHES = 2
"""Micro-batches of a measured step: from the second one on, all are alike."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Bytes of rank 0 at one depth.

    Attributes:
        peaks: by window of the step.
        received: by collectives, in one micro-batch.
    """

    parameters: int
    optimizer: int
    peaks: Mapping[str, float]
    received: float


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Prediction against measurement, per rank, with equal rows on all ranks.

    `by_depth` holds what was measured, the rest is at full depth.
    """

    by_depth: Mapping[int, Measured]
    measured: Measured
    predicted_parameters: int
    predicted_optimizer: int
    predicted_peak: float
    predicted_received: float

    @property
    def measured_peak(self) -> float:
        return max(self.measured.peaks.values())

    @property
    def peak_error(self) -> float:
        """Relative, positive where the prediction is too high."""
        return self.predicted_peak / self.measured_peak - 1

    @property
    def parameters_agree(self) -> bool:
        return self.predicted_parameters == self.measured.parameters

    def agrees(self, tolerance: float = 0.05) -> bool:
        """Parameters exactly, the peak within `tolerance`."""
        return self.parameters_agree and abs(self.peak_error) <= tolerance


LossOf = Callable[[Job], "tuple[LossFunction[Network, PackedBatch], Callable[[PackedBatch], PackedBatch]]"]
"""The loss of a job, and what has to be added to a batch of tokens for it."""


def language_model_loss(job: Job) -> tuple[LanguageModelLoss, Callable[[PackedBatch], PackedBatch]]:
    """The loss of pre-training and fine-tuning."""
    loss = LanguageModelLoss(LossConfig(balance=1e-3 if job.balance_loss else 0.0, chunk=job.loss_chunk))
    return loss, lambda batch: batch


def verify(plan: Plan, depths: Sequence[int] = DEPTHS, *, loss_of: LossOf = language_model_loss) -> Verification:
    """Measures a plan; see the module docstring.

    Args:
        loss_of: other stages bring their own (`rl.planned`).

    Raises:
        InputError: nothing is trained, the depths do not suffice, or this process is part of a real run already.
    """
    layout, model, job = plan.layout, plan.model, plan.job
    if layout is None:
        raise InputError("only training can be verified: nothing is trained when a model is served")
    if len(set(depths)) < 2 or min(depths) < 3:
        raise InputError(f"depths {tuple(depths)}: at least two different ones are needed, none below 3")
    if len(model.text.moe_layers) != model.text.num_hidden_layers:
        raise InputError("only models whose blocks are all alike can be extrapolated; this one has dense blocks")
    with _world(layout) as (ranks, parallel):
        by_depth = {depth: _measure(_at_depth(model, depth), job, layout, ranks, parallel, loss_of) for depth in depths}
    expected = shards(model, job, layout)
    whole = replace(job, tokens_per_step=layout.num_ranks * layout.tokens_per_batch)
    flows = training_traffic(model, whole, layout, plan.cluster)
    return Verification(
        by_depth=by_depth,
        measured=_extrapolated(by_depth, model.text.num_hidden_layers),
        predicted_parameters=expected.parameters,
        predicted_optimizer=expected.optimizer,
        predicted_peak=max(phase.total for phase in training_phases(model, job, layout)),
        predicted_received=sum(flow.total for flow in flows),
    )


def _at_depth(model: ModelConfig, depth: int) -> ModelConfig:
    return replace(model, text=replace(model.text, num_hidden_layers=depth))


@contextmanager
def _world(layout: Layout) -> Iterator[tuple[Ranks, ParallelConfig]]:
    """Rank 0 of as many ranks as the layout has. Meshes cannot be built from fake tensors, so they come first."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        raise InputError("this process is part of a distributed run; verify plans in a process of their own")
    parallel = ParallelConfig(
        dp_replicate=layout.dp_replicate,
        dp_shard=layout.dp_shard,
        ep=layout.ep,
        dispatch=layout.dispatch if layout.ep > 1 else "auto",
    )
    sizes = MeshSizes.of(parallel, layout.num_ranks)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=layout.num_ranks)
    try:
        yield build_ranks(sizes, "cpu"), parallel
    finally:
        dist.destroy_process_group()


def _measure(
    model: ModelConfig, job: Job, layout: Layout, ranks: Ranks, parallel: ParallelConfig, loss_of: LossOf
) -> Measured:
    with torch.device("meta"):
        network = Network(model)
        if job.dtype == "bfloat16":
            to_bfloat16(network)
        parallelize(network, ranks, parallel, activation_checkpointing=layout.checkpointing)
    with FakeTensorMode(allow_non_fake_inputs=True):  # it takes the meta tensors over
        network.to_empty(device="cpu")
        tracker, collectives = MemTracker(), _Collectives()
        tracker.track_external(network)
        with tracker:
            optimizer = Optimizer(network, OptimizerConfig(kind=job.optimizer), ranks)
            peaks = _step(network, optimizer, job, layout, tracker, collectives, loss_of)
        state = (tensor for tensors in optimizer.state_dict().values() for tensor in tensors.values())
        return Measured(
            parameters=sum(local_part(p).nbytes for p in network.parameters()),
            optimizer=sum(tensor.nbytes for tensor in state if tensor.dim()),
            peaks=peaks,
            received=collectives.received,
        )


def _step(
    network: Network,
    optimizer: Optimizer,
    job: Job,
    layout: Layout,
    tracker: MemTracker,
    collectives: _Collectives,
    loss_of: LossOf,
) -> dict[str, float]:
    loss, complete = loss_of(job)
    totals = StepTotals(weight=1.0, rows=layout.tokens_per_batch, sources={"text": 1.0})
    peaks: dict[str, float] = {}
    starts: list[float] = []
    for number in range(min(layout.accumulation(job.tokens_per_step), MOST_BATCHES)):
        tracker.reset_mod_stats()  # the last micro-batch finds the gradients of the others, so its peaks count
        starts.append(_total(tracker, "current"))
        with collectives if number == 0 else nullcontext():
            output = loss(network, complete(_batch(job, layout)), totals)
            peaks.setdefault("forward and loss", _total(tracker, "peak"))
            output.loss.backward()
        del output
        peaks["gradients"] = _total(tracker, "current")
        optimizer.collect_gradients()
        peaks["collected"] = _total(tracker, "current")
    peaks["forward and loss"] += starts[-1] - starts[0]
    for layer, name in ((0, "first"), (-2, "last but one"), (-1, "last")):
        block = network.model.language_model.layers[layer]
        peaks[f"backward, {name} block"] = _backward_peak(tracker, block)
    optimizer.step(1.0)
    return peaks


def _batch(job: Job, layout: Layout) -> PackedBatch:
    tokens, length = layout.tokens_per_batch, min(job.sequence_length, layout.tokens_per_batch)
    bounds = (*range(0, tokens, length), tokens)
    segments = len(bounds) - 1
    return PackedBatch(
        input_ids_T=torch.zeros(tokens, dtype=torch.int64),
        targets_T=torch.zeros(tokens, dtype=torch.int64),
        loss_weights_T=torch.ones(tokens),
        position_ids_T=torch.zeros(tokens, dtype=torch.int64),
        cu_seqlens=bounds,
        source_names=("text",),
        segment_sources=(0,) * segments,
        segment_groups=("general",) * segments,
    )


def _total(tracker: MemTracker, which: str) -> float:
    return float(max(device["Total"] for device in tracker.get_tracker_snapshot(which).values()))


def _backward_peak(tracker: MemTracker, block: torch.nn.Module) -> float:
    """Of the last micro-batch."""
    snapshots = tracker.memory_tracking[block].snapshots
    found = [device["Total"] for state, all_ in snapshots.items() if state.value == "Peak-Backward"
             for snapshot in all_ for device in snapshot.values()]  # fmt: skip
    return float(max(found))


class _Collectives(TorchDispatchMode):
    """Adds up the bytes that rank 0 receives; of an exchange with itself, none."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith("c10d."):
            self._count(name.split(".")[1], args)
        return func(*args, **(kwargs or {}))

    def _count(self, name: str, args: Sequence[Any]) -> None:
        group = next(dist.ProcessGroup.unbox(a) for a in args if isinstance(a, torch.ScriptObject) and _is_group(a))
        others = (group.size() - 1) / group.size()
        tensors = [a for a in args if isinstance(a, Tensor)]
        if name in ("_allgather_base_", "alltoall_base_"):
            self.received += others * tensors[0].nbytes
        elif name == "_reduce_scatter_base_":
            self.received += others * tensors[1].nbytes
        elif name == "allreduce_":
            self.received += 2 * others * sum(tensor.nbytes for tensor in args[0])
        elif name not in ("barrier", "broadcast_"):
            raise AssertionError(f"collective {name} is not counted")


def _is_group(value: torch.ScriptObject) -> bool:
    return "ProcessGroup" in str(value._type())


def _extrapolated(by_depth: Mapping[int, Measured], depth: int) -> Measured:
    def at(values: Sequence[float]) -> float:
        slope, start = np.polyfit(list(by_depth), values, 1)
        return float(start + slope * depth)

    runs = list(by_depth.values())
    windows = {name: at([run.peaks[name] for run in runs]) for name in runs[0].peaks}
    return Measured(
        parameters=round(at([run.parameters for run in runs])),
        optimizer=round(at([run.optimizer for run in runs])),
        peaks=windows,
        received=at([run.received for run in runs]),
    )
