"""What the runs of `fp8_rl.py` say: tables, verdicts against a criterion, and the figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from s1pro.recipes.expansion_comparison import paired_interval
from s1pro.report.plots import Curve, Panel, curves
from s1pro.report.scores import Estimate

ARMS = ("bf16", "fp8", "fp8-no-replay", "fp8-two-scales")
LOST = {"fp8-no-replay": "no replay", "fp8-two-scales": "two quantisers"}
FACTOR = 2.0
CRITERION = """\
Over seeds 0 to 4, 95 % intervals of Student's t over paired seeds:
1. The runs learn: accuracy in BF16 (mean of the evaluations of the second half) minus that before is above 0.
2. FP8 follows: the interval of accuracy in FP8 minus accuracy in BF16 lies within plus and minus the span of the BF16
   seeds (largest minus smallest accuracy).
3. Leaving out replay multiplies the KL of a run (mean over all its positions) by more than 2.
4. Another quantiser on the engine's side multiplies the KL of a run by more than 2.
The same factors at the same weights are measured beside 3 and 4 and judged in the same way, as 3s and 4s. Each point is
met (the interval lies on the right side), missed (it lies on the other side), or undecided."""

Unit = dict[str, Any]
"""One run: arm, seed, accuracy [(step, value)], run [(round, summed KL, positions)], same {arm: as run}, k3."""


def report(units: Sequence[Unit]) -> str:
    """Markdown: verdicts, then a table of all runs."""
    by = {(unit["arm"], unit["seed"]): unit for unit in units}
    seeds = sorted({unit["seed"] for unit in units})
    late = {key: statistics.fmean(value for _, value in late_half(unit)) for key, unit in by.items()}
    before = {key: unit["accuracy"][0][1] for key, unit in by.items()}
    bf16 = [late["bf16", seed] for seed in seeds]
    span = max(bf16) - min(bf16)
    gains = {arm: paired_interval([late[arm, s] - before[arm, s] for s in seeds]) for arm in ARMS}
    follows = paired_interval([late["fp8", s] - late["bf16", s] for s in seeds])
    lines = ["| point | measured | asked | verdict |", "|---|---|---|---|"]
    lines.append(f"| 1. gain in BF16 | {shown(gains['bf16'])} | > 0 | {above(gains['bf16'], 0.0)} |")
    lines.append(f"| 2. FP8 − BF16 | {shown(follows)} | within ±{span:.3f} | {within(follows, span)} |")
    for number, (arm, name) in enumerate(LOST.items(), 3):
        own = ratio([math.log10(mean(by[arm, s]["run"]) / mean(by["fp8", s]["run"])) for s in seeds])
        same = ratio([math.log10(mean(by["fp8", s]["same"][arm]) / mean(by["fp8", s]["same"]["fp8"])) for s in seeds])
        lines.append(f"| {number}. KL of the run, {name} / fp8 | {times(own)} | > 2 | {above(own, FACTOR)} |")
        lines.append(f"| {number}s. the same weights, {name} / fp8 | {times(same)} | > 2 | {above(same, FACTOR)} |")
    return "\n".join([*lines, "", *table(by, seeds, before, late, gains)])


def table(
    by: dict[tuple[str, int], Unit],
    seeds: Sequence[int],
    before: dict[tuple[str, int], float],
    late: dict[tuple[str, int], float],
    gains: dict[str, Estimate],
) -> list[str]:
    """Means over seeds by arm, then the seeds."""
    lines = [
        "| arm | before | after | gain | KL of the run | k3 of the drawn tokens | positions |",
        "|---|" + "---|" * 6,
    ]
    for arm in ARMS:
        units = [by[arm, seed] for seed in seeds]
        k3 = statistics.fmean(sum(k * n for k, n in unit["k3"]) / sum(n for _, n in unit["k3"]) for unit in units)
        cells = (
            f"{statistics.fmean(before[arm, s] for s in seeds):.3f}",
            f"{statistics.fmean(late[arm, s] for s in seeds):.3f}",
            shown(gains[arm]),
            f"{statistics.fmean(mean(unit['run']) for unit in units):.2e}",
            f"{k3:.2e}",
            f"{sum(count for unit in units for *_, count in unit['run']):,}",
        )
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", "| seed | " + " | ".join(f"{arm}: after, KL" for arm in ARMS) + " |", "|---|" + "---|" * len(ARMS)]
    for seed in seeds:
        cells_of = [f"{late[arm, seed]:.3f}, {mean(by[arm, seed]['run']):.2e}" for arm in ARMS]
        lines.append(f"| {seed} | " + " | ".join(cells_of) + " |")
    lines.append(f"\n{sum(unit['seconds'] for unit in by.values()):.0f} s of processor time.")
    return lines


def figure(units: Sequence[Unit]) -> str:
    """Accuracy, the KL of the rounds, and that at the same weights, as means over seeds."""
    arms = {arm: [unit for unit in units if unit["arm"] == arm] for arm in ARMS}
    same = {name: [unit["same"][name] for unit in arms["fp8"]] for name in ARMS[1:]}
    return curves(
        [
            Panel(title="held-out words, drawn answers", y_label="right", curves=_means(arms, lambda u: u["accuracy"])),
            Panel(title="KL(engine ‖ trainer), in the run", y_label="KL", log_y=True, curves=_means(arms, _rounds)),
            Panel(
                title="the same weights",
                y_label="KL",
                log_y=True,
                curves=_means(same, lambda found: [(step, total / count) for step, total, count in found], first=1),
            ),
        ],
        name="fp8-rl",
    )


def _means(groups: dict[str, list[Any]], points: Callable[[Any], Any], first: int = 0) -> list[Curve]:
    found = []
    for number, (name, members) in enumerate(groups.items(), first):
        by_step = [dict(points(member)) for member in members]
        steps = sorted(set.intersection(*(set(one) for one in by_step)))
        values = [statistics.fmean(one[step] for one in by_step) for step in steps]
        found.append(Curve(label=name, x=steps, y=values, series=number))
    return found


def _rounds(unit: Unit) -> list[tuple[int, float]]:
    return [(number, total / max(count, 1)) for number, total, count in unit["run"]]


def late_half(unit: Unit) -> list[Any]:
    """Evaluations of the second half of the run."""
    last = unit["accuracy"][-1][0]
    return [(step, value) for step, value in unit["accuracy"] if step > last / 2]


def mean(gaps: Sequence[Sequence[float]]) -> float:
    """Per position, over all rounds or evaluations."""
    return sum(total for _, total, _ in gaps) / sum(count for *_, count in gaps)


def ratio(logarithms: Sequence[float]) -> Estimate:
    """The interval of the logarithms, as factors."""
    found = paired_interval(logarithms)
    assert found.low is not None and found.high is not None
    low, high = 10**found.low, 10**found.high
    return Estimate(value=10**found.value, low=low, high=high, num_items=found.num_items)


def above(found: Estimate, limit: float) -> str:
    assert found.low is not None and found.high is not None
    return "met" if found.low > limit else "missed" if found.high < limit else "undecided"


def within(found: Estimate, span: float) -> str:
    assert found.low is not None and found.high is not None
    if -span < found.low and found.high < span:
        return "met"
    return "missed" if found.low > span or found.high < -span else "undecided"


def shown(found: Estimate) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def times(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
