"""Scans of handwritten digits: 1,797 real pictures of 8 x 8 points that the package scikit-learn carries.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI, 1998): forms that
13 people filled in. Neighbouring records are by one hand, so the splits are three runs of records and not every n-th
one: most of the people who wrote the test digits wrote none of the training digits.

The file is read from the installed package as it is (gzipped CSV, 65 columns: 64 values from 0 to 16 and the digit);
importing scikit-learn would take a second. A picture is enlarged without smoothing, dark ink on white.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science.media import Choice, Example, MediaFamily, Medium, place_in
from s1pro.science.split import Split
from s1pro.science.templates import Bank

SIDE = 8
DARKEST = 16
LABELS = tuple(str(digit) for digit in range(10))
# The first record of each split and the one after the last.
BORDERS: dict[Split, tuple[int, int]] = {"train": (0, 1437), "validation": (1437, 1527), "test": (1527, 1797)}
_SHAPE = (1797, SIDE * SIDE + 1)

QUESTIONS = Bank(
    {},
    "(Which|What) digit (is this|is shown|do you see|is in the picture)?",
    "(Which|What) number (is written here|does the picture show)?",
    "(Read|Name|Tell me) the (handwritten |)digit[, please].",
    "(The|This) digit is?",
    "Digit?",
    held_out=("Somebody wrote a digit. Which one?", "Please read this handwriting."),
)


@functools.cache
def _records() -> npt.NDArray[np.uint8]:
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("scikit-learn", "science")
    path = Path(next(iter(found.submodule_search_locations))) / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: scikit-learn's digits are not there, or not readable ({error})") from error
    if table.shape != _SHAPE or table[:, :-1].max() > DARKEST or table[:, -1].max() > 9:
        raise InputError(f"{path}: expected {_SHAPE} values, ink up to {DARKEST} and digits, got {table.shape}")
    return table


def scan(index: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Ink `[8, 8]` from 0 to 16 and the digit of one record."""
    record = _records()[index]
    return record[:-1].reshape(SIDE, SIDE), int(record[-1])


def digit_family(side: int = 64) -> MediaFamily:
    """Which digit a scan shows; pictures of `side` x `side` pixels."""
    if side < SIDE or side % SIDE:
        raise InputError(f"digits are enlarged to a multiple of {SIDE} pixels, got {side}")

    def draw(split: Split, number: int, seed: int) -> Example:
        first, end = BORDERS[split]
        index = first + place_in(end - first, number, "digits", split, seed)
        digit = scan(index)[1]
        return Example(entity=f"digits:{index}", answer={"text": str(digit)}, render=lambda: _picture(index, side))

    return MediaFamily(
        name="digit_in_scan",
        domain="pictures",
        modality="image",
        questions=QUESTIONS,
        answer=Choice(labels=LABELS),
        draw=draw,
        limits=lambda split: BORDERS[split][1] - BORDERS[split][0],
    )


def _picture(index: int, side: int) -> Medium:
    ink = scan(index)[0].astype(np.float64)
    grey = np.round(255 - ink * (255 / DARKEST)).astype(np.uint8)
    factor = side // SIDE
    grey = grey.repeat(factor, axis=0).repeat(factor, axis=1)
    return Medium(kind="image", array=np.repeat(grey[:, :, None], 3, axis=2))
