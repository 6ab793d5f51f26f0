"""Pictures, videos and signals with a question and its answer: the records that corpus and tasks share.

    MediaFamily.draw(split, number, seed) -> Example -> render() -> Medium -> MediaFolder.write -> a part of a message

A *family* is one kind of question about one kind of medium: which digit a scan shows, in which direction a chirp runs.
The same families make training conversations (`corpus.multimodal`) and items of tasks (`tasks.media`).

* **Examples are numbered.** Example `number` of a split depends on family, split, seed and number only, not on how many
  are drawn: a longer list begins with the shorter one.
* **Splits never meet.** Simulated media come from random streams that have the split in their name; real ones are
  divided by what they show (scaffold, compound, writer, time), and `entity` says by what.
* **Classes take turns**, so that no constant answer does well and every prefix of a list is balanced.
* **Rendering is lazy.** Baselines and counts need labels, not pixels.

What a message holds (media first, then the text):

    {"type": "image", "image": "../media/0a/....png"}
    {"type": "video", "video": "../media/0a/....npy", "fps": 2.0}                     uint8 [F, H, W, 3]
    {"type": "time_series", "time_series": "../media/0a/....npy", "sampling_rate": 50.0,
     "unit": "mV", "channels": ["lead II"]}                                           float32 [L] or [L, A]

Paths are relative to the folder of the file with the messages; in prompts of tasks they are absolute.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from s1pro.science.split import Split
from s1pro.science.templates import Bank

Modality = Literal["text", "image", "video", "signal"]
MediumKind = Literal["image", "video", "time_series"]

_SHAPES: Mapping[MediumKind, tuple[type, tuple[int, ...]]] = {
    "image": (np.uint8, (3,)),
    "video": (np.uint8, (4,)),
    "time_series": (np.float32, (1, 2)),
}


@dataclass(frozen=True, kw_only=True)
class Medium:
    """An array and what a message says about it.

    Attributes:
        array: image uint8 `[H, W, 3]`, video uint8 `[F, H, W, 3]`, time series float32 `[L]` or `[L, A]`.
        details: the other keys of the part: `fps`, or `sampling_rate`, `unit` and `channels`.
    """

    kind: MediumKind
    array: npt.NDArray[Any]
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtype, dims = _SHAPES[self.kind]
        if self.array.dtype != dtype or self.array.ndim not in dims or not self.array.size:
            raise ValueError(f"not a {self.kind}: {self.array.dtype} {self.array.shape}")
        if self.kind == "time_series" and not np.isfinite(self.array).all():
            raise ValueError("a time series with values that are not finite")

    def part(self, path: str) -> dict[str, Any]:
        """What stands for the medium in a message."""
        return {"type": self.kind, self.kind: path, **self.details}


def time_series(
    values: npt.ArrayLike, *, sampling_rate: float, unit: str, channels: Sequence[str] | None = None
) -> Medium:
    """A signal as float32. `sampling_rate` in Hz, or points per unit of the abscissa where that is not time."""
    details: dict[str, Any] = {"sampling_rate": float(sampling_rate), "unit": unit}
    if channels is not None:
        details["channels"] = list(channels)
    return Medium(kind="time_series", array=np.asarray(values, dtype=np.float32), details=details)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few labels."""

    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Count:
    """A whole number from 0 on."""


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A molecular formula in Hill order."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A number that is read from an axis: `answer["value"]`, right within `answer["tolerance"]`."""


# Of the length of the axis.
READING_TOLERANCE = 0.05


def reading_answer(value: float, unit: str, axis_length: float) -> dict[str, Any]:
    """The answer of a `Reading`: as many digits that rounding takes a quarter of the tolerance at most."""
    tolerance = READING_TOLERANCE * axis_length
    digits = max(0, math.ceil(-math.log10(tolerance / 2)))
    return {"text": f"{value:.{digits}f} {unit}", "value": value, "tolerance": tolerance}


AnswerKind = Choice | Count | Formula | Reading


@dataclass(frozen=True, kw_only=True)
class Example:
    """One medium, one question, one answer.

    Attributes:
        entity: what it is about; an entity is in one split only.
        asked: values of the slots of the question.
        answer: `text`, the answer as it is written, and what a score needs beside it.
        render: makes the medium, the same whenever it is called.
    """

    entity: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any]
    render: Callable[[], Medium]


Draw = Callable[[Split, int, int], Example]


@dataclass(frozen=True, kw_only=True)
class MediaFamily:
    """See the module docstring.

    Attributes:
        name: also the name of the task and of the folder of the corpus.
        domain: of `science.system_prompts`; it decides the system prompt.
        answer: form of all answers.
        draw: (split, number, seed) to the example.
        kind: slot of the question that says what is asked, for a baseline that looks at the question only.
        limits: how many different examples a split has; None where there is no end.
    """

    name: str
    domain: str
    modality: Modality
    questions: Bank
    answer: AnswerKind
    draw: Draw
    kind: str | None = None
    limits: Callable[[Split], int] | None = None

    def examples(self, split: Split, count: int, *, seed: int = 0) -> list[Example]:
        """The first `count` examples; those of a split with an end come again when all have been drawn."""
        return [self.draw(split, number, seed) for number in range(count)]

    def different(self, split: Split, count: int) -> int:
        """How many of `count` examples are different."""
        return count if self.limits is None else min(count, self.limits(split))


def stream(*key: object) -> np.random.Generator:
    """The random numbers that belong to a key, such as family, split, seed and number; far from those of other keys."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))


def place_in(pool_size: int, number: int, *key: object) -> int:
    """Which member of a pool example `number` takes: all of them once in random order, then all again in another."""
    round_number, place = divmod(number, pool_size)
    return int(stream("pool", round_number, *key).permutation(pool_size)[place])
