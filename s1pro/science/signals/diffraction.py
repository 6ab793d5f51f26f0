"""X-ray powder diffraction of cubic crystals: which lattice (materials science).

Bragg's law with the lattice parameter a and the copper K-alpha line:

    lambda = 2 d sin(theta),  d = a / sqrt(N),  N = h^2 + k^2 + l^2

| answer | reflections that are there | first values of N |
|---|---|---|
| primitive | all | 1, 2, 3, 4, 5, 6, 8, 9 |
| body-centred | h + k + l even | 2, 4, 6, 8, 10, 12, 14 |
| face-centred | h, k, l all even or all odd | 3, 4, 8, 11, 12, 16, 19, 20 |

Intensity: multiplicity (how many hkl have this N) x Lorentz-polarisation factor (1 + cos^2 2 theta) / (sin^2 theta cos
theta) x exp(-2 B sin^2 theta / lambda^2), where B (2 to 6 square angstroms) stands for thermal motion and the fall of
the form factor. Peaks are pseudo-Voigt (half Gauss, half Lorentz) of 0.5 to 0.9 degrees, grains that are not quite at
random change each by up to 20 %; a flat background and Poisson noise at 150 to 2,000 counts in the strongest peak.

Range 15 to 105 degrees in 2 theta in 200 steps; the "sampling rate" is points per degree. a is drawn from 3.0 to 4.6
angstroms for all lattices alike, so one peak tells nothing and the ratios of positions all.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

WAVELENGTH = 1.5406  # angstroms
FIRST_DEGREE, LAST_DEGREE = 15.0, 105.0
NUM_POINTS = 200
RATE = NUM_POINTS / (LAST_DEGREE - FIRST_DEGREE)
LABELS = ("primitive", "body-centred", "face-centred")
_LARGEST_INDEX = 7

QUESTIONS = Bank(
    {},
    "(Which|What) cubic lattice (gives|belongs to|has) (this|the) (pattern|diffraction pattern)?",
    "(Is the|Is this cubic) (lattice|crystal) primitive, body-centred or face-centred?",
    "(Name|Determine|Tell me) the (cubic lattice|type of the cubic lattice|Bravais lattice)[, please].",
    "(Lattice type|Cubic lattice)?",
    held_out=("Index the powder pattern: where do the lattice points of the cube lie?",),
)


@functools.cache
def reflections(lattice: str) -> dict[int, int]:
    """N to the number of hkl (all signs and orders) that have it and that the lattice does not extinguish."""
    found: Counter[int] = Counter()
    for h, k, l in itertools.product(range(-_LARGEST_INDEX, _LARGEST_INDEX + 1), repeat=3):  # noqa: E741
        odd = (h % 2, k % 2, l % 2)
        present = {
            "primitive": True,
            "body-centred": sum(odd) % 2 == 0,
            "face-centred": len(set(odd)) == 1,
        }[lattice]
        n = h * h + k * k + l * l
        if present and 0 < n <= _LARGEST_INDEX**2:
            found[n] += 1
    return dict(sorted(found.items()))


def bragg_angle(parameter: float, n: int) -> float | None:
    """2 theta in degrees of the reflection N of a cube of `parameter` angstroms; None if there is none."""
    sine = WAVELENGTH * np.sqrt(n) / (2 * parameter)
    return float(2 * np.degrees(np.arcsin(sine))) if sine < 1 else None


def pattern(
    lattice: str, parameter: float, *, width: float = 0.6, decay: float = 3.0, texture: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Intensity without noise at `NUM_POINTS` angles; the strongest peak is about 1.

    Args:
        width: of a peak at half its height, in degrees.
        decay: B of the module docstring.
        texture: factors on the reflections, in the order of N.
    """
    angles = np.linspace(FIRST_DEGREE, LAST_DEGREE, NUM_POINTS)
    total = np.zeros(NUM_POINTS)
    known = reflections(lattice)
    factors = np.ones(len(known)) if texture is None else np.asarray(texture)
    strongest = 0.0
    for (n, multiplicity), factor in zip(known.items(), factors, strict=True):
        position = bragg_angle(parameter, n)
        if position is None or not FIRST_DEGREE - 2 < position < LAST_DEGREE + 2:
            continue
        theta = np.radians(position / 2)
        lorentz = (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
        size = multiplicity * lorentz * np.exp(-2 * decay * (np.sin(theta) / WAVELENGTH) ** 2) * factor
        x = (angles - position) / (width / 2)
        total += size * 0.5 * (np.exp(-np.log(2) * x**2) + 1 / (1 + x**2))
        strongest = max(strongest, size)
    return total / strongest


def diffraction_family() -> MediaFamily:
    """Which cubic lattice a powder pattern belongs to."""

    def draw(split: Split, number: int, seed: int) -> Example:
        label = LABELS[number % len(LABELS)]
        key = f"diffraction:{split}:{seed}:{number}"
        return Example(
            entity=key,
            answer={"text": label},
            render=lambda: time_series(_record(key, label), sampling_rate=RATE, unit="counts", channels=["intensity"]),
        )

    return MediaFamily(
        name="lattice_in_diffraction",
        domain="materials",
        modality="signal",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
    )


def _record(key: str, lattice: str) -> npt.NDArray[np.float64]:
    random = stream(key)
    clean = pattern(
        lattice,
        random.uniform(3.0, 4.6),
        width=random.uniform(0.5, 0.9),
        decay=random.uniform(2, 6),
        texture=random.uniform(0.8, 1.2, len(reflections(lattice))),
    )
    counts = np.exp(random.uniform(np.log(150), np.log(2000)))
    return random.poisson(counts * (clean + random.uniform(0.02, 0.08))).astype(np.float64)
