"""Claim 1: grouped routing gives absolute load balance under expert parallelism.

A rank of P holds E / P neighbouring experts and computes the rows that the router sends there; a step takes as long as
its busiest rank. What is measured is that rank's rows over the mean, per layer and step, at P = 2, 4 and 8:

    imbalance = max_p rows_p / (T K / P)

With one router group (or several) per rank every token sends K / P rows to every rank, so the value is 1 without any
help of a loss. Plain top-k knows no ranks; the load-balancing loss evens out its experts on average. Four arms over
one training run each: grouped and plain, with a coefficient of that loss and with ten times as much. They have the same
parameters, rows and batches. Either kind of routing is judged by the better of its two arms.

The held-out loss tells what the balance costs; nothing is asked of it. Reported too is the imbalance of a router that
draws K experts of E at random for every token: what a perfectly trained plain router would have in steps this small.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from s1pro.model.config import ModelConfig, RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import demo
from s1pro.model.router import Router, RouterOutput
from s1pro.recipes.claims.claim import Claim, Measurement, Mechanism, Results, Unit, Verdict
from s1pro.recipes.claims.comparing import difference, level, mean_of
from s1pro.recipes.claims.molecules import VOCABULARY, molecule_data, prepare_molecules
from s1pro.recipes.expansion_comparison import train_steps
from s1pro.report.plots import Curve, Panel
from s1pro.train.losses import validation_loss

RANKS = (2, 4, 8)
GROUPED, PLAIN = ("grouped", "grouped-strong"), ("plain", "plain-strong")


@dataclass(frozen=True, kw_only=True)
class BalanceSettings:
    """Sizes.

    Attributes:
        balance: coefficient of the load-balancing loss; the strong arms have ten times as much.
    """

    steps: int = 100
    tokens: int = 512
    lr: float = 4e-3
    balance: float = 1e-2
    num_experts: int = 32
    top_k: int = 8


def network_config(settings: BalanceSettings, *, groups: int) -> ModelConfig:
    model = demo(VOCABULARY)
    router = RouterConfig(num_experts=settings.num_experts, top_k=settings.top_k, num_groups=groups)
    return replace(model, text=replace(model.text, router=router))


@contextmanager
def rows_per_expert(network: Network) -> Iterator[list[list[torch.Tensor]]]:
    """Collects, per layer, one count of rows per expert for every forward pass inside the block."""
    routers = [module for module in network.modules() if isinstance(module, Router)]
    counts: list[list[torch.Tensor]] = [[] for _ in routers]

    def hook(layer: int) -> torch.utils.hooks.RemovableHandle:
        def count(router: torch.nn.Module, inputs: object, output: RouterOutput) -> None:
            num_experts = output.logits_TE.shape[1]
            counts[layer].append(torch.bincount(output.topk_ids_TK.flatten(), minlength=num_experts))

        return routers[layer].register_forward_hook(count)

    handles = [hook(layer) for layer in range(len(routers))]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def imbalance(counts_E: torch.Tensor, ranks: int) -> float:
    """Rows of the busiest of `ranks` ranks over the mean."""
    rows_P = counts_E.view(ranks, -1).sum(dim=1)
    return int(rows_P.max()) * ranks / int(rows_P.sum())


def by_chance(settings: BalanceSettings, ranks: int, *, draws: int = 100) -> float:
    """Mean imbalance of experts drawn at random."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(draws):
        scores_TE = torch.rand(settings.tokens, settings.num_experts, generator=generator)
        ids_TK = scores_TE.topk(settings.top_k).indices
        found.append(imbalance(torch.bincount(ids_TK.flatten(), minlength=settings.num_experts), ranks))
    return statistics.fmean(found)


def measure(unit: Unit) -> Measurement:
    settings: BalanceSettings = unit.settings
    grouped = unit.arm in GROUPED and unit.without != "groups"
    network = Network(network_config(settings, groups=settings.top_k if grouped else 1), seed=unit.seed)
    data = molecule_data(unit.shared, tokens=settings.tokens)
    balance = settings.balance * (10 if unit.arm.endswith("-strong") else 1)
    with rows_per_expert(network) as counts:
        train_steps(network, data.loader(unit.seed), "adamw", settings.lr, settings.steps, balance)
    by_step = {
        ranks: [statistics.fmean(imbalance(layer[step], ranks) for layer in counts) for step in range(settings.steps)]
        for ranks in RANKS
    }
    worst = {ranks: max(imbalance(row, ranks) for layer in counts for row in layer) for ranks in RANKS}
    return Measurement(
        values={
            **{f"imbalance, P = {ranks}": statistics.fmean(values) for ranks, values in by_step.items()},
            **{f"slack, P = {ranks}": 1 - value for ranks, value in worst.items()},
            "by chance, P = 8": by_chance(settings, 8),
            "held-out loss": validation_loss(network.eval(), data.held_out)["loss"],
        },
        curves={f"P = {ranks}": [*enumerate(values, start=1)] for ranks, values in by_step.items()},
        steps=settings.steps,
        tokens=settings.steps * settings.tokens,
    )


def verdict(results: Results) -> Verdict:
    """The better grouped arm at its worst step against 1, and how far the better plain arm is above it on average."""
    even, gaps = [], []
    for ranks in RANKS:
        value = f"imbalance, P = {ranks}"
        grouped, plain = (_better(results, arms, value) for arms in (GROUPED, PLAIN))
        name = f"1 − imbalance of the worst layer and step, {grouped}, P = {ranks}"
        even.append(level(results, grouped, f"slack, P = {ranks}", name=name, above=-1e-9))
        gaps.append(difference(results, plain, grouped, value, above=0.05))
    costs = [
        difference(results, first, second, "held-out loss", above=None)
        for first, second in zip(GROUPED, PLAIN, strict=True)
    ]
    found = {arm: mean_of(results, arm, "imbalance, P = 8") for arm in (*GROUPED, *PLAIN)}
    return Verdict(
        differences=(*even, *gaps, *costs),
        text=f"On 8 ranks the busiest one gets {found['grouped']:.3f} times the mean with groups and "
        f"{found['plain']:.3f} with plain top-k; with ten times the balancing loss {found['grouped-strong']:.3f} and "
        f"{found['plain-strong']:.3f}. Experts drawn at random would give "
        f"{mean_of(results, 'grouped', 'by chance, P = 8'):.3f}.",
    )


def _better(results: Results, arms: Sequence[str], value: str) -> str:
    """The arm with the smaller mean; the first if they are equal."""
    return min(arms, key=lambda arm: mean_of(results, arm, value))


def panels(results: Results) -> Sequence[Panel]:
    panels = []
    for ranks in RANKS:
        curves = []
        for arm, by_seed in results.items():
            points = next(iter(by_seed.values())).curves[f"P = {ranks}"]
            curves.append(Curve(label=arm, x=[x for x, _ in points], y=[y for _, y in points], smoothing=0.9))
        panels.append(Panel(curves=curves, title=f"{ranks} ranks", y_label="busiest rank / mean"))
    return panels


def prepare(settings: BalanceSettings, seeds: Sequence[int], shared: Path) -> None:
    prepare_molecules(shared)


CLAIM = Claim(
    number=1,
    name="balance",
    statement="Grouped routing gives absolute load balance under expert parallelism.",
    criterion="At P = 2, 4 and 8 the busiest rank of the better grouped arm gets exactly the mean number of rows in "
    "every layer of every step of every seed, and the better plain arm is above it by more than 0.05 of the mean on "
    "average over steps and layers (95 % interval over seeds).",
    arms=(*GROUPED, *PLAIN),
    mechanisms={
        "groups": Mechanism(
            removed="the grouped arms choose their K experts out of all E, as plain top-k does", arms=GROUPED
        )
    },
    tuning="Both kinds of routing get the same two coefficients of the balancing loss, 0.01 and 0.1, and each is "
    "judged by the better of its two arms. Nothing else is tuned; the learning rate is the same for all.",
    settings={"fast": BalanceSettings(steps=30, tokens=256), "full": BalanceSettings()},
    measure=measure,
    verdict=verdict,
    panels=panels,
    prepare=prepare,
)
