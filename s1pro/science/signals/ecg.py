"""Electrocardiograms of five rhythms (life science).

A heartbeat is a sum of five bells, the waves P, Q, R, S and T, as in the model ECGSYN (McSharry, Clifford, Tarassenko
and Smith, IEEE Trans. Biomed. Eng. 50, 289, 2003), here in time instead of phase: centre and width of P, Q, R and S in
seconds, those of T growing with the square root of the RR interval (Bazett).

    x(t) = sum over beats and waves of a exp(-(t - t_beat - c)^2 / (2 w^2))

| rhythm | rate / min | RR intervals | shape |
|---|---|---|---|
| normal rhythm | 60 to 95 | respiratory variation of 2 to 5 % at 0.2 to 0.3 Hz, 1 % at random | |
| bradycardia | 38 to 52 | the same | |
| tachycardia | 110 to 150 | the same | |
| atrial fibrillation | 75 to 140 | independent, coefficient of variation 0.18 to 0.28 | no P; fibrillation 4 to 9 Hz |
| premature beats | 60 to 90 | every third or fourth beat at 60 to 72 %, then a compensatory pause | wide QRS, no P |

Noise: baseline wander below 0.4 Hz, 0.05 to 0.15 mV, and white noise of 0.01 to 0.04 mV. The sampling rate of 50 Hz is
low (a clinical record has 250 to 1,000): what tells these rhythms apart lies below 25 Hz.

Left out: conduction blocks, ischaemia, more than one lead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

RATE = 50.0
NUM_POINTS = 400
LABELS = ("normal rhythm", "bradycardia", "tachycardia", "atrial fibrillation", "premature beats")
RATES_PER_MINUTE: Mapping[str, tuple[float, float]] = {
    "normal rhythm": (60, 95),
    "bradycardia": (38, 52),
    "tachycardia": (110, 150),
    "atrial fibrillation": (75, 140),
    "premature beats": (60, 90),
}
# Wave: amplitude in mV, centre and width in s; T is given for an RR interval of one second.
WAVES: Mapping[str, tuple[float, float, float]] = {
    "P": (0.15, -0.17, 0.022),
    "Q": (-0.12, -0.035, 0.011),
    "R": (1.10, 0.0, 0.013),
    "S": (-0.25, 0.035, 0.012),
    "T": (0.30, 0.28, 0.050),
}
_WIDER = 2.4  # QRS of a beat that starts in a ventricle

QUESTIONS = Bank(
    {},
    "(Which|What) rhythm does (this|the) (ECG|electrocardiogram) show?",
    "(Name|Classify|Tell me) the (heart |cardiac |)rhythm[, please].",
    "(Which|What) (heart |cardiac |)rhythm is (this|it)?",
    "(Rhythm|Diagnosis of the rhythm)?",
    held_out=("Read this ECG strip: how does the heart beat?", "A lead was recorded for some seconds. The rhythm?"),
)


def beat_times(rr_intervals: npt.ArrayLike, first: float) -> npt.NDArray[np.float64]:
    """When the R waves come: `first`, then one after each interval; seconds."""
    return first + np.concatenate([[0.0], np.cumsum(rr_intervals)])


def waveform(
    beats: npt.NDArray[np.float64],
    *,
    p_waves: bool = True,
    premature: npt.NDArray[np.bool_] | None = None,
    num_points: int = NUM_POINTS,
) -> npt.NDArray[np.float64]:
    """Millivolts without noise, sampled at `RATE`, of R waves at `beats` seconds."""
    t = np.arange(num_points) / RATE
    early = np.zeros(len(beats), dtype=bool) if premature is None else premature
    rr = np.diff(beats, prepend=beats[0] - (beats[1] - beats[0]))
    total = np.zeros(num_points)
    for name, (amplitude, centre, width) in WAVES.items():
        if name == "P" and not p_waves:
            continue
        a, c, w = np.full(len(beats), amplitude), np.full(len(beats), centre), np.full(len(beats), width)
        if name == "T":
            stretch = np.sqrt(np.clip(rr, 0.3, 1.6))
            c, w = c * stretch, w * stretch
            a = np.where(early, -a, a)
        elif name == "P":
            a = np.where(early, 0.0, a)
        else:
            w = np.where(early, _WIDER * w, w)
        total += (a[:, None] * np.exp(-((t - beats[:, None] - c[:, None]) ** 2) / (2 * w[:, None] ** 2))).sum(axis=0)
    return total


def rr_intervals(
    rhythm: str, beats_per_minute: float, random: np.random.Generator, duration: float = NUM_POINTS / RATE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Intervals in seconds that cover the record, and which beats (one more than intervals) are premature."""
    mean = 60 / beats_per_minute
    count = int(np.ceil(duration / mean)) + 4
    if rhythm == "atrial fibrillation":
        spread = random.uniform(0.18, 0.28)
        return np.maximum(mean * (1 + spread * random.normal(size=count)), 0.3), np.zeros(count + 1, dtype=bool)
    breath, depth = random.uniform(0.2, 0.3), random.uniform(0.02, 0.05)
    at = mean * np.arange(count)
    rr = mean * (1 + depth * np.sin(2 * np.pi * breath * at + random.uniform(0, 2 * np.pi)))
    rr *= 1 + 0.01 * random.normal(size=count)
    premature = np.zeros(count + 1, dtype=bool)
    if rhythm == "premature beats":
        share = random.uniform(0.60, 0.72)
        for k in range(int(random.integers(1, 3)), count - 1, int(random.integers(3, 5))):
            # the pause compensates: the beat after it comes when it would have come anyway
            rr[k], rr[k + 1] = share * rr[k], rr[k + 1] + (1 - share) * rr[k]
            premature[k + 1] = True
    return rr, premature


def ecg_family() -> MediaFamily:
    """Which rhythm an ECG of eight seconds shows."""

    def draw(split: Split, number: int, seed: int) -> Example:
        label = LABELS[number % len(LABELS)]
        key = f"ecg:{split}:{seed}:{number}"
        return Example(
            entity=key,
            answer={"text": label},
            render=lambda: time_series(_record(key, label), sampling_rate=RATE, unit="mV", channels=["lead II"]),
        )

    return MediaFamily(
        name="rhythm_in_ecg",
        domain="life",
        modality="signal",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
    )


def _record(key: str, rhythm: str) -> npt.NDArray[np.float64]:
    random = stream(key)
    rr, premature = rr_intervals(rhythm, random.uniform(*RATES_PER_MINUTE[rhythm]), random)
    beats = beat_times(rr, first=-random.uniform(0, 1) * float(rr[0]))
    fibrillation = rhythm == "atrial fibrillation"
    clean = random.uniform(0.8, 1.25) * waveform(beats, p_waves=not fibrillation, premature=premature)
    t = np.arange(NUM_POINTS) / RATE
    if fibrillation:
        drift = np.cumsum(random.normal(0, 0.25, NUM_POINTS))  # f waves keep no phase
        clean += random.uniform(0.03, 0.08) * np.sin(2 * np.pi * random.uniform(4, 9) * t + drift)
    phase = random.uniform(0, 2 * np.pi)
    wander = random.uniform(0.05, 0.15) * np.sin(2 * np.pi * random.uniform(0.1, 0.4) * t + phase)
    return clean + wander + random.normal(0, random.uniform(0.01, 0.04), NUM_POINTS)
