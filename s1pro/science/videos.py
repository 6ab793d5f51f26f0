"""Short videos whose content is motion (physics): frames of a thing that moves, turns or grows.

    motion_in_video   a body moves at constant speed: left, right, up or down
    turn_in_video     a rod with a head turns: clockwise or counter-clockwise
    curve_in_video    a measured curve is drawn bit by bit: it rises, falls, or rises and then falls

The answer lies in the order of the frames. A single frame of a rod says nothing about its turning, for its angle is
uniform; one of a moving body says little, for the path lies anywhere; the last one of a curve says all.

Frames are `side` x `side` pixels at 2 frames per second. A video is drawn as a field: the brightness of a pixel is a
function of its distance to the thing, which gives smooth edges at any position without a drawing library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.science.media import Choice, Example, MediaFamily, Medium, stream
from s1pro.science.split import Split
from s1pro.science.templates import Bank

FPS = 2.0
SMALLEST_SIDE = 32
DIRECTIONS: Mapping[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
TURNS: Mapping[str, int] = {"clockwise": 1, "counter-clockwise": -1}
CURVES = ("rises", "falls", "rises, then falls")

_Canvas = npt.NDArray[np.float64]
_Render = Callable[[str, str], npt.NDArray[np.uint8]]

MOTION = Bank(
    {},
    "(In which|Which) direction does the (body|disc|thing|object) move?",
    "(Where|Which way) (does the disc go|is the disc moving|does the body go)?",
    "(Left, right, up or down|Direction of motion)?",
    "(Tell me|Name) the direction of (motion|the motion|the velocity).",
    held_out=("Which of the four directions has the velocity?", "The disc moves. Where to?"),
)
TURN = Bank(
    {},
    "(In which sense|Which way) does the (rod|pendulum|body|hand) turn?",
    "(Clockwise or counter-clockwise|Sense of rotation)?",
    "(Does the rod turn|Is the rod turning) clockwise or counter-clockwise?",
    "(Tell me|Name) the sense of rotation.",
    held_out=("Does it turn like the hands of a clock, or against them?",),
)
CURVE = Bank(
    {},
    "What does the (curve|measured curve) do?",
    "(Say|Tell me) what the curve does.",
    "(How|In which way) does the (curve|measured curve|reading) (go|develop|run)?",
    "Does the curve rise, fall, or rise and then fall?",
    held_out=("Describe the curve that is being drawn.",),
)


def video_families(*, side: int = 64, frames: int = 8) -> tuple[MediaFamily, ...]:
    """The three families of the module docstring."""
    if side < SMALLEST_SIDE or frames < 4:
        raise InputError(f"videos need at least {SMALLEST_SIDE} pixels and 4 frames, got {side} and {frames}")

    def family(name: str, questions: Bank, labels: tuple[str, ...], frames_of: _Render) -> MediaFamily:
        def draw(split: Split, number: int, seed: int) -> Example:
            label = labels[number % len(labels)]
            key = f"{name}:{split}:{seed}:{number}"
            return Example(
                entity=key,
                answer={"text": label},
                render=lambda: Medium(kind="video", array=frames_of(key, label), details={"fps": FPS}),
            )

        return MediaFamily(
            name=name, domain="physics", modality="video", questions=questions, answer=Choice(labels=labels), draw=draw
        )

    return (
        family("motion_in_video", MOTION, tuple(DIRECTIONS), lambda key, label: moving_disc(key, label, side, frames)),
        family("turn_in_video", TURN, tuple(TURNS), lambda key, label: turning_rod(key, label, side, frames)),
        family("curve_in_video", CURVE, CURVES, lambda key, label: growing_curve(key, label, side, frames)),
    )


def moving_disc(key: str, direction: str, side: int, frames: int) -> npt.NDArray[np.uint8]:
    """A disc on a straight path through the picture; uint8 `[frames, side, side, 3]`.

    The middle of the path is anywhere where the disc stays in the picture.
    """
    random = stream(key)
    radius = random.uniform(0.08, 0.14) * side
    reach = random.uniform(0.16, 0.24) * side
    free = side / 2 - radius
    dx, dy = DIRECTIONS[direction]
    x_middle, y_middle = (side / 2 + random.uniform(-1, 1) * (free - reach * abs(d)) for d in (dx, dy))
    images = []
    for along in np.linspace(-reach, reach, frames):
        images.append(_disc(x_middle + dx * along, y_middle + dy * along, radius, side))
    return _frames(images, random)


def turning_rod(key: str, turn: str, side: int, frames: int) -> npt.NDArray[np.uint8]:
    """A rod with a head at one end that turns about the middle by 20 to 35 degrees per frame."""
    random = stream(key)
    step = math.radians(random.uniform(20, 35)) * TURNS[turn]
    start = random.uniform(0, 2 * math.pi) - step * (frames - 1) / 2
    length = random.uniform(0.3, 0.4) * side
    images = []
    for k in range(frames):
        # The y axis of a picture points down, so a growing angle is clockwise.
        x, y = length * math.cos(start + k * step), length * math.sin(start + k * step)
        middle = side / 2
        rod = _segment(middle - 0.4 * x, middle - 0.4 * y, middle + x, middle + y, 0.03 * side, side)
        images.append(np.maximum(rod, _disc(middle + x, middle + y, 0.09 * side, side)))
    return _frames(images, random)


def growing_curve(key: str, shape: str, side: int, frames: int) -> npt.NDArray[np.uint8]:
    """A curve on two axes that is complete in the last frame."""
    random = stream(key)
    t = np.clip((np.arange(side) + 0.5 - 0.14 * side) / (0.8 * side), 0, 1)
    height = random.uniform(0.45, 0.75)
    bend = random.uniform(0.6, 1.8)
    if shape == "rises, then falls":
        peak = random.uniform(0.35, 0.65)
        y = height * (1 - np.abs((t - peak) / np.where(t < peak, peak, 1 - peak)) ** random.uniform(1.2, 2.2))
    else:
        y = height * t**bend if shape == "rises" else height * (1 - t) ** bend
    y = 0.12 + y + np.cumsum(random.normal(0, 0.004, side))
    row = (1 - np.clip(y, 0.05, 0.97)) * side
    slope = np.gradient(row)
    columns, rows = _grid(side)
    # Near the curve, the vertical distance divided by the length of a unit step along it is the distance.
    line = np.clip(0.025 * side - np.abs(rows - row) / np.hypot(1, slope) + 0.5, 0, 1)
    left, right = 0.14 * side, 0.94 * side
    axes = np.maximum(
        _segment(0.08 * side, 0.92 * side, 0.97 * side, 0.92 * side, 0.6, side),
        _segment(0.1 * side, 0.04 * side, 0.1 * side, 0.95 * side, 0.6, side),
    )
    images = []
    for k in range(1, frames + 1):
        drawn = (columns >= left) & (columns <= left + (right - left) * k / frames)
        images.append(np.maximum(axes, line * drawn))
    return _frames(images, random)


def _frames(inks: list[_Canvas], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Ink from 0 to 1 as dark on light, with the noise of a camera."""
    ink = np.stack(inks)
    paper, dark = random.uniform(0.85, 1.0), random.uniform(0.0, 0.2)
    grey = paper - (paper - dark) * ink + random.normal(0, 0.01, ink.shape)
    return np.repeat(np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)[..., None], 3, axis=3)


def _grid(side: int) -> tuple[_Canvas, _Canvas]:
    rows, columns = np.mgrid[0:side, 0:side]
    return columns + 0.5, rows + 0.5


def _disc(x: float, y: float, radius: float, side: int) -> _Canvas:
    columns, rows = _grid(side)
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)


def _segment(x0: float, y0: float, x1: float, y1: float, half_width: float, side: int) -> _Canvas:
    """A straight line with round ends."""
    columns, rows = _grid(side)
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((columns - x0) * dx + (rows - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    return np.clip(half_width - np.hypot(columns - x0 - along * dx, rows - y0 - along * dy) + 0.5, 0, 1)
