"""The two preprocessor files, read and written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.inputs.pixel_settings import ImageSettings, PatchSettings, VideoSettings

BOTH = pytest.mark.parametrize("kind", [ImageSettings, VideoSettings])


@pytest.mark.parametrize(
    ("kind", "name"), [(ImageSettings, "preprocessor_config.json"), (VideoSettings, "video_preprocessor_config.json")]
)
def test_the_released_files_say_our_defaults(kind: type[PatchSettings], name: str, released_dir: Path) -> None:
    released = json.loads((released_dir / name).read_text())
    settings = kind.from_json(released, name)
    assert settings == kind()
    released.pop("auto_map")  # names remote code, which is not needed here
    assert settings.as_json() == released


@BOTH
def test_written_settings_come_back(kind: type[PatchSettings]) -> None:
    changed = kind(
        min_pixels=1024, max_pixels=4096, patch_size=8, temporal_patch_size=1, merge_size=4,
        mean=(0.1, 0.2, 0.3), std=(1, 2, 3),
    )  # fmt: skip
    if isinstance(changed, VideoSettings):
        changed = replace(changed, fps=0.5, min_frames=2, max_frames=9)
        assert {"fps": 0.5, "min_frames": 2, "max_frames": 9}.items() <= changed.as_json().items()
    assert kind.from_json(json.loads(json.dumps(changed.as_json())), "x") == changed
    assert kind.from_json({}, "x") == kind()


@BOTH
def test_files_of_transformers_are_read(kind: type[PatchSettings]) -> None:
    """What its `save_pretrained` writes beside the settings, and the two areas as older files name them."""
    extra = {
        "crop_size": None, "data_format": "channels_first", "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "processor_class": "Qwen3VLProcessor", "resample": 3,
        "rescale_factor": 0.00392156862745098, "return_tensors": None, "min_pixels": None,
    }  # fmt: skip
    assert kind.from_json(extra, "x") == kind()
    older = kind.from_json({"min_pixels": 2048, "max_pixels": 8192}, "x")
    assert older == kind.from_json({"size": {"shortest_edge": 2048, "longest_edge": 8192}}, "x")
    assert (older.min_pixels, older.max_pixels) == (2048, 8192)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patchsize": 16}, r"f.json: unknown key 'patchsize' = 16"),
        ({"size": {"height": 3}}, r"f.json: size has unknown keys \['height'\]"),
        ({"size": 224}, "size must be an object, got 224"),
        ({"size": {"shortest_edge": "big"}}, "size.shortest_edge must be an integer from 1"),
        ({"size": {"shortest_edge": 0}}, "size.shortest_edge must be an integer from 1"),
        ({"size": {"longest_edge": True}}, "size.longest_edge must be an integer"),
        ({"size": {"longest_edge": 1023, "shortest_edge": 1}}, "f.json: areas from 1 to 1023 pixels are impossible"),
        ({"size": {"longest_edge": 2000, "shortest_edge": 3000}}, "areas from 3000 to 2000 pixels are impossible"),
        (
            {"size": {"longest_edge": 9999}, "max_pixels": 9998},
            "max_pixels=9998 contradicts another key that says 9999",
        ),
        ({"size": None}, "size must not be null"),
        ({"patch_size": 16.0}, "patch_size must be an integer"),
        ({"patch_size": 2000}, "patch_size must lie between 1 and 1024"),
        ({"image_mean": 0.5}, "image_mean must be a list of three"),
        ({"image_mean": [0.5]}, "image_mean must be a list of three"),
        ({"image_mean": [0.5, 0.5, "x"]}, "image_mean must be a number, got 'x'"),
        ({"image_std": [0.5, 0.0, 0.5]}, "std must be positive"),
        ({"image_std": [0.5, float("nan"), 0.5]}, "image_std must be a number, got nan"),
        ({"do_resize": False}, "do_resize is False; only True is supported"),
        ({"do_normalize": 1}, "do_normalize is 1; only True is supported"),
        ({"resample": 2}, "resample is 2; only 3 is supported"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0; only 0.0039"),
    ],
)
@BOTH
def test_what_is_refused(kind: type[PatchSettings], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind.from_json(change, "f.json")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (ImageSettings, {"fps": 2}, "unknown key 'fps'"),
        (ImageSettings, {"image_processor_type": "CLIPImageProcessor"}, "image_processor_type is 'CLIPImageProcessor'"),
        (VideoSettings, {"video_processor_type": "Qwen2VLVideoProcessor"}, "video_processor_type is 'Qwen2VLVideo"),
        (VideoSettings, {"fps": 0}, "fps must be positive and finite, got 0"),
        (VideoSettings, {"fps": "2"}, "fps must be a number"),
        (VideoSettings, {"min_frames": 10, "max_frames": 9}, "from min_frames=10 to max_frames=9 is impossible"),
        (VideoSettings, {"min_frames": 1, "max_frames": 1}, "a patch has 2 frames"),
        (VideoSettings, {"num_frames": 8}, "unknown key 'num_frames' = 8"),
        (VideoSettings, {"cap_pixels_per_frame": True}, "cap_pixels_per_frame is True; only False"),
    ],
)
def test_what_one_of_them_refuses(kind: type[PatchSettings], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind.from_json(change, "f.json")
