"""How much of the original routing survives an expansion, computed from recorded probabilities.

Before training, copies have the router rows of their originals, so what an expanded layer activates follows from the
original probabilities p alone (noise aside): every group takes its k_g best experts. With n_i the number of active
copies of original i, and w_i its weight before the expansion:

    kept     sum of w_i over originals that are still active: at 1 nothing that mattered is lost
    overlap  sum of min(w_i, w'_i) with the new weights w'_i = n_i p_i / sum n p: at 1 the layer computes what it did

`kept` does not see that other originals may have come in or that weights shifted; `overlap` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s1pro.checkpoint.calibration import LayerRouting

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mass:
    """Per token of the sample: see the module docstring. `distinct` is the number of different active originals."""

    kept_T: Floats
    overlap_T: Floats
    distinct_T: Floats


def routing_mass(routing: LayerRouting, copies_GE: npt.NDArray[np.int64], per_group: int) -> Mass:
    """What is left of the routing when group g holds `copies_GE[g, i]` copies of original i and takes `per_group`."""
    active_TX = np.zeros(routing.ids_TX.shape, dtype=np.int64)
    for copies_E in copies_GE:
        active_TX += active_copies(routing.ids_TX, copies_E, per_group)
    return mass_of(routing, active_TX)


def active_copies(
    ids_TX: npt.NDArray[np.int32], copies_E: npt.NDArray[np.int64], per_group: int
) -> npt.NDArray[np.int64]:
    """How many copies of every ranked expert one group activates, `[T, X]`."""
    copies_TX = copies_E[ids_TX]
    before_TX = np.cumsum(copies_TX, axis=1) - copies_TX
    return np.clip(per_group - before_TX, 0, copies_TX)


def mass_of(routing: LayerRouting, active_TX: npt.NDArray[np.int64]) -> Mass:
    scores_TX = active_TX * routing.probs_TX.astype(np.float64)
    new_TX = scores_TX / np.maximum(scores_TX.sum(axis=1, keepdims=True), 1e-30)
    weights_TX = routing.weights_TX.astype(np.float64)
    active = active_TX > 0
    return Mass(
        kept_T=(weights_TX * active).sum(axis=1),
        overlap_T=np.minimum(weights_TX, new_TX).sum(axis=1),
        distinct_T=active.sum(axis=1).astype(np.float64),
    )
