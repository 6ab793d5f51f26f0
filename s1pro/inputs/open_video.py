"""A video before its frames are decoded, whatever it is made of, and how much of a foreign one is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from s1pro.base.errors import InputError
from s1pro.inputs.image_files import check_area
from s1pro.inputs.patches import Pixels

DEFAULT_FPS = 24.0
"""Of videos that do not say: what the release assumes."""

MIN_FPS, MAX_FPS = 1e-3, 1e6


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """How much of a foreign video is taken.

    Attributes:
        max_bytes: of a file.
        max_frames: in the video.
        max_frame_pixels: of one frame.
        max_decoded_pixels: of all frames together; bounds the time of decoding.
        max_loaded_pixels: of all frames that `load_video` holds in memory.
    """

    max_bytes: int = 2**30
    max_frames: int = 2**18
    max_frame_pixels: int = 2**26
    max_decoded_pixels: int = 2**36
    max_loaded_pixels: int = 2**30


@dataclass(frozen=True, kw_only=True)
class OpenVideo:
    """A video whose frames are still to be decoded.

    Attributes:
        read: gives the frames of ascending indices, each uint8 `[height, width, 3]`.
    """

    name: str
    num_frames: int
    height: int
    width: int
    fps: float
    read: Callable[[Sequence[int]], Iterator[Pixels]]


def check_limits(name: str, count: int, height: int, width: int, limits: VideoLimits) -> None:
    check_area(name, height, width, limits.max_frame_pixels)
    if count > limits.max_frames:
        raise InputError(f"{name}: more frames than the limit of {limits.max_frames}")
    if count * height * width > limits.max_decoded_pixels:
        raise InputError(
            f"{name}: {count} or more frames of {height} x {width} pixels "
            f"exceed the limit of {limits.max_decoded_pixels}"
        )


def check_same_size(name: str, index: int, frame: Pixels, height: int, width: int) -> None:
    if frame.shape[:2] != (height, width):
        raise InputError(
            f"{name}: frame {index} has {frame.shape[0]} x {frame.shape[1]} pixels, the first one {height} x {width}"
        )
