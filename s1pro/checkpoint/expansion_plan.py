"""Expert expansion, the arithmetic: which original expert stands where after the experts were multiplied.

A layer of E0 experts with top-K0 becomes one of E = f * E0 experts in G router groups; each token then takes its best
k_g experts of every group, K = G * k_g in all. What an expert *does* is copied; what is decided here is which originals
share a group, because a group activates only its best ones.

    A        the originals are cut into m = G / f blocks, and group g holds block g mod m. With 128 -> 512 in 8 groups:
             two halves, each in four groups. Active are the best expert of either half, the overall best among them.
    fitted   like A, but each of the f sets of m groups has its own cut, chosen on calibration data (`partitions`).
    random   like fitted, with cuts drawn at random: what `fitted` has to beat.
    B        all f copies of an original lie in one group, and each group holds E0 / G originals, dealt by their modal
             rank on calibration data: those that are mostly first go to group 0, and so on. Active are G different
             originals, most of them weak. The paper tried and rejected it.

In A, fitted and random an original is in f groups, once in each; m must be whole and divide E0. For B, G must divide
E0. Experts are numbered group by group: expert e lies in group e // (E / G).

Copies with equal router rows get equal tokens, weights and gradients, and would stay equal for ever. Router rows
therefore get noise of `router_noise` times their own length. Without copies (factor 1) there is nothing to tell apart
and no noise; factor 1 with the groups of the source changes nothing, bit for bit.

Source: paper, section on expert expansion and grouped routing; spec 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.checkpoint.calibration import Calibration
from s1pro.checkpoint.partitions import fit_partitions
from s1pro.model.config import RouterConfig

Strategy = Literal["A", "B", "fitted", "random"]
CALIBRATED: frozenset[str] = frozenset({"B", "fitted"})
"""Strategies that look at routing on calibration data."""
DEFAULT_NOISE = 0.02

Origins = npt.NDArray[np.int64]
"""`[L, E]`: the original of every expert of every layer with experts."""


@dataclass(frozen=True, kw_only=True)
class ExpansionConfig:
    """How experts are multiplied.

    Attributes:
        factor: f, copies of every original.
        groups: G, router groups afterwards.
        new_top_k: K afterwards, a multiple of G; None takes G (or, if nothing changes, what the source has).
        router_noise: length of the noise on a router row, relative to the row; None is 0.02 if there are copies.
        expert_noise: standard deviation of the noise on expert matrices, relative to their root mean square.
        seed: of noise and random cuts.
        allow_symmetric: permits copies without any noise. For tests: such copies may never differ.
    """

    factor: int = 4
    groups: int = 8
    strategy: Strategy = "fitted"
    new_top_k: int | None = None
    router_noise: float | None = None
    expert_noise: float = 0.0
    seed: int = 0
    allow_symmetric: bool = False

    def __post_init__(self) -> None:
        for name in ("factor", "groups", "new_top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value} must be at least 1")
        if self.strategy not in get_args(Strategy):
            raise InputError(f"strategy={self.strategy!r} is unknown; choose from {', '.join(get_args(Strategy))}")
        for name in ("router_noise", "expert_noise"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name}={value} must lie between 0 and 1")
        if self.factor == 1 and (self.router_noise or self.expert_noise):
            raise InputError("factor=1 makes no copies that noise could tell apart; leave the noise out")
        if self.factor > 1 and not (self.noise or self.expert_noise or self.allow_symmetric):
            raise InputError(
                f"router_noise=0 with factor={self.factor}: copies with equal rows get equal gradients and never "
                f"differ; use {DEFAULT_NOISE}"
            )

    @property
    def noise(self) -> float:
        """The noise on router rows that is meant."""
        default = DEFAULT_NOISE if self.factor > 1 else 0.0
        return default if self.router_noise is None else self.router_noise

    def needs_calibration(self, router: RouterConfig) -> bool:
        return self.strategy in CALIBRATED and not self.is_identity(router)

    def is_identity(self, router: RouterConfig) -> bool:
        """Whether experts and groups stay as they are."""
        return self.factor == 1 and self.groups == router.num_groups


def expanded_router(router: RouterConfig, config: ExpansionConfig) -> RouterConfig:
    """The router after expansion.

    Raises:
        InputError: sizes that do not divide; the message lists the valid choices.
    """
    originals, factor, groups = router.num_experts, config.factor, config.groups
    if config.is_identity(router):
        top_k = config.new_top_k or router.top_k
    else:
        _check_division(originals, config)
        top_k = config.new_top_k or groups
    per_group = factor * originals // groups
    if top_k % groups or top_k // groups > per_group:
        choices = [groups * k for k in range(1, per_group + 1)]
        raise InputError(
            f"new_top_k={top_k} must be a multiple of the {groups} groups, up to {per_group} experts in each; "
            f"choose from {_listed(choices)}"
        )
    return replace(router, num_experts=factor * originals, num_groups=groups, top_k=top_k)


def plan_origins(
    router: RouterConfig, num_layers: int, config: ExpansionConfig, calibration: Calibration | None = None
) -> Origins:
    """The original of every new expert, `[L, E]`.

    Args:
        router: of the source.
        calibration: of the source; `fitted` and B need it.

    Raises:
        InputError: sizes that do not divide, or calibration that is missing or belongs to another model.
    """
    expanded_router(router, config)
    if config.is_identity(router):
        return np.tile(np.arange(router.num_experts), (num_layers, 1))
    if config.strategy in CALIBRATED:
        if calibration is None:
            raise InputError(
                f"strategy={config.strategy} needs calibration: give --calibration FILE, or --data with text to route"
            )
        calibration.check(num_experts=router.num_experts, num_layers=num_layers, top_k=router.top_k)
    layers = [_layer_groups(router.num_experts, layer, config, calibration) for layer in range(num_layers)]
    return np.stack([np.concatenate(groups) for groups in layers])


def copies_in_groups(origins_E: npt.NDArray[np.int64], num_groups: int, num_originals: int) -> npt.NDArray[np.int64]:
    """`[G, E0]`: how many copies of every original each group holds."""
    groups = origins_E.reshape(num_groups, -1)
    return np.stack([np.bincount(group, minlength=num_originals) for group in groups])


def block_groups(block_of_SE: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Members of every group, ascending, from the block of every original in each of the f sets."""
    num_blocks = int(block_of_SE.max()) + 1
    return [np.flatnonzero(block_of_E == block) for block_of_E in block_of_SE for block in range(num_blocks)]


def _layer_groups(
    originals: int, layer: int, config: ExpansionConfig, calibration: Calibration | None
) -> list[npt.NDArray[np.int64]]:
    if config.strategy == "B":
        assert calibration is not None
        return _dealt_by_rank(calibration.rank_counts_LEX[layer], config)
    blocks = config.groups // config.factor
    in_order_E = np.repeat(np.arange(blocks), originals // blocks)
    if config.strategy == "A":
        return block_groups(np.tile(in_order_E, (config.factor, 1)))
    if config.strategy == "random":
        random = np.random.default_rng([config.seed, layer])
        return block_groups(np.stack([random.permutation(in_order_E) for _ in range(config.factor)]))
    assert calibration is not None
    per_group = (config.new_top_k or config.groups) // config.groups
    routing = calibration.layer(layer)
    return block_groups(fit_partitions(routing, num_sets=config.factor, num_blocks=blocks, per_group=per_group))


def _dealt_by_rank(rank_counts_EX: npt.NDArray[np.int64], config: ExpansionConfig) -> list[npt.NDArray[np.int64]]:
    """Originals by modal rank, equal ones by mean rank; each group gets the next E0 / G of them, f times."""
    ranks_X = np.arange(rank_counts_EX.shape[1])
    mean_E = rank_counts_EX @ ranks_X / np.maximum(rank_counts_EX.sum(axis=1), 1)
    order = np.lexsort((mean_E, rank_counts_EX.argmax(axis=1)))
    return [np.tile(np.sort(part), config.factor) for part in np.split(order, config.groups)]


def _check_division(originals: int, config: ExpansionConfig) -> None:
    factor, groups = config.factor, config.groups
    if config.strategy == "B":
        if originals % groups:
            raise InputError(
                f"groups={groups} does not divide the {originals} experts, which strategy B needs; "
                f"choose from {_listed(_divisors(originals))}"
            )
        return
    if groups % factor == 0 and originals % (groups // factor) == 0:
        return
    by_groups = [factor * blocks for blocks in _divisors(originals)]
    by_factor = [f for f in _divisors(groups) if originals % (groups // f) == 0]
    raise InputError(
        f"factor={factor}, groups={groups}: groups / factor must be a whole number that divides the {originals} "
        f"experts. With factor={factor} choose groups from {_listed(by_groups)}; with groups={groups} choose the "
        f"factor from {_listed(by_factor)}"
    )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(choices: list[int]) -> str:
    if len(choices) <= 16:
        return ", ".join(map(str, choices))
    return f"{', '.join(map(str, choices[:15]))}, …, {choices[-1]}"
