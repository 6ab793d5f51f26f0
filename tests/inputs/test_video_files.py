"""Videos of every kind as frames, and everything that is refused."""

from __future__ import annotations

import base64
import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.inputs.open_video import VideoLimits
from s1pro.inputs.video_files import load_video
from s1pro.inputs.videos import VideoSettings, prepare_video

FRAMES = np.random.default_rng(2).integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)


def animated(frames: np.ndarray, kind: str, **options: Any) -> bytes:
    pictures = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:], **options)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def moving_square() -> np.ndarray:
    """Colours that a lossy codec keeps well, different in every frame and not symmetric."""
    y, x = np.mgrid[0:48, 0:64]
    frames = [np.stack([x * 3, y * 5, np.full_like(x, 40 * k)], -1) for k in range(6)]
    for k, frame in enumerate(frames):
        frame[8:24, 8 * k : 8 * k + 12] = (250, 250, 20)
    return np.array(frames).astype(np.uint8)


def test_arrays_lists_and_npy_files(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(npy(FRAMES))
    (tmp_path / "f.npy").write_bytes(npy(np.asfortranarray(FRAMES)))
    url = "data:application/octet-stream;base64," + base64.b64encode(npy(FRAMES)).decode()
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    for source in (FRAMES, list(FRAMES), tuple(pictures), npy(FRAMES), url, tmp_path / "v.npy", tmp_path / "f.npy"):
        frames, fps = load_video(source)
        assert np.array_equal(frames, FRAMES) and frames.dtype == np.uint8 and fps == 24.0
        assert load_video(source, fps=3)[1] == 3.0
    assert np.array_equal(load_video("v.npy", base=tmp_path)[0], FRAMES)


def test_a_folder_in_the_order_of_numbers(tmp_path: Path) -> None:
    for index, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / f"frame{index * 5}.png")  # 0, 5, 10, 15, 20
    (tmp_path / ".hidden").write_text("not a picture")
    assert np.array_equal(load_video(tmp_path, 1.0)[0], FRAMES)
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(InputError, match=r"notes.txt: not a picture in a known format"):
        load_video(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {})], ids=["PNG", "WEBP", "GIF"]
)
def test_animated_pictures(kind: str, options: dict[str, Any]) -> None:
    few = (FRAMES // 64) * 64  # a GIF has 256 colours
    data = animated(few, kind, duration=[100, 300, 50, 50, 500], **options)
    frames, fps = load_video(data)
    assert np.array_equal(frames, few)
    assert fps == pytest.approx(5.0)  # 5 frames in a second
    settings = VideoSettings(fps=3.0, min_frames=2)
    seconds = prepare_video(data, settings)[2]
    assert seconds == (0.2, 0.8)  # frames 0, 2, 4: (0 + 2) / 2 / 5 fps, and the last one twice


def test_frames_of_no_duration_take_a_tenth_of_a_second() -> None:
    assert load_video(animated(FRAMES, "GIF", duration=0))[1] == pytest.approx(10.0)


def test_the_picture_before_an_animation_is_no_frame() -> None:
    data = animated(FRAMES, "PNG", default_image=True, duration=200)
    frames, fps = load_video(data)
    assert np.array_equal(frames, FRAMES[1:]) and fps == pytest.approx(5.0)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".webm", "VP80"), (".webm", "VP90")])
def test_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the extra [video]")
    frames = moving_square()
    path = tmp_path / f"v{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 5.0, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    for source in (path, path.read_bytes()):
        found, fps = load_video(source)
        assert found.shape == frames.shape and fps == pytest.approx(5.0, rel=1e-3)
        errors = np.abs(found.astype(int)[:, None] - frames[None]).mean(axis=(2, 3, 4))  # [found, true]
        assert errors.argmin(axis=1).tolist() == [0, 1, 2, 3, 4, 5] and errors.diagonal().max() < 12
        _, grid, seconds = prepare_video(source, VideoSettings(min_frames=2))  # 2 of 6 frames: 0 and 5
        assert grid == (1, 4, 4) and seconds == (pytest.approx(0.5, rel=1e-3),)
    damaged = path.read_bytes()
    for cut in (len(damaged) // 8, 40):
        with pytest.raises(InputError, match=r"media of .* bytes: .*(damaged|cannot be decoded)"):
            load_video(damaged[:cut])
    with pytest.raises(InputError, match="more frames than the limit of 5"):
        load_video(path, limits=VideoLimits(max_frames=5))
    with pytest.raises(InputError, match="48 x 64 pixels are more than the limit of 3071"):
        load_video(path, limits=VideoLimits(max_frame_pixels=3071))


def test_videos_of_phones_stand_upright(tmp_path: Path) -> None:
    """A quarter turn in the header of the track, as phones write it."""
    cv2 = pytest.importorskip("cv2", reason="needs the extra [video]")
    frames = moving_square()
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5.0, (64, 48))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    one = 0x10000
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 0x40000000)
    quarter = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 0x40000000)
    data = path.read_bytes()
    at = data.index(upright, data.index(b"tkhd"))
    turned, _ = load_video(data[:at] + quarter + data[at + 36 :])
    assert turned.shape == (6, 64, 48, 3)
    assert np.abs(turned.astype(int) - np.rot90(frames, -1, axes=(1, 2))).mean() < 12  # clockwise


def test_containers_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 's1pro\[video\]'"):
        load_video(b"\0\0\0\x18ftypmp42" + b"\0" * 40)


def unequal() -> list[np.ndarray]:
    return [FRAMES[0], FRAMES[1], FRAMES[2, :8]]


@pytest.mark.parametrize(
    ("source", "fps", "message"),
    [
        (lambda: b"no video at all", None, "media of 15 bytes: not a picture in a known format"),
        (lambda: animated(FRAMES[:1], "PNG"), None, "a still picture; pass it as an image"),
        (lambda: animated(FRAMES, "GIF")[:-60], None, "damaged or not readable"),
        (lambda: npy(FRAMES)[:-1], None, r"expected uint8 .* got uint8 \[5, 12, 20, 3\] in"),
        (lambda: npy(FRAMES[0]), None, r"expected uint8 \[frames, height, width, 3\], got uint8 \[12, 20, 3\]"),
        (lambda: npy(FRAMES.astype(np.int16)), None, "got int16"),
        (lambda: npy(np.array([object()] * 4)), None, "got object"),
        (lambda: npy(FRAMES)[:20], None, "damaged or not readable"),
        (lambda: npy(FRAMES).replace(b"(5,", b"[5,"), None, "damaged or not readable"),
        (lambda: b"\x93NUMPY\x03\0" + npy(FRAMES)[8:], None, r"version \(3, 0\) hold no pixels|damaged"),
        (list, None, "list of pictures: there are no pictures in it"),
        (unequal, None, "list of pictures: frame 2 has 8 x 20 pixels, the first one 12 x 20"),
        (lambda: [FRAMES[0], "nowhere.png"], None, "nowhere.png: there is no such file"),
        (lambda: "nowhere.mp4", None, "nowhere.mp4: there is no such file"),
        (lambda: "x" * 300, None, "damaged or not readable: .*File name too long"),
        (lambda: "https://example.org/a.mp4", None, "https URLs are not read here"),
        (lambda: {"a": 1}, None, "a video is a path, a data: URL, bytes, an array or a list of pictures, got dict"),
        (lambda: FRAMES, 0, "frames per second must be a number between 0.001 and 1000000.0, got 0"),
        (lambda: FRAMES, "24", "frames per second must be a number between 0.001 and 1000000.0, got '24'"),
        (lambda: FRAMES, float("nan"), "frames per second must be a number between 0.001 and 1000000.0, got nan"),
    ],
)
def test_what_is_refused(source: Any, fps: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_video(source(), fps)


def test_memory_is_limited(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 frames of 12 x 20 pixels exceed the limit of 1199 pixels in memory"):
        load_video(FRAMES, limits=VideoLimits(max_loaded_pixels=1199))
    with pytest.raises(InputError, match="larger than the limit of 100 bytes"):
        load_video(npy(FRAMES), limits=VideoLimits(max_bytes=100))
    (tmp_path / "v.npy").write_bytes(npy(FRAMES))
    with pytest.raises(InputError, match="more than the limit of 100"):
        load_video(tmp_path / "v.npy", limits=VideoLimits(max_bytes=100))
    with pytest.raises(InputError, match="paths are not accepted here"):
        load_video(tmp_path, allow_paths=False)
    with pytest.raises(InputError, match="paths are not accepted here"):
        load_video([tmp_path / "a.png"], allow_paths=False)
