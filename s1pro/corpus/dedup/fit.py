"""How the thresholds were found: scores of pairs whose truth is known, class by class.

Copies of self-made figures are the pairs that must pass. Those that must not are figures that differ in one series, one
row or one disc, figures of one template, and copies of both; their text is ignored here, so that the pixels are fitted
on what only pixels can see. The threshold lies two thirds of the way from the highest score of different figures
(without the one in a thousand that may pass) to the lowest of copies (without one in fifty).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s1pro.corpus.dedup.selfmade import MAKERS, Picture, copies, photo, plot, table
from s1pro.corpus.dedup.settings import DedupSettings, PictureClass
from s1pro.corpus.dedup.signature import Signature, read_grey, signature
from s1pro.corpus.dedup.verify import Match, compare, nearest_views
from s1pro.corpus.records import ElementRow


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Similarities of pairs of one class: of copies by kind of copy, and of different figures."""

    same: dict[str, list[float]]
    different: list[float]

    @property
    def threshold(self) -> float:
        copies_of = np.concatenate([np.asarray(values) for values in self.same.values()])
        together, apart = float(np.quantile(copies_of, 0.02)), float(np.quantile(self.different, 0.999))
        return apart + 2 / 3 * (together - apart)


def score_class(kind: PictureClass, number: int, settings: DedupSettings, *, seed: int = 50_000) -> Scores:
    """Scores on `number` self-made figures of a class with all their copies."""
    same: dict[str, list[float]] = {name: [] for name in MAKERS}
    different: list[float] = []
    for i in range(seed, seed + number):
        original, others = _drawn(kind, i)
        made = dict(copies(original, i))
        for name, copy in made.items():
            same[name].append(similarity(original, copy, settings))
        for number_of_other, other in enumerate(others):
            different.append(similarity(original, other, settings))
            name = list(MAKERS)[(i + number_of_other) % len(MAKERS)]
            different.append(similarity(made[name], other, settings))
    return Scores(same=same, different=different)


def similarity(first: Picture, second: Picture, settings: DedupSettings) -> float:
    """As `verify_pair` finds it, without the gates; pictures that no hash brings together are compared all the same."""
    (a, a_row), (b, b_row) = _signed(first, "a"), _signed(second, "b")
    match = nearest_views(a, b, settings) or Match(views=(0, 0), hamming=0)
    pictures = [read_grey(row.image, row.element_id)[0] for row in (a_row, b_row)]
    return compare((a, pictures[0]), (b, pictures[1]), match, settings).similarity


def _signed(picture: Picture, name: str) -> tuple[Signature, ElementRow]:
    row = picture.element(name)
    return signature(row), row


def _drawn(kind: PictureClass, seed: int) -> tuple[Picture, Sequence[Picture]]:
    if kind == "photo":
        return photo(seed), (photo(seed, changed=True), photo(seed + 500_000))
    if kind == "table":
        return table(seed), (table(seed, changed=True), table(seed + 500_000))
    template = seed // 10
    return plot(seed, template), (plot(seed, template, changed=True), plot(seed + 500_000, template))


def report(number: int, settings: DedupSettings) -> Iterator[str]:
    """The lines of a table: class, quantiles of both sides, threshold."""
    yield "| class | pairs | different: median, 99.9 % | copies: lowest 2 %, median | threshold |"
    yield "|---|---|---|---|---|"
    kinds: tuple[PictureClass, ...] = ("plot", "table", "photo")
    for kind in kinds:
        scores = score_class(kind, number, settings)
        same = np.concatenate([np.asarray(values) for values in scores.same.values()])
        apart = np.quantile(scores.different, [0.5, 0.999])
        together = np.quantile(same, [0.02, 0.5])
        yield (
            f"| {kind} | {len(same)} + {len(scores.different)} | {apart[0]:.3f}, {apart[1]:.3f} | "
            f"{together[0]:.3f}, {together[1]:.3f} | {scores.threshold:.2f} |"
        )
