"""`fitted` expansion: cuts of the originals into blocks that keep the most routing mass.

A block activates its best experts only, so two experts that tokens want together must lie in different blocks. Each of
the f sets of groups has a cut of its own, and what one set loses another may keep.

1. Co-activation: `C_ij`, the sum over calibration tokens of the smaller of the weights of experts i and j.
2. Set by set, a cut into equal blocks with little co-activation inside them, found by the best exchanges of two
   experts. Pairs that an earlier set separates count half as much, so the sets differ.
3. All sets together: exchanges that raise `kept + overlap / 10` (`routing_mass`) on the calibration tokens themselves,
   until none is found or `MAX_TRIALS` were tried. The first term wants every strong expert active in some set; the
   second chooses, among cuts that are about equal in that, those whose mixture stays what it was. (With large K the
   two disagree: a larger `OVERLAP_SHARE` gives fewer distinct experts in a more faithful mixture.)

Everything is deterministic. The cuts are judged on other text than the one they were chosen on.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from s1pro.checkpoint.calibration import LayerRouting
from s1pro.checkpoint.routing_mass import Floats, active_copies, mass_of

MAX_TOKENS = 4096
MAX_TRIALS = 1024
OVERLAP_SHARE = 0.1
_SEPARATED_BEFORE = 0.5

Cut = npt.NDArray[np.int64]
"""`[E0]`: the block of every original."""


def fit_partitions(routing: LayerRouting, *, num_sets: int, num_blocks: int, per_group: int) -> npt.NDArray[np.int64]:
    """The block of every original in each set, `[sets, E0]`, with blocks of equal size that activate `per_group`."""
    start = np.repeat(np.arange(num_blocks), routing.num_experts // num_blocks)
    if num_blocks in (1, routing.num_experts):
        return np.tile(start, (num_sets, 1))
    routing = _thinned(routing)
    together_EE = co_activation(routing)
    cuts = []
    for _ in range(num_sets):
        cuts.append(separate(together_EE, start))
        apart = cuts[-1][:, None] != cuts[-1][None]
        together_EE = np.where(apart, together_EE * _SEPARATED_BEFORE, together_EE)
    return _refine(routing, np.stack(cuts), per_group)


def co_activation(routing: LayerRouting) -> Floats:
    """`[E0, E0]`, symmetric, 0 on the diagonal: mean over tokens of the smaller weight of every pair."""
    tokens, experts = len(routing.ids_TX), routing.num_experts
    weights_TE = np.zeros((tokens, experts))
    np.put_along_axis(weights_TE, routing.ids_TX.astype(np.int64), routing.weights_TX.astype(np.float64), axis=1)
    together_EE = np.zeros((experts, experts))
    for expert in range(experts):
        rows = weights_TE[weights_TE[:, expert] > 0]
        together_EE[expert] = np.minimum(rows, rows[:, [expert]]).sum(axis=0) / max(tokens, 1)
    np.fill_diagonal(together_EE, 0.0)
    return together_EE


def separate(together_EE: Floats, start: Cut) -> Cut:
    """Exchanges pairs of experts between blocks, the best pair first, while that lowers the co-activation inside."""
    cut = start.copy()
    scale = max(float(together_EE.sum()), 1e-30)
    while True:
        change_EE = _change_of_exchanges(together_EE, cut)
        first, second = np.unravel_index(int(change_EE.argmin()), change_EE.shape)
        if change_EE[first, second] >= -1e-12 * scale:
            return cut
        cut[first], cut[second] = cut[second], cut[first]


def _change_of_exchanges(together_EE: Floats, cut: Cut) -> Floats:
    """By how much the co-activation inside blocks changes when experts i and j change places; 0 in one block."""
    to_block_EM = np.stack([together_EE[:, cut == block].sum(axis=1) for block in range(int(cut.max()) + 1)], axis=1)
    own_E = np.take_along_axis(to_block_EM, cut[:, None], axis=1)[:, 0]
    moved_EE = to_block_EM[:, cut] - own_E[:, None]  # expert i into the block of j
    change_EE = moved_EE + moved_EE.T - 2 * together_EE
    return np.where(cut[:, None] == cut[None], 0.0, change_EE)


def _refine(routing: LayerRouting, cuts_SE: npt.NDArray[np.int64], per_group: int) -> npt.NDArray[np.int64]:
    """Step 3 of the module docstring."""
    search = _Search(routing, cuts_SE, per_group)
    random = np.random.default_rng(0)
    pairs = list(itertools.combinations(range(routing.num_experts), 2))
    trials = 0
    improved = True
    while improved and trials < MAX_TRIALS:
        improved = False
        for index in random.permutation(len(cuts_SE) * len(pairs)):
            if trials == MAX_TRIALS:
                break
            chosen, pair = divmod(int(index), len(pairs))
            tried, better = search.exchange(chosen, *pairs[pair])
            trials += tried
            improved |= better
    return search.cuts_SE


class _Search:
    """The cuts of all sets, and what they activate for every token."""

    def __init__(self, routing: LayerRouting, cuts_SE: npt.NDArray[np.int64], per_group: int) -> None:
        self.routing, self.cuts_SE, self.per_group = routing, cuts_SE.copy(), per_group
        self.active_TX = np.zeros(routing.ids_TX.shape, dtype=np.int64)
        for cut in cuts_SE:
            self.active_TX += self._active(cut, range(int(cut.max()) + 1))
        self.value = self._value(self.active_TX)

    def exchange(self, chosen: int, first: int, second: int) -> tuple[bool, bool]:
        """Changes the places of two experts in one set if that helps: (whether it was tried, whether it helped)."""
        cut = self.cuts_SE[chosen]
        blocks = (int(cut[first]), int(cut[second]))
        if blocks[0] == blocks[1]:
            return False, False
        changed = cut.copy()
        changed[first], changed[second] = blocks[1], blocks[0]
        active_TX = self.active_TX - self._active(cut, blocks) + self._active(changed, blocks)
        value = self._value(active_TX)
        if value <= self.value + 1e-9:
            return True, False
        self.cuts_SE[chosen], self.active_TX, self.value = changed, active_TX, value
        return True, True

    def _active(self, cut: Cut, blocks: range | tuple[int, ...]) -> npt.NDArray[np.int64]:
        members = [(cut == block).astype(np.int64) for block in blocks]
        return np.sum([active_copies(self.routing.ids_TX, copies_E, self.per_group) for copies_E in members], axis=0)

    def _value(self, active_TX: npt.NDArray[np.int64]) -> float:
        mass = mass_of(self.routing, active_TX)
        return float((mass.kept_T + OVERLAP_SHARE * mass.overlap_T).mean())


def _thinned(routing: LayerRouting) -> LayerRouting:
    """At most `MAX_TOKENS` tokens, evenly spaced."""
    count = len(routing.ids_TX)
    keep = np.unique(np.linspace(0, count - 1, min(count, MAX_TOKENS)).round().astype(np.int64))
    return LayerRouting(routing.num_experts, routing.ids_TX[keep], routing.probs_TX[keep], routing.weights_TX[keep])
