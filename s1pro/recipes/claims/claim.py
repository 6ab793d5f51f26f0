"""What a claim is: the paper's sentence, the arms that are compared, how one arm is measured, and what decides.

    statement, criterion, tuning     in words, fixed in the repository before the full run
    settings["fast" | "full"]        sizes; fast takes about half a minute on two cores, full a few minutes with 5 seeds
    prepare(settings, seeds, folder) optional: what all arms share (a corpus, a base model), made once and found again
    measure(unit)                    one arm with one seed; it reads no global state and may run in any process
    verdict(results)                 paired differences with intervals, and what follows from them
    panels(results)                  the plots

`unit.without` names a mechanism that is to be removed from the method under test. A claim whose verdict stays the same
then did not test that mechanism. Arms that never had the mechanism are not measured again.

An interval that lies wholly on the wanted side of its limit meets the criterion, one that reaches the limit from the
other side does not, and one that contains the limit decides nothing. Units are paired by seed: all arms of a seed see
the same data in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s1pro.report.plots import Panel
from s1pro.report.scores import Estimate

Setting = Literal["fast", "full"]
Outcome = Literal["replicates", "does not replicate", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is measured at once.

    Attributes:
        settings: the frozen dataclass of the claim.
        without: the mechanism to remove from the method, or None.
        shared: folder with what `prepare` made.
    """

    arm: str
    seed: int
    settings: Any
    shared: Path
    without: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one arm with one seed gave.

    Attributes:
        values: numbers that verdicts and tables are made of.
        curves: points (x, y) for plots.
        items: a value per held-out item, where there are any; in the same order in all arms of a seed.
        steps, tokens: what the arm was trained with, for the account of equal compute.
    """

    values: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    items: Mapping[str, Sequence[float]] = field(default_factory=dict)
    steps: int = 0
    tokens: int = 0


Results = Mapping[str, Mapping[int, Measurement]]
"""By arm and seed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One comparison: `estimate` has to be above `above`, or nothing is asked of it (None)."""

    name: str
    estimate: Estimate
    above: float | None = 0.0

    @property
    def met(self) -> bool | None:
        """True and False are decided; None is not, or nothing was asked."""
        low, high = self.estimate.low, self.estimate.high
        if self.above is None or low is None or high is None:
            return None
        return True if low > self.above else False if high <= self.above else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Attributes:
    text: the measured result in a sentence or two.
    """

    differences: tuple[Difference, ...]
    text: str

    @property
    def outcome(self) -> Outcome:
        """All that was asked is met: replicates. Anything refuted: does not. Else undecided."""
        met = [difference.met for difference in self.differences if difference.above is not None]
        return "does not replicate" if False in met else "undecided" if None in met or not met else "replicates"


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """What `--without` can remove.

    Attributes:
        removed: what happens then, in words.
        arms: from which it is removed.
    """

    removed: str
    arms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """See the module docstring.

    Attributes:
        number: of the table of claims (`docs/claims.md`).
        arms: in the order of tables and plots.
        mechanisms: by name.
        tuning: what was tuned, for which arms, on which seeds: the same budget for all.
    """

    number: int
    name: str
    statement: str
    criterion: str
    arms: tuple[str, ...]
    mechanisms: Mapping[str, Mechanism]
    tuning: str
    settings: Mapping[Setting, Any]
    measure: Callable[[Unit], Measurement]
    verdict: Callable[[Results], Verdict]
    panels: Callable[[Results], Sequence[Panel]]
    prepare: Callable[[Any, Sequence[int], Path], None] | None = None

    def loses(self, arm: str, without: str | None) -> str | None:
        """The mechanism that an arm is without in a run without it; None if it never had it."""
        return without if without is not None and arm in self.mechanisms[without].arms else None
