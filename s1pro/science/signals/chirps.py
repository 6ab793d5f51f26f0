"""Chirps: a tone whose frequency rises, falls or stays, in noise (physics).

    f(t) = f0 + k t          instantaneous frequency in Hz, t from 0 to the length of the record
    x(t) = A sin(2 pi (f0 t + k t^2 / 2) + phase) + noise

Ranges: frequencies from 0.4 to 5 Hz at 20 Hz sampling (below half the Nyquist frequency of 10 Hz, so that every wave
has at least four points), sweeps |k| from 0.35 to 0.7 Hz/s over 6.4 s, white noise of 5 to 25 % of the amplitude. The
mean frequency of a record has the same distribution in all classes: only the change tells them apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

RATE = 20.0
NUM_POINTS = 128
LABELS = ("rising", "falling", "constant")
_LOWEST, _HIGHEST = 0.4, 5.0
_SLOWEST, _FASTEST = 0.35, 0.7

QUESTIONS = Bank(
    {},
    "Is the (frequency|pitch) rising, falling or constant?",
    "Does the (frequency|pitch) rise, fall or stay constant?",
    "(How|In which direction) does the (frequency|pitch) (change|move|go)?",
    "(Rising, falling or constant frequency|Frequency: rising, falling or constant)?",
    "What does the (frequency|pitch) do?",
    "(Say|Tell me) what the (frequency|pitch) does.",
    held_out=("Do the waves get shorter, longer or neither? Say what the frequency is doing.",),
)


def chirp(
    first: float, sweep: float, *, amplitude: float = 1.0, phase: float = 0.0, num_points: int = NUM_POINTS
) -> npt.NDArray[np.float64]:
    """A linear chirp without noise from `first` Hz, changing by `sweep` Hz per second, sampled at `RATE`."""
    t = np.arange(num_points) / RATE
    return amplitude * np.sin(2 * np.pi * (first * t + sweep * t * t / 2) + phase)


def chirp_family() -> MediaFamily:
    """In which direction the frequency of a chirp changes."""

    def draw(split: Split, number: int, seed: int) -> Example:
        label = LABELS[number % len(LABELS)]
        key = f"chirps:{split}:{seed}:{number}"
        return Example(
            entity=key,
            answer={"text": label},
            render=lambda: time_series(_noisy(key, label), sampling_rate=RATE, unit="V", channels=["voltage"]),
        )

    return MediaFamily(
        name="chirp_in_signal",
        domain="physics",
        modality="signal",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
    )


def _noisy(key: str, label: str) -> npt.NDArray[np.float64]:
    random = stream(key)
    sign = {"rising": 1.0, "falling": -1.0, "constant": 0.0}[label]
    duration = NUM_POINTS / RATE
    change = random.uniform(_SLOWEST, _FASTEST) * duration  # drawn for all classes, so that the middle is alike
    middle = random.uniform(_LOWEST + change / 2, _HIGHEST - change / 2)
    amplitude, phase = random.uniform(0.5, 2), random.uniform(0, 2 * np.pi)
    clean = chirp(middle - sign * change / 2, sign * change / duration, amplitude=amplitude, phase=phase)
    return clean + random.normal(0, random.uniform(0.05, 0.25) * amplitude, NUM_POINTS)
