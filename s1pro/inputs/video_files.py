"""Videos in any usual form, read frame by frame.

| what comes | frames per second, unless given |
|---|---|
| array uint8 `[frames, h, w, 3]`, `.npy` file of one | 24, as the release assumes |
| list of pictures, folder of pictures (in the order of their names, `2` before `10`) | 24 |
| animated GIF, WebP, PNG or AVIF | frames / sum of their durations; zero counts as 0.1 s, as in browsers |
| MP4 (MOV), WebM (Matroska) | as the file says; see `video_containers` |

`open_video` reads what is needed to choose frames and gives an `OpenVideo`, whose `read` decodes the chosen ones; so a
long video costs time but no memory. What a file is, its first bytes say, not its name.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.inputs.image_files import ImageSource, as_rgb, decoding, load_image, open_picture
from s1pro.inputs.media_source import MediaSource, check_file, locate_media, media_name, read_media
from s1pro.inputs.open_video import DEFAULT_FPS, MAX_FPS, MIN_FPS, OpenVideo, VideoLimits, check_limits, check_same_size
from s1pro.inputs.patches import Pixels
from s1pro.inputs.video_containers import HEAD_BYTES, container_video, is_container

VideoSource = MediaSource | np.ndarray | list[ImageSource] | tuple[ImageSource, ...]


def load_video(
    source: VideoSource,
    fps: float | None = None,
    *,
    base: Path | None = None,
    limits: VideoLimits | None = None,
    allow_paths: bool = True,
) -> tuple[Pixels, float]:
    """All frames `[frames, height, width, 3]` of a video, and its frames per second.

    Args:
        source: see the table above; files also as bytes or `data:` URL.
        fps: overrides what the file says.
        base, allow_paths: see `media_source.read_media`.

    Raises:
        InputError: anything else, damaged files and exceeded limits included.
        MissingExtraError: MP4 or WebM without the extra.
    """
    limits = limits or VideoLimits()
    video = open_video(source, fps=fps, base=base, limits=limits, allow_paths=allow_paths)
    pixels = video.num_frames * video.height * video.width
    if pixels > limits.max_loaded_pixels:
        raise InputError(
            f"{video.name}: {video.num_frames} frames of {video.height} x {video.width} pixels exceed the limit of "
            f"{limits.max_loaded_pixels} pixels in memory; prepare_video needs only the sampled ones"
        )
    frames = np.empty((video.num_frames, video.height, video.width, 3), np.uint8)
    for index, frame in zip(range(video.num_frames), video.read(range(video.num_frames)), strict=True):
        frames[index] = frame
    return frames, video.fps


def open_video(
    source: VideoSource,
    *,
    fps: float | None = None,
    base: Path | None = None,
    limits: VideoLimits | None = None,
    allow_paths: bool = True,
) -> OpenVideo:
    """Reads what is needed to choose frames. Arguments and errors: see `load_video`."""
    limits = limits or VideoLimits()
    if fps is not None:
        fps = _checked_fps(fps)
    if isinstance(source, np.ndarray):
        video = array_video(source, fps or DEFAULT_FPS)
    elif isinstance(source, (str, bytes, os.PathLike)):
        video = _open_reference(source, fps, base, limits, allow_paths)
    elif isinstance(source, (list, tuple)):
        options = {"base": base, "allow_paths": allow_paths, "max_pixels": limits.max_frame_pixels}
        video = _pictures(list(source), "list of pictures", fps, limits, options)
    else:
        raise InputError(
            f"a video is a path, a data: URL, bytes, an array or a list of pictures, got {type(source).__name__}"
        )
    check_limits(video.name, video.num_frames, video.height, video.width, limits)
    return video


def _checked_fps(fps: object) -> float:
    is_number = isinstance(fps, (int, float, np.integer, np.floating)) and not isinstance(fps, bool)
    if not is_number or not MIN_FPS <= fps <= MAX_FPS:  # type: ignore[operator]
        raise InputError(f"frames per second must be a number between {MIN_FPS} and {MAX_FPS}, got {fps!r:.60}")
    return float(fps)  # type: ignore[arg-type]


def array_video(frames_fhw3: np.ndarray, fps: float, name: str = "video array") -> OpenVideo:
    """An array of frames as a video."""
    if frames_fhw3.dtype != np.uint8 or frames_fhw3.ndim != 4 or frames_fhw3.shape[3] != 3 or 0 in frames_fhw3.shape:
        raise InputError(
            f"{name}: expected uint8 [frames, height, width, 3], got {frames_fhw3.dtype} {list(frames_fhw3.shape)}"
        )
    if not 0 < fps <= MAX_FPS:
        raise InputError(f"{name}: frames per second must be a positive number, got {fps!r}")
    count, height, width, _ = frames_fhw3.shape

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        return (frames_fhw3[index] for index in indices)

    return OpenVideo(name=name, num_frames=count, height=height, width=width, fps=float(fps), read=read)


def _open_reference(
    source: MediaSource, fps: float | None, base: Path | None, limits: VideoLimits, allow_paths: bool
) -> OpenVideo:
    name = media_name(source)
    found = locate_media(source, base=base, max_bytes=limits.max_bytes, allow_paths=allow_paths)
    if isinstance(found, Path):
        with decoding(name):
            paths = list(found.iterdir()) if found.is_dir() else None
        if paths is not None:
            visible = sorted((path for path in paths if not path.name.startswith(".")), key=_natural_order)
            return _pictures(visible, name, fps, limits, {"max_pixels": limits.max_frame_pixels})
        check_file(found, name, limits.max_bytes)
        with decoding(name), found.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if is_container(head):
            return container_video(found, name, fps, limits)
        found = read_media(found, max_bytes=limits.max_bytes)
    if is_container(found[:HEAD_BYTES]):
        return container_video(found, name, fps, limits)
    if found.startswith(b"\x93NUMPY"):
        with decoding(name):
            frames = np.lib.format.read_array(_checked_header(found, name), allow_pickle=False)
        return array_video(frames, fps or DEFAULT_FPS, name)
    return _animation(found, name, fps, limits)


def _checked_header(data: bytes, name: str) -> io.BytesIO:
    """The file at its beginning, after its header was found to describe as many bytes as there are."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise InputError(f"{name}: .npy files of version {version} hold no pixels")
    shape, _, dtype = reader(file)
    if dtype != np.uint8 or math.prod(shape) != len(data) - file.tell():
        raise InputError(
            f"{name}: expected uint8 [frames, height, width, 3], got {dtype} {list(shape)} in {len(data)} bytes"
        )
    file.seek(0)
    return file


def _natural_order(path: Path) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path.name)]


def _pictures(
    sources: Sequence[ImageSource], name: str, fps: float | None, limits: VideoLimits, options: dict[str, Any]
) -> OpenVideo:
    if not sources:
        raise InputError(f"{name}: there are no pictures in it")
    if len(sources) > limits.max_frames:
        raise InputError(f"{name}: {len(sources)} frames are more than the limit of {limits.max_frames}")
    height, width, _ = load_image(sources[0], **options).shape

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        for index in indices:
            frame = load_image(sources[index], **options)
            check_same_size(name, index, frame, height, width)
            yield frame

    return OpenVideo(
        name=name, num_frames=len(sources), height=height, width=width, fps=float(fps or DEFAULT_FPS), read=read
    )


def _animation(data: bytes, name: str, fps: float | None, limits: VideoLimits) -> OpenVideo:
    """Pictures with several frames, through Pillow."""
    with decoding(name), open_picture(data) as image:
        if not getattr(image, "is_animated", False):
            raise InputError(f"{name}: a still picture; pass it as an image")
        height, width = image.height, image.width
        skipped = int(bool(getattr(image, "default_image", False)))  # a PNG's picture for programs without animation
        count = int(getattr(image, "n_frames", 1)) - skipped
        check_limits(name, count, height, width, limits)
        rate = fps or count / sum(_durations(image, skipped))

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        with decoding(name), open_picture(data) as image:
            for index in indices:
                image.seek(index + skipped)
                frame = as_rgb(image, name)
                check_same_size(name, index, frame, height, width)
                yield frame

    return OpenVideo(name=name, num_frames=count, height=height, width=width, fps=min(float(rate), MAX_FPS), read=read)


def _durations(image: Any, skipped: int) -> Iterator[float]:
    """Seconds of each frame; some decoders know them only after they have decoded it."""
    for index in range(skipped, image.n_frames):
        image.seek(index)
        image.load()
        yield float(image.info.get("duration") or 0) / 1000 or 0.1
