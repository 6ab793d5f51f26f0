"""The media of a conversation: which parts hold them, and what becomes of each one.

    part of a message                       ->  MediaItem: arrays, text of its placeholder, number of tokens

    {"type": "image", "image": SOURCE}           patches, one run of tokens
    {"type": "video", "video": SOURCE, "fps": 2} patches, one run of tokens per temporal patch, each with its time
    {"type": "time_series", "time_series": SOURCE, "sampling_rate": 100, "unit": "mV", "channels": ["I", "II"]}
                                                 standardised values, one run of tokens, described before it

A signal may also say how it is treated: `missing`, `strict` and `max_tokens` instead of the settings of the folder, and
`resample_irregular` for tables with irregular times. Other keys are errors: a misspelled rate would otherwise be a
guess.

A SOURCE is a path, a `data:` URL, bytes, an array, a picture of Pillow, or, for videos, a list of frames. The order of
the parts is the order of the placeholders, because the template writes them in that order.

`MediaLimits` says how much is taken and from where. A server passes limits without paths: what its clients name must
not be read from its disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from s1pro.base.config import config_from_json, config_to_json
from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches, Signals, join_media
from s1pro.inputs.image_files import MAX_IMAGE_PIXELS
from s1pro.inputs.images import ImageSettings, image_patches, load_image, num_image_tokens
from s1pro.inputs.media_source import MAX_MEDIA_BYTES, check_file, locate_media, media_name
from s1pro.inputs.open_video import VideoLimits
from s1pro.inputs.signal_files import MAX_FILE_BYTES, load_signal
from s1pro.inputs.signals import SignalSettings, prepare_signal, signal_text
from s1pro.inputs.special_tokens import IMAGE_PAD, SIGNAL_MARK, VIDEO_MARK
from s1pro.inputs.videos import VideoSettings, prepare_video

Kind = Literal["image", "video", "time_series"]
Values = npt.NDArray[np.float32]
_KEYS: Mapping[str, tuple[Kind, str]] = {
    "image": ("image", "image"),
    "image_url": ("image", "image_url"),
    "video": ("video", "video"),
    "video_url": ("video", "video_url"),
    "time_series": ("time_series", "time_series"),
}
_READING = ("sampling_rate", "unit", "channels", "resample_irregular")
_TREATING = ("missing", "strict", "max_tokens")
_OPTIONS: Mapping[Kind, tuple[str, ...]] = {
    "image": (),
    "video": ("fps",),
    "time_series": (*_READING, *_TREATING),
}


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How images, videos and signals are prepared."""

    images: ImageSettings = field(default_factory=ImageSettings)
    videos: VideoSettings = field(default_factory=VideoSettings)
    signals: SignalSettings = field(default_factory=SignalSettings)


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """How much of foreign media is taken, and from where.

    Attributes:
        allow_paths: whether a source may name a file of this machine.
        max_image_bytes, max_image_pixels: of one picture.
        max_signal_bytes: of one recording.
        videos: of one video.
    """

    allow_paths: bool = True
    max_image_bytes: int = MAX_MEDIA_BYTES
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_signal_bytes: int = MAX_FILE_BYTES
    videos: VideoLimits = field(default_factory=VideoLimits)


@dataclass(frozen=True, kw_only=True)
class MediaItem:
    """One prepared image, video or signal.

    Attributes:
        text: what stands in the prompt for it; each placeholder token in it begins a run.
        runs: lengths of its runs of placeholder tokens.
    """

    kind: Kind
    media: Media[Values]
    text: str
    runs: tuple[int, ...]


def media_parts(messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The parts that hold media, in order, each with the place where it was found under "where".

    Raises:
        InputError: a part without its source.
    """
    found = []
    for number, message in enumerate(messages):
        if isinstance(message["content"], str):
            continue
        for place, part in enumerate(message["content"]):
            kind = kind_of(part)
            if kind is not None:
                found.append(_normal_form(part, kind, f"messages[{number}].content[{place}]"))
    return tuple(found)


def kind_of(part: Mapping[str, Any]) -> Kind | None:
    """What medium a part holds; None for text."""
    named = part.get("type")
    if isinstance(named, str) and named in _KEYS:
        return _KEYS[named][0]
    return next((kind for key, (kind, _) in _KEYS.items() if key in part), None)


def without_sources(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as the template needs it: media parts are reduced to their type."""
    if isinstance(message["content"], str):
        return dict(message)
    kinds = [(kind_of(part), part) for part in message["content"]]
    return {**message, "content": [part if kind is None else {"type": kind} for kind, part in kinds]}


def prepare_part(
    part: Mapping[str, Any], settings: Preparation, *, base: Path | None = None, limits: MediaLimits | None = None
) -> MediaItem:
    """Reads and prepares what one part of `media_parts` holds.

    Args:
        base: where relative paths begin; default the working folder.
        limits: of sources; default those of `MediaLimits`.

    Raises:
        InputError: the medium cannot be read or has impossible values; the message names the part.
    """
    try:
        return _PREPARE[part["type"]](part, settings, base, limits or MediaLimits())
    except InputError as error:
        where = part.get("where")
        if where is None:
            raise
        raise InputError(f"{where}: {error}") from error


def join_items(items: Sequence[MediaItem]) -> Media[Values] | None:
    """The arrays of all items in one record; None without items."""
    return join_media([item.media for item in items], np.concatenate)


def _normal_form(part: Mapping[str, Any], kind: Kind, where: str) -> dict[str, Any]:
    key = next((key for key, (found, _) in _KEYS.items() if found == kind and key in part), kind)
    source = part.get(key)
    if isinstance(source, Mapping) and key.endswith("_url"):
        source = source.get("url")
    if source is None or (isinstance(source, str) and not source):
        raise InputError(f"{where}: a part of type {kind!r} needs its source under {kind!r}: a path, data URL or array")
    known = (*_OPTIONS[kind], "type", "text", *(key for key, (found, _) in _KEYS.items() if found == kind))
    unknown = [str(name) for name in part if name not in known]
    if unknown:
        raise InputError(
            f"{where}: a part of type {kind!r} has no option {', '.join(unknown)}; "
            f"there are {', '.join(_OPTIONS[kind]) or 'none'}"
        )
    options = {name: part[name] for name in _OPTIONS[kind] if part.get(name) is not None}
    return {"type": kind, kind: source, **options, "where": where}


def _image(part: Mapping[str, Any], settings: Preparation, base: Path | None, limits: MediaLimits) -> MediaItem:
    picture = load_image(
        part["image"],
        base=base,
        max_bytes=limits.max_image_bytes,
        max_pixels=limits.max_image_pixels,
        allow_paths=limits.allow_paths,
    )
    pixels, grid = image_patches(picture, settings.images)
    patches = Patches(pixel_values_PX=pixels, grids=(grid,))
    tokens = num_image_tokens(grid, settings.images)
    return MediaItem(kind="image", media=Media(images=patches), text=IMAGE_PAD, runs=(tokens,))


def _video(part: Mapping[str, Any], settings: Preparation, base: Path | None, limits: MediaLimits) -> MediaItem:
    pixels, grid, seconds = prepare_video(
        part["video"],
        settings.videos,
        fps=part.get("fps"),
        base=base,
        limits=limits.videos,
        allow_paths=limits.allow_paths,
    )
    patches = Patches(pixel_values_PX=pixels, grids=(grid,))
    tokens = num_image_tokens(grid, settings.videos) // len(seconds)
    text = "".join(f"<{second:.1f} seconds>{VIDEO_MARK}" for second in seconds)
    return MediaItem(kind="video", media=Media(videos=patches), text=text, runs=(tokens,) * len(seconds))


def _time_series(part: Mapping[str, Any], settings: Preparation, base: Path | None, limits: MediaLimits) -> MediaItem:
    source = part["time_series"]
    if isinstance(source, str | os.PathLike):
        source = locate_media(source, base=base, max_bytes=limits.max_signal_bytes, allow_paths=limits.allow_paths)
        if isinstance(source, Path):
            check_file(source, media_name(part["time_series"]), limits.max_signal_bytes)
    if not isinstance(part.get("unit", ""), str):
        raise InputError(f"unit must be text, got {part['unit']!r:.60}")
    reading = {name: part[name] for name in _READING if name in part}
    treating = {name: part[name] for name in _TREATING if name in part}
    chosen = config_from_json(SignalSettings, {**config_to_json(settings.signals), **treating}, path="signal")
    signal = load_signal(source, allow_files=limits.allow_paths, **reading)
    prepared = prepare_signal(signal, chosen)
    length, channels = prepared.values_SA.shape
    signals = Signals(
        values_X=prepared.values_SA.ravel(), shapes=((length, channels),), sampling_rates=(prepared.sampling_rate,)
    )
    text = f"{signal_text(signal, prepared)} {SIGNAL_MARK}" if chosen.describe else SIGNAL_MARK
    return MediaItem(kind="time_series", media=Media(signals=signals), text=text, runs=(prepared.tokens,))


_PREPARE = {"image": _image, "video": _video, "time_series": _time_series}
