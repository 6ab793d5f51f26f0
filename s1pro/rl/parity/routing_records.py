"""Are the experts that an engine recorded those that the trainer chooses, and if not, are they a token or two off?

Records are compared prompt by prompt: a cache hit or a chunk of a prompt moves the record of some requests and not of
others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s1pro.rl.parity.probes import Probe
from s1pro.rl.parity.trainer_side import TrainerSide, engine_routing

FITS = 0.9
"""Share of tokens whose recorded experts have to be the computed ones where log-probabilities agree."""
MOVED_BETTER, MOVED_ROWS = 0.25, 8
"""How much better a record of at least so many rows has to fit when it is moved."""


@dataclass(frozen=True, kw_only=True)
class RecordFinding:
    """Agreement per layer without and with the shift; the shift fits the records of `moved` of `prompts`."""

    agreement: tuple[float, ...] = ()
    shift: int = 0
    moved: int = 0
    prompts: int = 0
    agreement_shifted: tuple[float, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.agreement or self.shift != 0 or min(self.agreement) >= FITS


def compare_records(probes: Sequence[Probe], own: TrainerSide) -> RecordFinding:
    """Agreement per layer, and the shift at which the records of some or all prompts fit better."""
    recorded = engine_routing(probes)
    if recorded is None or own.routing is None or recorded.shape != own.routing.shape:
        return RecordFinding()
    bounds = np.cumsum([0, *(len(probe.token_ids) - 1 for probe in probes)])
    each = [_best_shift(recorded[a:b], own.routing[a:b]) for a, b in itertools.pairwise(bounds)]
    moved = [shift for shift in each if shift]
    shift = max(set(moved), key=moved.count) if moved else 0
    agreement = tuple(_agreement(recorded, own.routing, bounds, 0))
    return RecordFinding(
        agreement=agreement,
        shift=shift,
        moved=moved.count(shift),
        prompts=len(each),
        agreement_shifted=tuple(_agreement(recorded, own.routing, bounds, shift)) if shift else (),
    )


def _best_shift(recorded: npt.NDArray[np.int64], own: npt.NDArray[np.int64]) -> int:
    """Of one record; 0 unless it fits clearly better when it is moved."""
    if len(recorded) < MOVED_ROWS:
        return 0
    bounds = np.array([0, len(recorded)])
    fits = {shift: float(np.mean(_agreement(recorded, own, bounds, shift))) for shift in (-2, -1, 0, 1, 2)}
    best = max(fits, key=lambda shift: fits[shift])
    return best if fits[best] > fits[0] + MOVED_BETTER else 0


def _agreement(
    recorded: npt.NDArray[np.int64], own: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], shift: int
) -> list[float]:
    """Share of tokens with equal sets, per layer, when row t of a record is about token t - shift."""
    pairs = []
    for start, stop in itertools.pairwise(bounds):
        a, b = recorded[start:stop], own[start:stop]
        length = len(a) - abs(shift)
        if length > 0:
            pairs.append((a[max(shift, 0) :][:length], b[max(-shift, 0) :][:length]))
    same = np.concatenate([(a == b).all(axis=-1) for a, b in pairs])
    return [float(value) for value in same.mean(axis=0)]
