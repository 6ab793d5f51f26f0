"""Which way of growing experts keeps a model, measured: fitted, A, B, random cuts, and training from scratch.

A small mixture (E = 8, K = 2) is trained, once or for every seed anew. For every seed it is expanded in every way to
32 experts in 8 groups with K = 8 and trained on for some steps; the held-out loss is taken along the way. What is
compared is the area under that curve, its mean over the steps. The network from scratch has the expanded shape and
random weights, and the rate at which the base was trained. All arms of a seed see the same batches in the same order.

Seeds differ in the order of the data, the noise, the random cuts and the weights from scratch, and with `base_per_seed`
in the base. The difference of two arms is judged by its values per seed: mean with a 95 % interval of Student's t; with
one base it says nothing about others. Routing mass is a matter of the base (and of random cuts): its differences are
judged over blocks of held-out tokens. Whatever comes out is reported.

The same function serves the measurement (`bench/expansion.py`) and the paper's claim on expansion.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from s1pro.checkpoint.calibration import Calibration
from s1pro.checkpoint.expansion import expand_network
from s1pro.checkpoint.expansion_plan import ExpansionConfig, Origins, Strategy, copies_in_groups, expanded_router
from s1pro.checkpoint.routing_mass import Floats, routing_mass
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.presets import demo
from s1pro.model.router import Router
from s1pro.report.scores import Estimate
from s1pro.train.calibration import calibrate
from s1pro.train.copies import copy_similarity
from s1pro.train.guards import Guard, GuardConfig
from s1pro.train.losses import LanguageModelLoss, LossConfig, validation_loss
from s1pro.train.optim import Optimizer, OptimizerConfig
from s1pro.train.schedules import ScheduleConfig, lr_scale, step_progress
from s1pro.train.step import Stepper

SCRATCH = "scratch"
BLOCK_TOKENS = 64
# 97.5 % quantiles of Student's t by degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """What is compared.

    Attributes:
        model: the base, ungrouped.
        base_steps, base_lr, base_optimizer: its training, warm-up-stable-decay.
        base_per_seed: every seed grows a base of its own, from other weights.
        steps, lr, optimizer: of the comparison, at a constant rate after a short warm-up.
        scratch_lr: for the network from scratch.
        eval_every: steps between held-out losses; eval_at: further steps.
        expansion: common to all strategies; `seed` and `strategy` are replaced.
        straight_through: gradient of the routers after expansion.
    """

    model: ModelConfig = field(default_factory=demo)
    base_steps: int = 300
    base_lr: float = 4e-3
    base_optimizer: Literal["adamw", "muon"] = "muon"
    base_per_seed: bool = False
    steps: int = 100
    lr: float = 1e-3
    scratch_lr: float = 4e-3
    optimizer: Literal["adamw", "muon"] = "adamw"
    eval_every: int = 20
    eval_at: tuple[int, ...] = ()
    expansion: ExpansionConfig = field(default_factory=ExpansionConfig)
    strategies: tuple[Strategy, ...] = ("fitted", "A", "random", "B")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    balance: float = 1e-2
    straight_through: bool = True


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where batches come from; `loader(seed)` makes the endless training data of a seed, `base` that of the base."""

    base: Loader[PackedBatch]
    loader: Callable[[int], Loader[PackedBatch]]
    calibration: Sequence[PackedBatch]
    held_out: Sequence[PackedBatch]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of growing, one seed.

    Attributes:
        losses: held-out loss by step, 0 included.
        kept, overlap: routing mass on held-out text, mean over layers, of blocks of tokens; empty from scratch.
        copies_at: `train.copies` by step, mean over layers; empty from scratch.
    """

    losses: Mapping[int, float]
    kept: Sequence[float] = ()
    overlap: Sequence[float] = ()
    copies_at: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def copies(self) -> Mapping[str, float]:
        """After the last step."""
        return self.copies_at[max(self.copies_at)] if self.copies_at else {}

    @property
    def area(self) -> float:
        """Mean of the held-out loss over all steps."""
        return self.area_until(max(self.losses))

    def area_until(self, last: int) -> float:
        """Mean of the held-out loss over the steps up to `last`, at which it was taken (trapezoids)."""
        points = sorted((step, loss) for step, loss in self.losses.items() if step <= last)
        if points[-1][0] != last:
            raise ValueError(f"no loss was taken at step {last}, only at {[step for step, _ in points]}")
        pairs = list(itertools.pairwise(points))
        return sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairs) / (last - points[0][0])


Results = dict[int, dict[str, Arm]]
"""By seed and arm."""


def compare(
    settings: ComparisonSettings,
    data: Data,
    *,
    network: Network | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Results:
    """Runs all arms of all seeds.

    Args:
        network: the base of all seeds, trained elsewhere; otherwise bases are trained as `settings` say.
        say: told about every finished arm.
    """
    results: Results = {}
    base = None if network is None else _measured(network, data)
    for seed in settings.seeds:
        if base is None or (settings.base_per_seed and network is None):
            base = _measured(trained_base(settings, data, seed=seed if settings.base_per_seed else 0), data)
            say(f"base: loss {base.loss:.4f}")
        results[seed] = {"base": Arm(losses={0: base.loss, settings.steps: base.loss})}
        for strategy in settings.strategies:
            config = replace(settings.expansion, strategy=strategy, seed=seed)
            results[seed][strategy] = expanded_arm(base.network, config, settings, data, seed, base.seen, base.unseen)
            say(f"seed {seed}: {_line(strategy, results[seed][strategy])}")
        results[seed][SCRATCH] = scratch_arm(settings, data, seed)
        say(f"seed {seed}: {_line(SCRATCH, results[seed][SCRATCH])}")
    return results


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A base, its held-out loss, and its routing on text to plan with and on held-out text."""

    network: Network
    loss: float
    seen: Calibration
    unseen: Calibration


def _measured(network: Network, data: Data) -> _Base:
    return _Base(
        network=network,
        loss=validation_loss(network, data.held_out)["loss"],
        seen=calibrate(network, data.calibration),
        unseen=calibrate(network, data.held_out),
    )


def trained_base(settings: ComparisonSettings, data: Data, *, seed: int) -> Network:
    """The small mixture that is grown."""
    base = Network(settings.model, seed=seed)
    train_steps(base, data.base, settings.base_optimizer, settings.base_lr, settings.base_steps, settings.balance)
    return base.eval()


def difference(results: Results, first: str, second: str, value: Callable[[Arm], float]) -> Estimate:
    """Mean over seeds of `second - first` with its interval; at least two seeds, or there is no interval."""
    return paired_interval([value(arms[second]) - value(arms[first]) for arms in results.values()])


def mass_difference(results: Results, first: str, second: str, name: Literal["kept", "overlap"]) -> Estimate:
    """Mean over blocks of held-out tokens of `second - first`, with its interval; means over seeds are compared."""
    blocks = []
    for arm in (first, second):
        by_seed = [getattr(arms[arm], name) for arms in results.values()]
        blocks.append([_mean(values) for values in zip(*by_seed, strict=True)])
    return paired_interval([b - a for a, b in zip(*blocks, strict=True)])


def paired_interval(differences: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of Student's t; its quantile is within 0.002 of the exact one."""
    count, mean = len(differences), statistics.fmean(differences)
    if count < 2:
        return Estimate(value=mean, num_items=count)
    freedom = count - 1
    quantile = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.4 / freedom + 2.8 / freedom**2
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Estimate(value=mean, low=mean - half, high=mean + half, num_items=count)


def train_steps(
    network: Network,
    loader: Loader[PackedBatch],
    optimizer_kind: Literal["adamw", "muon"],
    lr: float,
    steps: int,
    balance: float,
    *,
    each: Callable[[int], None] | None = None,
) -> None:
    """Plain training. With `each`, at a constant rate, and it is called after every step with its number."""
    schedule = ScheduleConfig(warmup=0.05, decay=0.3) if each is None else ScheduleConfig(kind="constant", warmup=0.05)
    optimizer = Optimizer(network, OptimizerConfig(kind=optimizer_kind, lr=lr))
    loss = LanguageModelLoss(LossConfig(balance=balance))
    stepper = Stepper(network.train(), optimizer, Guard(GuardConfig()), loss)
    for step in range(steps):
        stepper.step([next(loader)], lr_scale(schedule, step_progress(step, steps)))
        if each is not None:
            each(step + 1)
    loader.close()


def expanded_arm(
    base: Network,
    config: ExpansionConfig,
    settings: ComparisonSettings,
    data: Data,
    seed: int,
    seen: Calibration,
    unseen: Calibration,
) -> Arm:
    """`base` grown as `config` says and trained on.

    Args:
        seen, unseen: its routing, on text to plan with and on held-out text.
    """
    network, origins = expand_network(base, config, seen)
    kept, overlap = _mass(network, origins, unseen)
    losses, copies = _continue(network, settings, data, seed, origins)
    return Arm(losses=losses, kept=kept, overlap=overlap, copies_at=copies)


def scratch_arm(settings: ComparisonSettings, data: Data, seed: int) -> Arm:
    """A network of the grown shape with random weights."""
    text = settings.model.text
    grown = replace(text, router=expanded_router(text.router, settings.expansion))
    network = Network(replace(settings.model, text=grown), seed=100 + seed)
    losses, _ = _continue(network, replace(settings, lr=settings.scratch_lr), data, seed)
    return Arm(losses=losses)


def _mass(network: Network, origins: Origins, unseen: Calibration) -> tuple[list[float], list[float]]:
    """Kept and overlap of every block of tokens."""
    router = network.config.text.router
    masses = [
        routing_mass(
            unseen.layer(layer), copies_in_groups(row, router.num_groups, unseen.num_experts), router.top_k_per_group
        )
        for layer, row in enumerate(origins)
    ]
    return _blocks([mass.kept_T for mass in masses]), _blocks([mass.overlap_T for mass in masses])


def _blocks(layers: Sequence[Floats]) -> list[float]:
    """Mean over layers and over blocks of tokens; a rest shorter than a block joins the last one."""
    mean_T = np.mean(layers, axis=0)
    cuts = range(BLOCK_TOKENS, len(mean_T) - BLOCK_TOKENS + 1, BLOCK_TOKENS)
    return [float(part.mean()) for part in np.split(mean_T, cuts)]


def _continue(
    network: Network, settings: ComparisonSettings, data: Data, seed: int, origins: Origins | None = None
) -> tuple[dict[int, float], dict[int, dict[str, float]]]:
    """Held-out loss, and what `train.copies` says, by step."""
    for module in network.modules():
        if isinstance(module, Router):
            module.config = replace(module.config, straight_through=settings.straight_through)
    losses: dict[int, float] = {}
    copies: dict[int, dict[str, float]] = {}

    def evaluate(step: int) -> None:
        if step % settings.eval_every and step not in (*settings.eval_at, settings.steps):
            return
        losses[step] = validation_loss(network, data.held_out)["loss"]
        if origins is not None:
            copies[step] = _copies(network, origins)

    evaluate(0)
    loader = data.loader(seed)
    train_steps(network, loader, settings.optimizer, settings.lr, settings.steps, settings.balance, each=evaluate)
    return losses, copies


def _copies(network: Network, origins: Origins) -> dict[str, float]:
    """Mean over layers."""
    layers = list(copy_similarity(network, origins).values())
    return {name: statistics.fmean(layer[name] for layer in layers) for name in layers[0]}


def _line(name: str, arm: Arm) -> str:
    first, last = arm.losses[0], arm.losses[max(arm.losses)]
    kept = f", kept {_mean(arm.kept):.4f}, overlap {_mean(arm.overlap):.3f}" if arm.kept else ""
    return f"{name:8} area {arm.area:.4f}, loss {first:.4f} -> {last:.4f}{kept}"


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def table(results: Results) -> list[dict[str, Any]]:
    """One row per arm: means over seeds."""
    names = list(next(iter(results.values())))
    rows = []
    for name in names:
        arms = [seeds[name] for seeds in results.values()]
        row: dict[str, Any] = {
            "arm": name,
            "area": statistics.fmean(arm.area for arm in arms),
            "first": statistics.fmean(arm.losses[0] for arm in arms),
            "last": statistics.fmean(arm.losses[max(arm.losses)] for arm in arms),
        }
        if arms[0].kept:
            row |= {key: _mean([_mean(getattr(arm, key)) for arm in arms]) for key in ("kept", "overlap")}
            row |= {key: statistics.fmean(arm.copies[key] for arm in arms) for key in arms[0].copies}
        rows.append(row)
    return rows
