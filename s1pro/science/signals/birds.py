"""Calls of low-voiced birds, such as doves, owls and cuckoos: whistle, glide or trill (life science).

    x(t) = envelope(t) sum_h a_h sin(2 pi h integral of f) + noise

| call | frequency f(t) | envelope |
|---|---|---|
| whistle | constant | one syllable of 0.5 to 0.9 s |
| glide | rises or falls by a factor of 1.5 to 2 | the same |
| trill | constant | 12 to 22 pulses per second over the same time |

The geometric mean of the frequency is 300 to 450 Hz for all three. A second and a third harmonic lie 10 to 25 and 18 to
35 dB below the fundamental, low-passed wind noise 15 to 30 dB. Sampling rate 4 kHz for 1.2 s: the highest harmonic, 1.9
kHz, stays below half of that. Ranges follow descriptions of songs; no recording of a species is imitated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s1pro.science.media import Choice, Example, MediaFamily, stream, time_series
from s1pro.science.split import Split
from s1pro.science.templates import Bank

RATE = 4000.0
NUM_POINTS = 4800
LABELS = ("whistle", "glide", "trill")

QUESTIONS = Bank(
    {},
    "(Which|What) (kind|type) of call is (this|it): whistle, glide or trill?",
    "(Does|Did) the bird whistle, glide or trill?",
    "(Classify|Name|Tell me) the (bird call|call of the bird|type of call)[, please].",
    "(Bird call|Type of call|Call)?",
    held_out=("A bird was recorded at dawn. How would you call its call?",),
)


def syllable(
    first: float, last: float, start: float, duration: float, *, pulses_per_second: float = 0.0
) -> npt.NDArray[np.complex128]:
    """A pure complex tone that goes from `first` to `last` Hz exponentially, with soft ends or as pulses; unit size."""
    t = np.arange(NUM_POINTS) / RATE - start
    along = np.clip(t / duration, 0, 1)
    ratio = np.log(last / first)
    # the integral of first * exp(ratio * t / duration); its limit for a constant tone is first * t
    cycles = first * t if abs(ratio) < 1e-9 else first * duration / ratio * np.expm1(ratio * along)
    envelope = np.where((t >= 0) & (t <= duration), np.sin(np.pi * along) ** 0.5, 0.0)
    if pulses_per_second:
        envelope *= np.sin(np.pi * pulses_per_second * t) ** 4
    return envelope * np.exp(2j * np.pi * cycles)


def bird_family() -> MediaFamily:
    """Which type of call a recording holds."""

    def draw(split: Split, number: int, seed: int) -> Example:
        label = LABELS[number % len(LABELS)]
        key = f"birds:{split}:{seed}:{number}"
        return Example(
            entity=key,
            answer={"text": label},
            render=lambda: time_series(_record(key, label), sampling_rate=RATE, unit="Pa", channels=["sound pressure"]),
        )

    return MediaFamily(
        name="call_in_sound",
        domain="life",
        modality="signal",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
    )


def _record(key: str, label: str) -> npt.NDArray[np.float64]:
    random = stream(key)
    middle, duration = random.uniform(300, 450), random.uniform(0.5, 0.9)
    start = random.uniform(0.05, NUM_POINTS / RATE - duration - 0.05)
    change = random.uniform(1.5, 2.0) ** (0.5 if random.random() < 0.5 else -0.5) if label == "glide" else 1.0
    pulses = random.uniform(12, 22) if label == "trill" else 0.0
    tone = syllable(middle / change, middle * change, start, duration, pulses_per_second=pulses)
    call, size = np.zeros(NUM_POINTS), random.uniform(0.01, 0.1)
    envelope, unit = np.abs(tone), tone / np.maximum(np.abs(tone), 1e-12)
    for harmonic, below in ((1, 0.0), (2, random.uniform(10, 25)), (3, random.uniform(18, 35))):
        call += 10 ** (-below / 20) * envelope * (unit**harmonic).real
    wind = np.convolve(random.normal(size=NUM_POINTS + 15), np.full(16, 0.25))[15 : NUM_POINTS + 15]
    return size * (call + 10 ** (-random.uniform(15, 30) / 20) * wind)
