"""MP4 and WebM, through the FFmpeg that comes with OpenCV (`pip install 's1pro[video]'`).

The formats know their number of frames only roughly, so it is counted by decoding: a file is decoded twice, the first
time without converting colours. OpenCV reads files, so bytes lie in a temporary one meanwhile. It turns frames upright.

OpenCV and not PyAV, whose wheels carry the GPL libraries x264 and x265.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs.open_video import DEFAULT_FPS, MAX_FPS, OpenVideo, VideoLimits, check_limits, check_same_size
from s1pro.inputs.patches import Pixels

HEAD_BYTES = 12


def is_container(head: bytes) -> bool:
    """Whether a file is MP4 or WebM, by its first `HEAD_BYTES`."""
    mp4 = head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis")
    return mp4 or head.startswith(b"\x1a\x45\xdf\xa3")


def container_video(file: Path | bytes, name: str, fps: float | None, limits: VideoLimits) -> OpenVideo:
    """An MP4 or WebM file, or its bytes. Errors: see `video_files.load_video`."""
    with _capture(file, name) as capture:
        cv2 = _cv2()
        check_limits(
            name, 1, int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), limits
        )
        height, width = next(_decoded(capture, [0], name)).shape[:2]
        count, declared = 1, float(capture.get(cv2.CAP_PROP_FPS))
        while capture.grab():
            count += 1
            check_limits(name, count, height, width, limits)
    rate = fps or (declared if 0 < declared <= MAX_FPS else DEFAULT_FPS)

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        with _capture(file, name) as capture:
            for index, frame in zip(indices, _decoded(capture, indices, name), strict=True):
                check_same_size(name, index, frame, height, width)
                yield frame

    return OpenVideo(name=name, num_frames=count, height=height, width=width, fps=float(rate), read=read)


@contextmanager
def _capture(file: Path | bytes, name: str) -> Iterator[Any]:
    if isinstance(file, Path):
        with _opened(file, name) as capture:
            yield capture
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        path.write_bytes(file)
        with _opened(path, name) as capture:
            yield capture


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    cv2 = _cv2()
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise InputError(f"{name}: not a video that OpenCV can open: damaged, or in an unknown format")
        yield capture
    finally:
        capture.release()


def _decoded(capture: Any, indices: Sequence[int], name: str) -> Iterator[Pixels]:
    """The frames of ascending indices; those between are decoded, but not converted."""
    position = -1
    for index in indices:
        while position < index:
            if not capture.grab():
                raise InputError(f"{name}: frame {position + 1} cannot be decoded: damaged, or an unknown codec")
            position += 1
        ok, frame_bgr = capture.retrieve()
        if not ok:
            raise InputError(f"{name}: frame {index} cannot be decoded: damaged, or an unknown codec")
        yield np.ascontiguousarray(frame_bgr[..., ::-1])


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "video") from error
    return cv2
