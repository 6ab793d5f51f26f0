"""Light curves of stars with and without a planet that passes in front (astronomy, domain physics).

Planet and star are discs with radii k and 1 (in stellar radii). At the distance z of their centres the covered share of
a uniformly bright star is (Mandel and Agol, Astrophys. J. 580, L171, 2002, without limb darkening)

    z >= 1 + k          0
    z <= 1 - k          k^2
    between             (k^2 a0 + a1 - sqrt(z^2 - (1 + z^2 - k^2)^2 / 4)) / pi
                        with cos a0 = (k^2 + z^2 - 1) / (2 k z), cos a1 = (1 - k^2 + z^2) / (2 z)

so the depth of a central transit is (r_planet / r_star)^2. A circular orbit of radius a and impact parameter b gives
z(t)^2 = (a sin phi)^2 + (b cos phi)^2, phi = 2 pi t / period, on the near side of the orbit only.

Ranges: k 0.07 to 0.13 (hot Jupiters), period 0.9 to 2.2 days, a 3.5 to 6 stellar radii, b 0 to 0.5. Star spots turn
with the star: a sine of 0.1 to 0.5 % with a period of 3 to 12 days. Photon noise 0.05 to 0.12 % per point. Cadence 30
minutes, as Kepler's long cadence, for 4 days: 192 points, so that at least one transit is seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

CADENCE_S = 1800.0
NUM_POINTS = 192
LABELS = ("yes", "no")

QUESTIONS = Bank(
    {},
    "(Does|Did) a planet (pass|move) in front of the star?",
    "(Is there|Do you see|Does the light curve show) a transit?",
    "(Transit|Exoplanet|Planet)(:|,) yes or no?",
    "(Tell me|Say|Decide) whether (the star has a transiting planet|there are transits).",
    held_out=("Does something dark cross this star again and again?",),
)


def covered(distance: npt.ArrayLike, radius: float) -> npt.NDArray[np.float64]:
    """Share of the light that a disc of `radius` takes at `distance` from the centre, both in stellar radii."""
    if not 0 < radius < 1:
        raise ValueError(f"the radius is between 0 and 1 stellar radii, got {radius}")
    z = np.abs(np.asarray(distance, dtype=np.float64))
    partly = (z > 1 - radius) & (z < 1 + radius)
    safe = np.where(partly, z, 1.0)
    angle0 = np.arccos(np.clip((radius**2 + safe**2 - 1) / (2 * radius * safe), -1, 1))
    angle1 = np.arccos(np.clip((1 - radius**2 + safe**2) / (2 * safe), -1, 1))
    root = np.sqrt(np.maximum(safe**2 - (1 + safe**2 - radius**2) ** 2 / 4, 0))
    between = (radius**2 * angle0 + angle1 - root) / np.pi
    return np.where(partly, between, np.where(z >= 1 + radius, 0.0, radius**2))


def transit_light(
    t_days: npt.NDArray[np.float64], *, radius: float, period: float, first: float, orbit: float, impact: float
) -> npt.NDArray[np.float64]:
    """Relative light of the star, 1 outside transits; `first` is the middle of a transit, in days."""
    angle = 2 * np.pi * (t_days - first) / period
    distance = np.hypot(orbit * np.sin(angle), impact * np.cos(angle))
    return 1 - np.where(np.cos(angle) > 0, covered(distance, radius), 0.0)


def transit_family() -> MediaFamily:
    """Whether a planet passes in front of the star."""

    def draw(split: Split, number: int, seed: int) -> Example:
        label, key = LABELS[number % 2], f"transits:{split}:{seed}:{number}"
        return Example(
            entity=key,
            answer={"text": label},
            render=lambda: time_series(
                _record(key, label), sampling_rate=1 / CADENCE_S, unit="relative flux", channels=["flux"]
            ),
        )

    return MediaFamily(
        name="transit_in_lightcurve",
        domain="physics",
        modality="signal",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
    )


def _record(key: str, label: str) -> npt.NDArray[np.float64]:
    random = stream(key)
    t = np.arange(NUM_POINTS, dtype=np.float64) * (CADENCE_S / 86400)
    turn, phase = random.uniform(3, 12), random.uniform(0, 2 * np.pi)
    light = 1 + random.uniform(0.001, 0.005) * np.sin(2 * np.pi * t / turn + phase)
    if label == "yes":
        period = random.uniform(0.9, 2.2)
        light *= transit_light(
            t,
            radius=random.uniform(0.07, 0.13),
            period=period,
            first=random.uniform(0, period),
            orbit=random.uniform(3.5, 6),
            impact=random.uniform(0, 0.5),
        )
    return light + random.normal(0, random.uniform(0.0005, 0.0012), NUM_POINTS)
