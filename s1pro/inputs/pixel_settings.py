"""How pictures and videos become patches: the settings of the two released preprocessor files.

    preprocessor_config.json        <--> ImageSettings
    video_preprocessor_config.json  <--> VideoSettings

In these files `size.shortest_edge` and `size.longest_edge` are *areas*: the fewest and the most pixels after resizing,
in a video counted over all frames. Every key is known, or belongs to other tools and has no effect (`FOREIGN`), or has
only one value that is supported (`FIXED`), or is an error. Written are the keys of the release; the frame settings,
which the released file leaves to defaults, only where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from s1pro.base.errors import InputError

FOREIGN = frozenset(
    {
        "auto_map",
        "processor_class",
        "_processor_class",
        "transformers_version",
        "data_format",
        "device",
        "disable_grouping",
        "input_data_format",
        "return_tensors",
        "return_metadata",
    }
)
"""Keys of other tools, without effect on numbers."""

FIXED: Mapping[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "do_sample_frames": True,
    "do_center_crop": False,
    "do_pad": False,
    "default_to_square": False,
    "cap_pixels_per_frame": False,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
"""Keys whose only supported value is this one (3 is bicubic)."""

# Without effect when null.
_UNSET = ("crop_size", "pad_size", "num_frames", "video_metadata", "min_pixels", "max_pixels")
_LARGEST = 2**40
_SIZES = ("patch_size", "temporal_patch_size", "merge_size")
_CHANNELS = {"image_mean": "mean", "image_std": "std"}
_AREAS = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """What images and videos have in common.

    Attributes:
        min_pixels, max_pixels: area after resizing, of an image or of all frames of a video together.
        patch_size: side of a patch in pixels.
        temporal_patch_size: frames in a patch; a still image fills them with copies of itself.
        merge_size: so many patches in each direction become one token.
        mean, std: of each channel on a scale of 0 … 1.
    """

    min_pixels: int
    max_pixels: int
    patch_size: int = 16
    temporal_patch_size: int = 2
    merge_size: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    type_key: ClassVar[str]
    known_types: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        for name in _SIZES:
            _check(1 <= getattr(self, name) <= 1024, f"{name} must lie between 1 and 1024, got {getattr(self, name)}")
        if not self.factor**2 <= self.max_pixels or not 1 <= self.min_pixels <= self.max_pixels:
            raise InputError(
                f"areas from {self.min_pixels} to {self.max_pixels} pixels are impossible: one token alone has "
                f"{self.factor} x {self.factor} pixels, and the first number must not exceed the second"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            _check(len(values) == 3 and all(map(math.isfinite, values)), f"{name} must be three numbers, got {values}")
        _check(min(self.std) > 0, f"std must be positive, got {self.std}")

    @property
    def factor(self) -> int:
        """Sides of resized pictures are multiples of so many pixels."""
        return self.patch_size * self.merge_size

    @property
    def patch_values(self) -> int:
        """X, numbers per patch."""
        return len(self.mean) * self.temporal_patch_size * self.patch_size**2

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Self:
        """The settings in the JSON of a released file; what it does not mention has the released value.

        Args:
            where: name of the file, for messages.

        Raises:
            InputError: an unknown key, an unsupported value, or impossible numbers.
        """
        values: dict[str, Any] = {}
        for key, value in data.items():
            _read_key(cls, where, key, value, values)
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """The settings in the released schema."""
        return {
            "size": {"longest_edge": self.max_pixels, "shortest_edge": self.min_pixels},
            **{name: getattr(self, name) for name in _SIZES},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


@dataclass(frozen=True, kw_only=True)
class ImageSettings(PatchSettings):
    """Of still images; see `PatchSettings`."""

    min_pixels: int = 65_536
    max_pixels: int = 16_777_216

    type_key: ClassVar[str] = "image_processor_type"
    known_types: ClassVar[tuple[str, ...]] = (
        "Qwen2VLImageProcessorFast",
        "Qwen2VLImageProcessor",
        "Qwen2VLImageProcessorPil",
    )

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), self.type_key: self.known_types[0]}


@dataclass(frozen=True, kw_only=True)
class VideoSettings(PatchSettings):
    """Of videos; see `PatchSettings`.

    Attributes:
        fps: frames that are looked at per second.
        min_frames, max_frames: least and most of them; a video with fewer is used whole.
    """

    min_pixels: int = 4_096
    max_pixels: int = 25_165_824
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768

    type_key: ClassVar[str] = "video_processor_type"
    known_types: ClassVar[tuple[str, ...]] = ("InternS1ProVideoProcessor", "Qwen3VLVideoProcessor")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 < self.fps < math.inf, f"fps must be positive and finite, got {self.fps}")
        _check(
            1 <= self.min_frames <= self.max_frames and self.temporal_patch_size <= self.max_frames,
            f"from min_frames={self.min_frames} to max_frames={self.max_frames} is impossible; "
            f"a patch has {self.temporal_patch_size} frames",
        )

    def as_json(self) -> dict[str, Any]:
        frames = {name: getattr(self, name) for name in ("fps", "min_frames", "max_frames")}
        changed = {name: value for name, value in frames.items() if value != getattr(VideoSettings, name)}
        return {**super().as_json(), **changed}


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise InputError(message)


def _read_key(cls: type[PatchSettings], where: str, key: str, value: Any, values: dict[str, Any]) -> None:
    """Checks one key of a file and puts what it says into `values`."""
    video = issubclass(cls, VideoSettings)
    if key in FOREIGN or value is None:
        _check(key in FOREIGN or key in _UNSET or key in FIXED, f"{where}: {key} must not be null")
    elif key == "size":
        _check(isinstance(value, Mapping), f"{where}: size must be an object, got {value!r:.60}")
        unknown = sorted(set(value) - set(_AREAS))
        _check(not unknown, f"{where}: size has unknown keys {unknown}; known are {sorted(_AREAS)}")
        for edge, area in value.items():
            _put(where, f"size.{edge}", values, _AREAS[edge], _integer(where, f"size.{edge}", area))
    elif key in _AREAS.values():  # as older files write them
        _put(where, key, values, key, _integer(where, key, value))
    elif key in _SIZES or (video and key in ("min_frames", "max_frames")):
        values[key] = _integer(where, key, value)
    elif key in _CHANNELS:
        _check(
            isinstance(value, list) and len(value) == 3, f"{where}: {key} must be a list of three, got {value!r:.60}"
        )
        values[_CHANNELS[key]] = tuple(_number(where, key, item) for item in value)
    elif video and key == "fps":
        values[key] = _number(where, key, value)
    elif key == cls.type_key:
        known = ", ".join(cls.known_types)
        _check(value in cls.known_types, f"{where}: {key} is {value!r:.60}; pictures are prepared here as by {known}")
    elif key in FIXED:
        _check(_equal(value, FIXED[key]), f"{where}: {key} is {value!r:.60}; only {FIXED[key]!r} is supported")
    else:
        raise InputError(f"{where}: unknown key {key!r} = {value!r:.60}")


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isclose(value, wanted)
    return type(value) is type(wanted) and value == wanted


def _put(where: str, key: str, values: dict[str, Any], name: str, value: int) -> None:
    _check(
        values.get(name, value) == value, f"{where}: {key}={value} contradicts another key that says {values.get(name)}"
    )
    values[name] = value


def _integer(where: str, key: str, value: Any) -> int:
    ok = type(value) is int and 1 <= value <= _LARGEST
    _check(ok, f"{where}: {key} must be an integer from 1 to {_LARGEST}, got {value!r:.60}")
    return int(value)


def _number(where: str, key: str, value: Any) -> float:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    _check(ok, f"{where}: {key} must be a number, got {value!r:.60}")
    return float(value)
