"""The files of a model folder that say how media are prepared.

| file | what | in the release |
|---|---|---|
| `preprocessor_config.json` | images | yes |
| `video_preprocessor_config.json` | videos | yes |
| `signal_preprocessor_config.json` | signals | no; written only where the settings differ from the default |
"""

from __future__ import annotations

from collections.abc import Mapping

from s1pro.base.config import config_from_json, config_to_json
from s1pro.inputs.files import dump_json, parse_json
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.signals import SignalSettings
from s1pro.inputs.videos import VideoSettings

IMAGES, VIDEOS, SIGNALS = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "signal_preprocessor_config.json",
)
MEDIA_FILES = (IMAGES, VIDEOS, SIGNALS)


def read_preparation(files: Mapping[str, bytes]) -> Preparation:
    """Settings from the files that a folder has; released ones for the rest.

    Raises:
        InputError: an unknown key or an impossible value, with file and key.
    """
    data = {name: parse_json(files[name], name) for name in MEDIA_FILES if name in files}
    return Preparation(
        images=ImageSettings.from_json(data[IMAGES], IMAGES) if IMAGES in data else ImageSettings(),
        videos=VideoSettings.from_json(data[VIDEOS], VIDEOS) if VIDEOS in data else VideoSettings(),
        signals=config_from_json(SignalSettings, data[SIGNALS], path=SIGNALS) if SIGNALS in data else SignalSettings(),
    )


def media_files(settings: Preparation) -> dict[str, bytes]:
    """The files that `read_preparation` reads."""
    files = {IMAGES: dump_json(settings.images.as_json()), VIDEOS: dump_json(settings.videos.as_json())}
    if settings.signals != SignalSettings():
        files[SIGNALS] = dump_json(config_to_json(settings.signals))
    return files
