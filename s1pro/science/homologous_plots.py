"""Boiling points of homologous series as points over the number of carbon atoms, and a value to read (chemistry).

Members of a series differ by CH2: methanol, ethanol, propan-1-ol. Their boiling points rise evenly, so that a model can
also learn to judge what it reads. Members are found among the compounds of the package `chemicals` by their SMILES, the
points are Yaws' table there; a plot has six members in a row. Whole series belong to a split.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from s1pro.base.errors import InputError
from s1pro.science import slots
from s1pro.science.compounds import read_compounds
from s1pro.science.media import Example, MediaFamily, Medium, Reading, place_in, reading_answer
from s1pro.science.plot_canvas import draw_plot, round_axis
from s1pro.science.property_tables import normal_boiling_points
from s1pro.science.split import Split
from s1pro.science.templates import Bank

NUM_MEMBERS = 6
MOST_CARBON = 20


@dataclass(frozen=True, kw_only=True)
class Series:
    """An unbranched chain before a group.

    Attributes:
        group: SMILES behind the chain.
        carbon: atoms of carbon in it; members begin with one more, alkanes and the like with one.
        split: where the series belongs.
    """

    group: str
    carbon: int = 0
    split: Split = "train"

    def smiles(self, carbon: int) -> str:
        """The member with so many atoms of carbon."""
        return "C" * (carbon - self.carbon) + self.group


SERIES: Mapping[str, Series] = {
    "alkanes": Series(group=""),
    "1-alkenes": Series(group="C=C", carbon=2),
    "1-alkynes": Series(group="C#C", carbon=2),
    "1-alcohols": Series(group="O"),
    "1-amines": Series(group="N"),
    "1-thiols": Series(group="S", split="test"),
    "1-fluoroalkanes": Series(group="F"),
    "1-chloroalkanes": Series(group="Cl"),
    "1-bromoalkanes": Series(group="Br"),
    "1-iodoalkanes": Series(group="I"),
    "carboxylic acids": Series(group="C(=O)O", carbon=1),
    "aldehydes": Series(group="C=O", carbon=1),
    "nitriles": Series(group="C#N", carbon=1, split="validation"),
    "2-ketones": Series(group="C(=O)C", carbon=2, split="test"),
    "methyl esters": Series(group="C(=O)OC", carbon=2),
    "methyl ethers": Series(group="OC", carbon=1),
    "alkylbenzenes": Series(group="C1=CC=CC=C1", carbon=6),
    "alkylcyclohexanes": Series(group="C1CCCCC1", carbon=6, split="test"),
}

QUESTIONS = Bank(
    {"carbon": slots.counted("carbon atom")},
    "(What is|Which is) the boiling point of the member with {carbon}?",
    "(Read|Tell me|Give) the boiling point at {carbon}[, please].",
    "(At which temperature|At what temperature) does the compound with {carbon} boil?",
    "{carbon}: (which|what) boiling point?",
    held_out=("How hot must the member with {carbon} become before it boils?",),
)


def boiling_point_family(*, width: int = 160, height: int = 128) -> MediaFamily:
    """The boiling point of one member of a series, read from a plot."""

    def draw(split: Split, number: int, seed: int) -> Example:
        choices = _choices(split)
        name, first, asked = choices[place_in(len(choices), number, "boiling points", split, seed)]
        points = boiling_points()[name]
        carbon = np.arange(first, first + NUM_MEMBERS)
        kelvin = np.array([points[int(n)] for n in carbon])
        axes = round_axis(carbon, "carbon atoms"), round_axis(kelvin, "boiling point [K]")

        def render() -> Medium:
            picture = draw_plot(carbon, kelvin, *axes, width=width, height=height, style="points")
            return Medium(kind="image", array=picture)

        answer = reading_answer(points[asked], "K", axes[1].high - axes[1].low)
        return Example(entity=f"series:{name}", asked={"carbon": asked}, answer=answer, render=render)

    return MediaFamily(
        name="boiling_point_in_plot",
        domain="chemistry",
        modality="image",
        questions=QUESTIONS,
        answer=Reading(),
        draw=draw,
        kind="carbon",
        limits=lambda split: len(_choices(split)),
    )


@functools.cache
def boiling_points() -> dict[str, dict[int, float]]:
    """Name of the series to atoms of carbon to K, as far as the tables go."""
    wanted = {
        series.smiles(n): (name, n)
        for name, series in SERIES.items()
        for n in range(series.carbon + 1, MOST_CARBON + 1)
    }
    kelvin = normal_boiling_points()
    found: dict[str, dict[int, float]] = {name: {} for name in SERIES}
    for compound in read_compounds():
        if compound.smiles in wanted and compound.cas in kelvin:
            name, n = wanted[compound.smiles]
            found[name].setdefault(n, kelvin[compound.cas])
    return found


@functools.cache
def _choices(split: Split) -> list[tuple[str, int, int]]:
    """Series, first member of the plot and member that is asked about."""
    found = []
    for name, points in boiling_points().items():
        for first in sorted(points):
            members = range(first, first + NUM_MEMBERS)
            if SERIES[name].split == split and all(n in points for n in members):
                found += [(name, first, asked) for asked in members]
    if not found:
        raise InputError("the tables of the package `chemicals` have too few boiling points for the plots")
    return found
