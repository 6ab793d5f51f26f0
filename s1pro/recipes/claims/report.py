"""The results of claims as Markdown with SVG plots: one section per claim, over all runs of a folder.

A section says what was claimed and asked, and then for every run (a set of seeds) which differences were measured, what
was asked of them, and what follows. Two runs with different seeds are compared; where they disagree, that is said.
Runs with a mechanism removed come last: their verdict has to be another one. A verdict whose units are missing, damaged
or measured again by other code is named and not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.recipes.claims.claim import Claim, Difference, Measurement, Results
from s1pro.recipes.claims.runner import differences_of, read_results, read_runs
from s1pro.report.plots import curves

REPORT = "claims.md"


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where the report is, and why verdicts are not in it, a line each."""

    path: Path
    stale: tuple[str, ...]


def write_claims(folder: Path, claims: Mapping[str, Claim]) -> Written:
    """Writes `claims.md` and one drawing per claim into `folder`.

    Raises:
        InputError: no claim was run there.
    """
    runs = read_runs(folder)
    sections, stale = [], []
    for name, claim in claims.items():
        fresh = []
        for run in sorted((run for run in runs if run["claim"] == name), key=_order):
            try:
                fresh.append((run, read_results(run, claim)))
            except InputError as error:
                stale.append(f"{_title(claim, run)}: {error}")
        if fresh:
            sections.append(_section(folder, claim, fresh))
    if stale:
        sections.append("\n".join(["## Not shown", "", *(f"* {line}" for line in stale), ""]))
    path = folder / REPORT
    _write(path, "# The paper's claims in miniature\n\n" + "\n".join(sections))
    return Written(path=path, stale=tuple(stale))


def _order(run: Mapping[str, Any]) -> tuple[bool, bool, list[int]]:
    return (run["without"] is not None, run["setting"] == "fast", run["seeds"])


def _section(folder: Path, claim: Claim, runs: Sequence[tuple[Mapping[str, Any], Results]]) -> str:
    lines = [
        f"## {claim.number}. {claim.name}",
        "",
        f"**Claim.** {claim.statement}",
        "",
        f"**Criterion.** {claim.criterion}",
        "",
        f"**Tuning.** {claim.tuning}",
        "",
    ]
    for run, results in runs:
        lines += _run(claim, run, results)
    if agreement := _agreement([run for run, _ in runs if run["without"] is None]):
        lines += [agreement, ""]
    first, results = runs[0]
    if panels := claim.panels(results):
        drawing = folder / f"{claim.name}.svg"
        _write(drawing, curves(panels, name=f"claim-{claim.name}") + "\n")
        lines += [f"![{claim.name}: seeds {_seeds(first)}]({drawing.name})", ""]
    return "\n".join(lines)


def _title(claim: Claim, run: Mapping[str, Any]) -> str:
    removed = "" if run["without"] is None else claim.mechanisms[run["without"]].removed
    without = f", without {run['without']} ({removed})" if removed else ""
    return f"{claim.name}, {run['setting']}, seeds {_seeds(run)}{without}"


def _run(claim: Claim, run: Mapping[str, Any], results: Results) -> list[str]:
    made = run["stamp"]
    lines = [
        f"### {_title(claim, run)}: {run['outcome']}",
        "",
        run["text"],
        "",
        "| difference | mean | 95 % interval | asked | met |",
        "|---|---|---|---|---|",
    ]
    lines += [_difference(difference) for difference in differences_of(dict(run))]
    lines += ["", *_arms(claim, results), ""]
    lines += [f"{made['cpu']}, commit {made['commit']}; {run['seconds']:.0f} s of processor time.", ""]
    return lines


def _difference(difference: Difference) -> str:
    estimate = difference.estimate
    interval = "" if estimate.low is None else f"{_number(estimate.low)} to {_number(estimate.high)}"
    asked = "" if difference.above is None else f"> {_number(difference.above)}"
    met = "" if difference.above is None else {True: "yes", False: "no", None: "undecided"}[difference.met]
    return f"| {difference.name} | {_number(estimate.value)} | {interval} | {asked} | {met} |"


def _arms(claim: Claim, results: Results) -> list[str]:
    """Means over seeds, and what each arm was trained with."""
    names = list(dict.fromkeys(name for arm in claim.arms for m in results[arm].values() for name in m.values))
    lines = [f"| arm | steps | tokens | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names)]
    for arm in claim.arms:
        measured = list(results[arm].values())
        cells = [_mean(measured, name) for name in names]
        lines.append(f"| {arm} | {measured[0].steps:,} | {measured[0].tokens:,} | {' | '.join(cells)} |")
    return lines


def _mean(measured: Sequence[Measurement], name: str) -> str:
    values = [m.values[name] for m in measured if name in m.values]
    return _number(sum(values) / len(values)) if values else ""


def _agreement(runs: Sequence[Mapping[str, Any]]) -> str:
    full = [run for run in runs if run["setting"] == "full"]
    if len(full) < 2:
        return ""
    outcomes = [f"seeds {_seeds(run)}: {run['outcome']}" for run in full]
    same = len({run["outcome"] for run in full}) == 1
    return f"**{'The runs agree' if same else 'The runs disagree'}**: {'; '.join(outcomes)}."


def _seeds(run: Mapping[str, Any]) -> str:
    seeds = run["seeds"]
    whole = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
