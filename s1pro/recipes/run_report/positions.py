"""What a model does with positions: the coefficients with which FoPE mixes its frequencies.

In every head, pair z of channels turns by `sin_z = sum_d coef[d, z] sin(position * freq[d])`, and likewise with
cosines. Plain rotary positions have the identity there: one frequency per pair. What stands beside the diagonal is the
spectrum that Fourier mixing adds.

    power of pair z at frequency d     coef[d, z]^2 / sum_d coef[d, z]^2
    mixed                              1 - the power at its own frequency

The coefficients are read from the stored model; a frozen mix (as released) is as it was drawn at the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.checkpoint.config_file import read_config
from s1pro.model.config import RopeConfig
from s1pro.recipes.run_report.folders import Run
from s1pro.report import heat, plots
from s1pro.report.blocks import Block, Cell, Figure, Paragraph, Section, Table

Array = npt.NDArray[np.float64]
MOST_MATRICES = 2


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Of one model: `sin_JDD`, `cos_JDD`, and the period in tokens of every kept frequency."""

    label: str
    sin_JDD: Array
    cos_JDD: Array
    periods_D: Array
    learnable: bool


def positions_section(runs: Sequence[Run]) -> Section | None:
    """None where no run has a stored model with FoPE."""
    models = ((run.label, run.model_folder) for run in runs if run.kind != "contrastive")  # towers have no FoPE
    read = (read_spectrum(label, folder) for label, folder in models if folder is not None)
    found = _distinct([one for one in read if one is not None])
    if not found:
        return None
    blocks: list[Block] = [*map(_matrices, found[:MOST_MATRICES]), _powers(found), _table(found)]
    if not any(spectrum.learnable for spectrum in found):
        blocks.append(
            Paragraph(
                text="These coefficients are frozen, as in the released model: training does not change them, and what "
                "is seen is the noise that was added to the identity at the start."
            )
        )
    return Section(
        title="Position encoding",
        intro="FoPE mixes the frequencies of the rotary position encoding. Row: a frequency, by its period in tokens. "
        "Column: a pair of channels, whose own frequency is on the diagonal.",
        blocks=blocks,
    )


def read_spectrum(label: str, folder: Path) -> Spectrum | None:
    """The coefficients of a model folder; None without FoPE.

    Raises:
        InputError: a folder whose files cannot be read.
    """
    from s1pro.checkpoint.shards import StoredTensors

    text = read_config(folder).text
    if not text.rope.fope:
        return None
    names = {kind: f"model.language_model.rotary_emb.{kind}_coef" for kind in ("sin", "cos")}
    stored = StoredTensors(folder)
    kept = text.rope.kept_frequencies(text.head_dim)
    coefs = {}
    for kind, name in names.items():
        if name not in stored.entries:
            return None
        coefs[kind] = stored.read(name).double().numpy().reshape(-1, kept, kept)
    return Spectrum(
        label=label,
        sin_JDD=coefs["sin"],
        cos_JDD=coefs["cos"],
        periods_D=periods(text.rope, text.head_dim),
        learnable=text.rope.learnable,
    )


def _distinct(found: Sequence[Spectrum]) -> list[Spectrum]:
    """Models of one lineage have the same frozen coefficients: they are shown once, under all their names."""
    kept: list[Spectrum] = []
    for one in found:
        for place, other in enumerate(kept):
            if np.array_equal(one.sin_JDD, other.sin_JDD) and np.array_equal(one.cos_JDD, other.cos_JDD):
                kept[place] = replace(other, label=f"{other.label}, {one.label}")
                break
        else:
            kept.append(one)
    return kept


def periods(rope: RopeConfig, head_dim: int) -> Array:
    """Tokens per turn of the kept frequencies."""
    exponents = np.arange(0, head_dim, 2)[: rope.kept_frequencies(head_dim)] / head_dim
    return np.asarray(2 * math.pi * rope.theta**exponents)


def mixed(coef_JDD: Array) -> Array:
    """`[J, D]`: share of the power of every pair that is not at its own frequency."""
    power_JDD = coef_JDD**2
    own_JD = np.diagonal(power_JDD, axis1=1, axis2=2)
    return np.asarray(1 - own_JD / power_JDD.sum(axis=1))


def _matrices(spectrum: Spectrum) -> Figure:
    ticks = {
        int(i): f"{round(spectrum.periods_D[i]):,}"
        for i in np.linspace(0, len(spectrum.periods_D) - 1, 6).round().astype(int)
    }
    shown = [
        heat.Matrix(
            title=f"{kind}, head 0 of {len(coef_JDD)}",
            values=coef_JDD[0],
            x_label="pair of channels",
            y_label="period in tokens",
            y_ticks=ticks,
        )
        for kind, coef_JDD in (("sine", spectrum.sin_JDD), ("cosine", spectrum.cos_JDD))
    ]
    return Figure(
        svg=heat.matrices(shown, name=f"fope-{spectrum.label}", label="coefficient"),
        alt=f"Matrices of the sine and cosine coefficients of {spectrum.label}, frequencies by pairs of channels.",
        caption=f"Coefficients of {spectrum.label}.",
    )


def _powers(found: Sequence[Spectrum]) -> Figure:
    panels = []
    for kind in ("sine", "cosine"):
        curves = [
            plots.Curve(
                label=spectrum.label,
                x=np.log10(spectrum.periods_D).tolist(),
                y=mixed(spectrum.sin_JDD if kind == "sine" else spectrum.cos_JDD).mean(axis=0).tolist(),
                markers=True,
            )
            for spectrum in found
        ]
        panels.append(
            plots.Panel(
                title=f"power from other frequencies, {kind}",
                curves=curves,
                y_label="share",
                x_label="log10 of the period",
            )
        )
    return Figure(
        svg=plots.curves(panels, name="fope-power"),
        alt="Share of the power that every pair has at frequencies other than its own, over its period.",
        caption="Means over heads. 0 is plain rotary encoding.",
    )


def _table(found: Sequence[Spectrum]) -> Table:
    rows: list[list[Cell]] = [
        [
            spectrum.label,
            len(spectrum.sin_JDD),
            len(spectrum.periods_D),
            f"{spectrum.periods_D[0]:,.1f} to {spectrum.periods_D[-1]:,.0f}",
            float(mixed(spectrum.sin_JDD).mean()),
            float(mixed(spectrum.cos_JDD).mean()),
            "learned" if spectrum.learnable else "frozen",
        ]
        for spectrum in found
    ]
    return Table(
        columns=("run", "heads", "frequencies", "periods in tokens", "mixed sine", "mixed cosine", "coefficients"),
        rows=rows,
    )
