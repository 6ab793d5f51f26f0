"""Media in messages: from what clients send to parts that the processor takes.

| clients send | what is read |
|---|---|
| `image_url`, `input_image`, `image` | `data:`, `http(s)://`, `file://`, or numbers: rows of grey or of colours |
| `video_url`, `video` | a URL of the same kinds, or a list of pictures |
| `time_series_url`, `time_series` | the same, or numbers: `[length]` or `[length, channels]` |

A signal carries `sampling_rate` (Hz), `unit`, `channels` and `missing`, beside its source or inside it. `null` among
its numbers is a missing value. Remote signals and those in data URLs are NPY files, which hold nothing but numbers;
`"format": "csv" | "wav" | "mseed"`, or the media type of the URL, allows the named kind in a data URL. Local ones are
any file that can be read.

`file://` URLs are read only below the folder of the settings, after symbolic links are followed; other hosts of
`file://host/` and paths without a scheme are refused. What leaves here are bytes and numbers: the processor runs with
`allow_paths=False` all the same.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.inputs.media_source import check_file, media_name, read_media
from s1pro.serve.http.remote import RemoteMedia
from s1pro.serve.http.settings import MediaAccess

NPY_MAGIC = b"\x93NUMPY"
_KINDS: Mapping[str, str] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "time_series": "time_series",
    "time_series_url": "time_series",
}
_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "refusal"})
_SIGNAL_OPTIONS = ("sampling_rate", "unit", "channels", "missing", "max_tokens", "strict", "resample_irregular")
_MEDIA_TYPES = {
    "text/csv": "csv",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "application/vnd.fdsn.mseed": "mseed",
}
_FORMATS: Mapping[str, Any] = {
    "npy": lambda data: data.startswith(NPY_MAGIC),
    "wav": lambda data: data.startswith(b"RIFF"),
    "mseed": lambda data: data[:6].isdigit() and data[6:7] in (b"D", b"R", b"Q", b"M"),
    "csv": lambda data: not data.startswith((NPY_MAGIC, b"RIFF")) and b"\0" not in data[:1024],
}


class MediaReader:
    """See the module docstring."""

    def __init__(self, access: MediaAccess, *, max_media: int) -> None:
        self.access = access
        self.max_media = max_media
        self._remote = RemoteMedia(access)
        self._folder = None if access.folder is None else access.folder.resolve()

    async def read(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages with the bytes and numbers of their media.

        Raises:
            InputError: an unknown part, a source that is refused or cannot be read, too many media.
        """
        count = 0
        result = []
        for number, message in enumerate(messages):
            content = message.get("content")
            if isinstance(content, (str, type(None))):
                result.append(dict(message))
                continue
            parts = []
            for place, part in enumerate(content):
                where = f"messages[{number}].content[{place}]"
                count += _kind(part, where) is not None
                if count > self.max_media:
                    raise InputError(f"{where}: more than {self.max_media} images, videos and signals in one request")
                parts.append(await self._part(part, where))
            result.append({**message, "content": _joined_text(parts)})
        return result

    async def _part(self, part: Mapping[str, Any], where: str) -> dict[str, Any]:
        kind = _kind(part, where)
        if kind is None:
            text = part.get("text", part.get("refusal"))
            if not isinstance(text, str):
                raise InputError(f"{where}.text must be text, got {text!r:.60}")
            return {"type": "text", "text": text}
        key = next((key for key, found in _KINDS.items() if found == kind and key in part), None)
        source = None if key is None else part[key]
        options = {}
        if isinstance(source, Mapping):
            options = dict(source)
            source = source.get("url", source.get("data"))
        options |= {name: value for name, value in part.items() if name not in _KINDS and value is not None}
        try:
            return await getattr(self, f"_{kind}")(source, options)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    async def _image(self, source: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "image", "image": await self._picture(source)}

    async def _picture(self, source: Any) -> bytes | npt.NDArray[np.uint8]:
        if isinstance(source, list):
            return await asyncio.to_thread(_pixels, source)
        return (await self._bytes(source, self.access.limits.max_image_bytes))[0]

    async def _video(self, source: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        fps = {"fps": options["fps"]} if options.get("fps") is not None else {}
        if isinstance(source, list):  # frames
            if not 0 < len(source) <= 512:
                raise InputError(f"a video of pictures has 1 to 512 of them, got {len(source)}")
            frames = [await self._picture(frame) for frame in source]
            return {"type": "video", "video": frames, **fps}
        data, _ = await self._bytes(source, self.access.limits.videos.max_bytes)
        return {"type": "video", "video": data, **fps}

    async def _time_series(self, source: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: options[name] for name in _SIGNAL_OPTIONS if options.get(name) is not None}
        if isinstance(source, list):
            return {"type": "time_series", "time_series": _numbers(source), **kept}
        data, scheme = await self._bytes(source, self.access.limits.max_signal_bytes)
        if scheme == "file":
            return {"type": "time_series", "time_series": data, **kept}
        named = _MEDIA_TYPES.get(source[5:40].partition(";")[0].lower(), "npy") if scheme == "data" else "npy"
        kind = options.get("format") or named
        if not isinstance(kind, str) or kind not in _FORMATS or (scheme != "data" and kind != "npy"):
            allowed = ", ".join(_FORMATS) if scheme == "data" else "npy"
            raise InputError(f"format must be one of {allowed}, got {kind!r:.60}")
        if not _FORMATS[kind](data):
            hint = "; name another format (csv, wav, mseed) in a data URL" if kind == "npy" else ""
            raise InputError(f"the data are no {kind.upper()} file{hint}")
        return {"type": "time_series", "time_series": data, **kept}

    async def _bytes(self, source: Any, max_bytes: int) -> tuple[bytes, str]:
        """The bytes behind a URL, and its scheme."""
        if not isinstance(source, str) or not source:
            raise InputError(f"needs its source: a data:, http(s):// or file:// URL, got {type(source).__name__}")
        scheme = source[:8].partition(":")[0].lower()
        if scheme == "data":
            return read_media(source, max_bytes=max_bytes, allow_paths=False), scheme
        if scheme in ("http", "https"):
            return await self._remote.fetch(source, max_bytes), scheme
        if scheme == "file":
            return await asyncio.to_thread(self._file, source, max_bytes), scheme
        raise InputError(f"{media_name(source)}: expected a data:, http(s):// or file:// URL")

    def _file(self, url: str, max_bytes: int) -> bytes:
        path = local_path(url, self._folder)
        check_file(path, media_name(url), max_bytes)
        return read_media(path, max_bytes=max_bytes)


def local_path(url: str, folder: Path | None) -> Path:
    """The file of a `file://` URL, which must lie in `folder` when links are followed.

    Raises:
        InputError: no folder is set, another host, or a path that leads out.
    """
    name = media_name(url)
    if folder is None:
        raise InputError(f"{name}: this server reads no files (--allowed-media-path)")
    try:
        parts = urlsplit(url)
        path = Path(unquote(parts.path, errors="strict")).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # zero bytes, loops of links
        raise InputError(f"{name}: not a path") from error
    if parts.netloc not in ("", "localhost") or not path.is_relative_to(folder):
        raise InputError(f"{name}: not below the folder from which this server reads files")
    return path


def decode_base64(text: str, max_bytes: int) -> bytes:
    """Raises `InputError` if `text` is no base64 or too long."""
    if len(text) * 3 // 4 > max_bytes + 3:
        raise InputError(f"larger than the limit of {max_bytes} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"not base64 ({error})") from error


def _kind(part: Any, where: str) -> str | None:
    """What a part holds; None for text."""
    if not isinstance(part, Mapping):
        raise InputError(f"{where}: expected an object with a type, got {part!r:.60}")
    named = part.get("type")
    if isinstance(named, str) and (named in _TEXT_TYPES or named in _KINDS):
        return _KINDS.get(named)
    if named is None and "text" in part:
        return None
    kind = next((found for key, found in _KINDS.items() if named is None and key in part), None)
    if kind is None:
        known = ", ".join(["text", *_KINDS])
        raise InputError(f"{where}.type must be one of {known}, got {named!r:.60}")
    return kind


def _joined_text(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Parts of text alone are one text, joined by line ends as other servers do."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _pixels(values: list[Any]) -> npt.NDArray[np.uint8]:
    """A picture as rows of grey values, or of `[red, green, blue]`, from 0 to 255."""
    form = "a picture of numbers is rows of one length, of whole numbers or of [red, green, blue]"
    try:
        for row in values:  # before numpy, for which one long text among the numbers makes all of them as long
            if not set(map(type, chain.from_iterable(row) if isinstance(row[0], list) else row)) <= {int}:
                raise InputError(form)
        pixels = np.array(values)
    except (ValueError, TypeError, LookupError) as error:
        raise InputError(form) from error
    if pixels.dtype.kind not in "iu" or pixels.ndim not in (2, 3):
        raise InputError(f"{form}, got {pixels.dtype} of shape {list(pixels.shape)}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise InputError(f"a picture has numbers from 0 to 255, got {pixels.min()} to {pixels.max()}")
    return pixels.astype(np.uint8)


def _numbers(values: list[Any]) -> list[Any]:
    """A list of numbers, or of rows of numbers, with missing values as NaN."""
    nan = float("nan")
    if values and isinstance(values[0], list):
        if not all(isinstance(row, list) for row in values):
            raise InputError("values must be all numbers or all rows of numbers")
        return [[nan if value is None else value for value in row] for row in values]
    return [nan if value is None else value for value in values]
