"""Videos for the network: which frames, when, at what size, and their patches (spec 1.6).

    video_files.open_video --> sample_frames --> resize each --> cut_patches --> [P, X], grid (t, h, w), timestamps

* Frames: `settings.fps` per second of video, at least `min_frames`, at most `max_frames` and at most all; evenly spread
  from the first to the last.
* Two frames are one patch in time. An odd number is filled with a copy of the last one, in pixels and in times.
* Time of a patch: mean of its first and last frame's times. The prompt has `<0.2 seconds>` (`timestamp_text`) and image
  marks of its own for each of the t patches.
* Size: as for images, but the limits of the area hold for all frames together.

Where the release fails, frames with a side below 32 pixels are enlarged to 32, as newer versions of transformers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.base.media import Grid
from s1pro.inputs.images import check_sides, fit_area
from s1pro.inputs.open_video import OpenVideo, VideoLimits
from s1pro.inputs.patches import Floats, Pixels, cut_patches, resized_planes
from s1pro.inputs.pixel_settings import VideoSettings
from s1pro.inputs.video_files import VideoSource, array_video, load_video, open_video

__all__ = [
    "VideoLimits",
    "VideoSettings",
    "frame_timestamps",
    "load_video",
    "prepare_video",
    "sample_frames",
    "timestamp_text",
    "video_patches",
    "video_size",
]


def sample_frames(num_frames: int, fps: float, settings: VideoSettings) -> npt.NDArray[np.int64]:
    """Indices of the frames that are looked at.

    Args:
        num_frames: in the video.
        fps: of the video.

    Raises:
        InputError: too few frames for one patch.
    """
    if num_frames < settings.temporal_patch_size:
        raise InputError(
            f"a video needs at least {settings.temporal_patch_size} frames, got {num_frames}; "
            "pass a still picture as an image"
        )
    wanted = int(min(num_frames / fps * settings.fps, settings.max_frames))
    count = min(max(wanted, settings.min_frames), settings.max_frames, num_frames)
    return np.linspace(0, num_frames - 1, count).round().astype(np.int64)


def frame_timestamps(
    indices: Sequence[int] | npt.NDArray[np.int64], fps: float, settings: VideoSettings
) -> tuple[float, ...]:
    """Seconds of each of the t patches in time."""
    depth = settings.temporal_patch_size
    padded = [int(index) for index in indices]
    padded += [padded[-1]] * (-len(padded) % depth)
    seconds = [index / fps for index in padded]
    return tuple((seconds[i] + seconds[i + depth - 1]) / 2 for i in range(0, len(seconds), depth))


def timestamp_text(seconds: float) -> str:
    """What stands in the prompt before the image marks of a patch in time."""
    return f"<{seconds:.1f} seconds>"


def video_size(num_frames: int, height: int, width: int, settings: VideoSettings) -> tuple[int, int]:
    """The size to which sampled frames are brought.

    Raises:
        InputError: empty frames, or one side more than 200 times the other.
    """
    check_sides(height, width)
    factor, depth = settings.factor, settings.temporal_patch_size
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
        check_sides(height, width)
    return fit_area(
        height,
        width,
        round(height / factor) * factor,
        round(width / factor) * factor,
        frames=num_frames,
        rounded_frames=round(num_frames / depth) * depth,
        settings=settings,
    )


def video_patches(frames_fhw3: Pixels, fps: float, settings: VideoSettings) -> tuple[Floats, Grid, tuple[float, ...]]:
    """Patches `[P, X]`, grid and timestamps (one per patch in time) of all frames of a video.

    Args:
        frames_fhw3: uint8; frames are sampled here.
        fps: of `frames_fhw3`.

    Raises:
        InputError: another kind of array, an impossible rate, too few frames, or a shape out of proportion.
    """
    return _prepare(array_video(frames_fhw3, fps), settings)


def prepare_video(
    source: VideoSource,
    settings: VideoSettings,
    *,
    fps: float | None = None,
    base: Path | None = None,
    limits: VideoLimits | None = None,
    allow_paths: bool = True,
) -> tuple[Floats, Grid, tuple[float, ...]]:
    """`load_video` and `video_patches` in one, holding only sampled frames in memory, already resized.

    Args and errors: see `load_video`.
    """
    return _prepare(open_video(source, fps=fps, base=base, limits=limits, allow_paths=allow_paths), settings)


def _prepare(video: OpenVideo, settings: VideoSettings) -> tuple[Floats, Grid, tuple[float, ...]]:
    try:
        indices = sample_frames(video.num_frames, video.fps, settings)
        height, width = video_size(len(indices), video.height, video.width, settings)
    except InputError as error:
        raise InputError(f"{video.name}: {error}") from error
    planes = np.empty((len(indices), 3, height, width), np.uint8)
    for place, frame in zip(range(len(indices)), video.read(indices.tolist()), strict=True):
        planes[place] = resized_planes(frame, height, width)
    patches, grid = cut_patches(planes, settings)
    return patches, grid, frame_timestamps(indices, video.fps, settings)
