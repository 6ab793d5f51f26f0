"""The layout of a job, and the next thing to change.

`best_plan` tries every layout that the parallel code can run: copies, shards, expert parallelism, recomputation, rows
per micro-batch; the engine sizes of reinforcement learning and serving too. The fastest that fits wins; if none fits,
the one that misses by least is returned, refused.

`next_change` changes one thing. For a refused plan, the first change that makes it fit, from the cheapest: less
memory on the same GPUs, another optimizer, then the smallest number of further nodes. For a plan that fits, the change
that gains most time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from s1pro.base.errors import InputError
from s1pro.model.config import ModelConfig
from s1pro.parallel.planner.hardware import Cluster
from s1pro.parallel.planner.plan import Plan, best_dispatch, check_layout, make_plan, with_engine
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.timing import Efficiency

MOST_COPIES = 64
MOST_GPUS = 16384
WORTH_MENTIONING = 1.02


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Parts of the layout that are given; None leaves them to the search. `serving_ranks` as in `Serving.ranks`."""

    dp_replicate: int | None = None
    ep: int | None = None
    checkpointing: bool | None = None
    tokens_per_batch: int | None = None
    serving_ranks: int | None = None


@dataclass(frozen=True)
class Change:
    """What to change, and the plan that comes of it."""

    what: str
    plan: Plan


def best_plan(
    model: ModelConfig,
    job: Job,
    cluster: Cluster,
    wishes: Wishes | None = None,
    efficiency: Efficiency | None = None,
) -> Plan:
    """The fastest layout that fits, or the refused one that needs least.

    Raises:
        InputError: no layout of this model on so many GPUs exists.
    """
    wishes = wishes or Wishes()
    engines = list(_jobs(model, job, cluster, wishes))
    trained = [make_plan(model, job, cluster, layout, efficiency) for layout in _layouts(model, job, cluster, wishes)]
    plans = [with_engine(plan, engine) for plan in trained for engine in engines]
    if not plans:
        raise InputError(
            f"nothing of {wishes} divides {cluster.num_gpus} GPUs and {model.text.router.num_experts} experts; "
            "leave a setting to the search"
        )
    fitting = [plan for plan in plans if plan.fits]
    if fitting:
        return max(fitting, key=lambda plan: (round(plan.tokens_per_second, 3), -plan.peak.total))
    return min(plans, key=lambda plan: (len(plan.faults), plan.peak.total))


def next_change(plan: Plan) -> Change | None:
    """The next thing to change; None if nothing was found."""
    if not plan.fits:
        return next((change for change in _repairs(plan) if change.plan.fits), None)
    changes = [change for change in _moves(plan) if change.plan.fits]
    best = max(changes, key=lambda change: change.plan.tokens_per_second, default=None)
    if best is None or best.plan.tokens_per_second < WORTH_MENTIONING * plan.tokens_per_second:
        return None
    return best


def _jobs(model: ModelConfig, job: Job, cluster: Cluster, wishes: Wishes) -> Iterator[Job]:
    """The job with every size of the engine that divides GPUs and experts; itself where nothing is generated."""
    if not job.generates:
        yield job
        return
    if wishes.serving_ranks is not None:
        yield replace(job, serving=replace(job.serving, ranks=wishes.serving_ranks))
        return
    for ranks in _divisors(cluster.num_gpus):
        if model.text.router.num_experts % ranks == 0:
            yield replace(job, serving=replace(job.serving, ranks=ranks))


def _layouts(model: ModelConfig, job: Job, cluster: Cluster, wishes: Wishes) -> Iterator[Layout | None]:
    if not job.trains:
        yield None
        return
    copies = [n for n in _divisors(cluster.num_gpus) if n <= MOST_COPIES]
    for dp_replicate in copies if wishes.dp_replicate is None else [wishes.dp_replicate]:
        for ep in _divisors(cluster.num_gpus) if wishes.ep is None else [wishes.ep]:
            for checkpointing in (True, False) if wishes.checkpointing is None else [wishes.checkpointing]:
                for tokens in _batches(job, cluster, wishes):
                    layout = Layout(
                        dp_replicate=dp_replicate,
                        dp_shard=max(cluster.num_gpus // dp_replicate, 1),
                        ep=ep,
                        dispatch=best_dispatch(model, ep),
                        tokens_per_batch=tokens,
                        checkpointing=checkpointing,
                    )
                    if _exists(model, cluster, layout):
                        yield layout


def _batches(job: Job, cluster: Cluster, wishes: Wishes) -> Sequence[int]:
    """Whole sequences, doubled as long as every rank has one micro-batch in a step."""
    if wishes.tokens_per_batch is not None:
        return [wishes.tokens_per_batch]
    sizes = [job.sequence_length]
    while 2 * sizes[-1] * cluster.num_gpus <= job.tokens_per_step:
        sizes.append(2 * sizes[-1])
    return sizes


def _exists(model: ModelConfig, cluster: Cluster, layout: Layout) -> bool:
    try:
        check_layout(model, cluster, layout)
    except InputError:
        return False
    return True


def _repairs(plan: Plan) -> Iterator[Change]:
    """Changes of a plan that does not fit, cheapest first."""
    yield from _moves(plan, only_memory=True)
    if plan.layout is not None and plan.job.optimizer == "adamw":
        job = replace(plan.job, optimizer="muon")
        muon = best_plan(plan.model, job, plan.cluster, efficiency=plan.efficiency)
        yield Change("Muon instead of AdamW (one moment per matrix)", muon)
    if plan.job.generates and not plan.job.serving.fp8:
        job = replace(plan.job, serving=replace(plan.job.serving, fp8=True))
        yield Change("an engine in FP8", best_plan(plan.model, job, plan.cluster, efficiency=plan.efficiency))
    nodes = max(plan.cluster.num_gpus // plan.cluster.gpus_per_node, 1)
    for count in range(nodes + 1, MOST_GPUS // plan.cluster.gpus_per_node):
        cluster = replace(plan.cluster, num_gpus=count * plan.cluster.gpus_per_node)
        if _smallest_fits(plan, cluster):
            what = f"{cluster.num_gpus} GPUs instead of {plan.cluster.num_gpus}"
            yield Change(what, best_plan(plan.model, plan.job, cluster, efficiency=plan.efficiency))


def _smallest_fits(plan: Plan, cluster: Cluster) -> bool:
    """Whether the layouts that need least memory fit: a quick look before a whole search."""
    wishes = Wishes(dp_replicate=1, checkpointing=True, tokens_per_batch=plan.job.sequence_length)
    if plan.layout is None:
        wishes = Wishes()
    try:
        return best_plan(plan.model, plan.job, cluster, wishes, plan.efficiency).fits
    except InputError:
        return False


def _moves(plan: Plan, *, only_memory: bool = False) -> Iterator[Change]:
    """One step away in one direction, on the same GPUs."""
    layout, job = plan.layout, plan.job
    if layout is not None:
        yield from _layout_moves(plan, layout)
    if job.generates:
        for sequences in (job.serving.sequences // 2, job.serving.sequences * 2):
            if sequences and not (only_memory and sequences > job.serving.sequences):
                changed = replace(job, serving=replace(job.serving, sequences=sequences))
                what = f"{sequences} sequences at once on every rank instead of {job.serving.sequences}"
                yield Change(what, make_plan(plan.model, changed, plan.cluster, layout, plan.efficiency))
    if layout is not None and not only_memory and job.expert_precision != "fp8" and plan.cluster.gpu.fp8_tflops:
        changed = replace(job, expert_precision="fp8")
        yield Change("FP8 experts", make_plan(plan.model, changed, plan.cluster, layout, plan.efficiency))


def _layout_moves(plan: Plan, layout: Layout) -> Iterator[Change]:
    number = layout.num_ranks
    verb = "without" if layout.checkpointing else "with"
    moves = [(f"{verb} recomputation of blocks", replace(layout, checkpointing=not layout.checkpointing))]
    for tokens in (layout.tokens_per_batch // 2, layout.tokens_per_batch * 2):
        if tokens >= plan.job.sequence_length and tokens * number <= max(plan.job.tokens_per_step, number):
            what = f"micro-batches of {tokens} tokens instead of {layout.tokens_per_batch}"
            moves.append((what, replace(layout, tokens_per_batch=tokens)))
    for copies in (layout.dp_replicate // 2, layout.dp_replicate * 2):
        if copies and number % copies == 0:
            what = f"dp_replicate={copies} instead of {layout.dp_replicate}"
            moves.append((what, replace(layout, dp_replicate=copies, dp_shard=number // copies)))
    for ep in (layout.ep // 2, layout.ep * 2):
        if ep:
            changed = replace(layout, ep=ep, dispatch=best_dispatch(plan.model, ep))
            moves.append((f"ep={ep} instead of {layout.ep}", changed))
    for what, changed in moves:
        if _exists(plan.model, plan.cluster, changed):
            yield Change(what, make_plan(plan.model, plan.job, plan.cluster, changed, plan.efficiency))


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
