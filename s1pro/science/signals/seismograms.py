"""Seismograms of local and regional earthquakes (earth science): is there one, and how far away.

P and S waves leave together, and S is slower, so the time between them grows with the distance d:

    t_S - t_P = d (1 / v_S - 1 / v_P)        v_P = 6.0 km/s, v_S = v_P / sqrt(3) (a Poisson solid, upper crust)

that is about 0.122 s per km. Ground velocity of each phase: an oscillation that starts at its arrival and decays,

    a (s / r) exp(1 - s / r) sin(2 pi f s)  with s the time since the arrival and r the rise time

P at 2 to 4 Hz, S at 1 to 2 Hz and 2 to 4 times as strong, each with a coda of noise that decays over 1 to 3 s.
Background: noise with the spectrum of an AR(1) process (coefficient 0.6 to 0.9), a twelfth to a quarter of the P
amplitude.

| answer | distance in km | t_S - t_P in s |
|---|---|---|
| near | 15 to 45 | 1.8 to 5.5 |
| middle | 65 to 105 | 7.9 to 12.8 |
| far | 130 to 190 | 15.9 to 23.2 |

Sampling rate 10 Hz for 30 s, vertical component. Left out: depth, refracted phases, surface waves, clipping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, Medium, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

RATE = 10.0
NUM_POINTS = 300
V_P = 6.0
V_S = V_P / math.sqrt(3)
DISTANCES_KM: Mapping[str, tuple[float, float]] = {"near": (15, 45), "middle": (65, 105), "far": (130, 190)}
PRESENT = ("yes", "no")

DISTANCE = Bank(
    {},
    "(Is the earthquake|Is the source|Was the event) (near, at a middle distance or far|near, middle or far)?",
    "(How far away|At what distance) (is|was) the (earthquake|source|event): near, middle or far?",
    "(Distance of the (earthquake|source)|Epicentral distance): near, middle or far?",
    "(From|Judging by) the time between P and S, is the (earthquake|source) near, middle or far?",
    held_out=("How long did the ground wait for the S wave? Say near, middle or far.",),
)
ARRIVAL = Bank(
    {},
    "(Is|Was) there an (earthquake|event|arrival) in the (record|seismogram)?",
    "(Does|Did) the (station|seismogram|record) (show|see|contain) an (earthquake|event|arrival)?",
    "(Earthquake|Seismic event|Arrival)(:|,) yes or no?",
    "(Tell me|Say|Decide) whether (an earthquake|an event) was recorded.",
    held_out=("Did the ground move for more than background noise?",),
)


def s_minus_p(distance_km: float) -> float:
    """Seconds between the two arrivals."""
    return distance_km * (1 / V_S - 1 / V_P)


def phase(arrival: float, frequency: float, rise: float, num_points: int = NUM_POINTS) -> npt.NDArray[np.float64]:
    """One phase of unit size, zero before its arrival in seconds, sampled at `RATE`."""
    s = np.maximum(np.arange(num_points) / RATE - arrival, 0)
    return s / rise * np.exp(1 - s / rise) * np.sin(2 * np.pi * frequency * s)


def seismogram_families() -> tuple[MediaFamily, MediaFamily]:
    """Whether an earthquake was recorded, and how far away it was."""

    def arrival(split: Split, number: int, seed: int) -> Example:
        label, key = PRESENT[number % 2], f"seismic-arrival:{split}:{seed}:{number}"
        return _example(key, label, lambda random: _distance(random) if label == "yes" else None)

    def distance(split: Split, number: int, seed: int) -> Example:
        label, key = tuple(DISTANCES_KM)[number % 3], f"seismic-distance:{split}:{seed}:{number}"
        return _example(key, label, lambda random: random.uniform(*DISTANCES_KM[label]))

    return (
        MediaFamily(
            name="arrival_in_seismogram",
            domain="earth",
            modality="signal",
            questions=ARRIVAL,
            answer=Choice(labels=PRESENT),
            draw=arrival,
        ),
        MediaFamily(
            name="distance_in_seismogram",
            domain="earth",
            modality="signal",
            questions=DISTANCE,
            answer=Choice(labels=tuple(DISTANCES_KM)),
            draw=distance,
        ),
    )


def _distance(random: np.random.Generator) -> float:
    return float(random.uniform(15, 190))


def _example(key: str, label: str, distance: Callable[[np.random.Generator], float | None]) -> Example:
    def render() -> Medium:
        random = stream(key)
        values = _record(random, distance(random))
        return time_series(values, sampling_rate=RATE, unit="um/s", channels=["vertical velocity"])

    return Example(entity=key, answer={"text": label}, render=render)


def _record(random: np.random.Generator, distance: float | None) -> npt.NDArray[np.float64]:
    """Micrometres per second; None is a record without an earthquake."""
    background = _coloured(random, random.uniform(0.6, 0.9))
    if distance is None:
        return random.uniform(0.05, 2) * background
    t = np.arange(NUM_POINTS) / RATE
    first = random.uniform(1.5, 5)
    p_size = random.uniform(0.5, 5)
    total = random.uniform(1 / 12, 1 / 4) * p_size * background
    for arrival, size, band in (
        (first, p_size, (2.0, 4.0)),
        (first + s_minus_p(distance), p_size * random.uniform(2, 4), (1.0, 2.0)),
    ):
        total += size * phase(arrival, random.uniform(*band), random.uniform(0.2, 0.5))
        since = np.maximum(t - arrival, 0)
        coda = 0.35 * size * np.exp(-since / random.uniform(1, 3)) * random.normal(size=NUM_POINTS)
        total += np.where(t >= arrival, coda, 0)
    return total


def _coloured(random: np.random.Generator, memory: float) -> npt.NDArray[np.float64]:
    """An AR(1) process of unit variance."""
    steps = random.normal(size=NUM_POINTS) * math.sqrt(1 - memory**2)
    steps[0] /= math.sqrt(1 - memory**2)
    lag = np.arange(NUM_POINTS)
    return np.convolve(steps, memory**lag)[:NUM_POINTS]
