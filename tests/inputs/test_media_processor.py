"""Conversations with images, videos and signals: ids of the release, counts that fit, media in their order."""

from __future__ import annotations

import io
import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.base.signal_tokens import signal_layout
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import MediaLimits, Preparation, prepare_part
from s1pro.inputs.processor import Encoded, Processor
from s1pro.inputs.signals import SignalSettings
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.videos import VideoSettings

PATCH = 3 * 2 * 16 * 16


def picture(height: int, width: int, value: int = 0) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def run_lengths(ids: list[int]) -> list[list[int]]:
    return [[token, len(list(run))] for token, run in groupby(ids)]


@pytest.fixture(scope="module")
def small(tiny: Tokenizer) -> Processor:
    """Settings under which pictures cost few tokens."""
    images = ImageSettings(min_pixels=32 * 32, max_pixels=128 * 128)
    return Processor(tiny, preparation=Preparation(images=images))


def count(processor: Processor, encoded: Encoded, token: str) -> int:
    return encoded.token_ids.count(processor.tokenizer.token_to_id(token))


def test_golden_ids_of_prompts_with_images(released: Tokenizer, goldens_dir: Path) -> None:
    goldens = json.loads((goldens_dir / "images" / "goldens.json").read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["height"], image["width"]) for image in goldens["images"]}
    processor = Processor(released)
    for golden in goldens["text_expansion"]:
        arrays = [picture(*sizes[name]) for name in golden["images"]]
        inputs = processor(text=golden["text"], images=arrays)
        assert run_lengths(inputs.input_ids[0].tolist()) == golden["ids_rle"], golden["name"]
        assert inputs.image_grid_thw.tolist() == golden["image_grid_thw"]


def test_golden_ids_of_prompts_with_videos(released: Tokenizer, goldens_dir: Path) -> None:
    goldens = json.loads((goldens_dir / "images" / "goldens.json").read_text(encoding="utf-8"))
    processor = Processor(released)
    for golden in goldens["videos"]:
        frames = np.zeros((golden["frames"], golden["height"], golden["width"], 3), dtype=np.uint8)
        text = "Video 1: <|vision_start|><|video_pad|><|vision_end|>ok"
        inputs = processor(text=text, videos=[frames], fps=golden["fps"])
        assert run_lengths(inputs.input_ids[0].tolist()) == golden["ids_rle"], golden["id"]
        assert inputs.video_grid_thw.tolist() == [golden["video_grid_thw"]]


def test_one_conversation_with_everything(small: Processor, tmp_path: Path) -> None:
    Image.fromarray(picture(64, 96, 200)).save(tmp_path / "a.png")
    np.save(tmp_path / "s.npy", np.sin(np.arange(300, dtype=np.float32)))
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "a.png"},
                {"type": "time_series", "time_series": "s.npy", "sampling_rate": 50, "unit": "mV"},
                {"type": "video", "video": np.zeros((4, 64, 64, 3), dtype=np.uint8), "fps": 2},
                {"type": "text", "text": "what is this?"},
            ],
        },
        {"role": "assistant", "content": "one"},
        {
            "role": "user",
            "content": [{"type": "image", "image": picture(32, 64)}, {"type": "text", "text": "and this?"}],
        },
        {"role": "assistant", "content": "two"},
    ]
    encoded = small.encode_training(messages, base=tmp_path)
    media = encoded.media
    assert media is not None and media.images and media.videos and media.signals
    assert media.images.grids == ((1, 4, 6), (1, 2, 4)) and media.images.pixel_values_PX.shape == (32, PATCH)
    assert count(small, encoded, "<|image_pad|>") == 8
    assert count(small, encoded, "<|video_pad|>") == sum(t * h * w for t, h, w in media.videos.grids) // 4
    assert media.signals.sampling_rates == (50.0,)
    assert count(small, encoded, "<TS_CONTEXT>") == signal_layout(300, 50.0).tokens
    text = small.tokenizer.decode(encoded.token_ids)
    assert "50 Hz" in text and "mV" in text and text.index("Picture 1") < text.index("mV") < text.index("Video 1")
    learned = [token for token, wanted in zip(encoded.token_ids, encoded.learned, strict=True) if wanted]
    assert small.tokenizer.decode(learned) == "one<|im_end|><think></think>\n\ntwo<|im_end|>"
    again = small.encode(messages, base=tmp_path)
    assert again.token_ids == encoded.token_ids
    read = small.read_media([{**part, "image": str(tmp_path / "a.png")} for part in encoded.media_parts[:1]])
    assert read is not None and read.images is not None
    np.testing.assert_array_equal(read.images.pixel_values_PX, media.images.pixel_values_PX[:24])


def test_typed_placeholders_are_text_for_servers_and_an_error_otherwise(small: Processor) -> None:
    content = [{"type": "image", "image": picture(32, 32)}, {"type": "text", "text": "<|image_pad|> <TS_CONTEXT>?"}]
    messages = [{"role": "user", "content": content}]
    encoded = small.encode(messages, allow_control_tokens=False)
    assert count(small, encoded, "<|image_pad|>") == 1 and count(small, encoded, "<TS_CONTEXT>") == 0
    assert small.tokenizer.decode(encoded.token_ids).endswith("<|image_pad|> <TS_CONTEXT>?<|im_end|>\n")
    with pytest.raises(InputError, match=r"2 placeholders <\|image_pad\|> for 1 parts of type 'image'"):
        small.encode(messages)


def test_a_message_may_place_its_signal_itself(small: Processor) -> None:
    part = {"type": "time_series", "time_series": [0.0, 1.0, 2.0, 5.0, 3.0, 1.0]}
    placed = [part, {"type": "text", "text": "before <|ts|><TS_CONTEXT><|/ts|> after"}]
    encoded = small.encode([{"role": "user", "content": placed}])
    assert count(small, encoded, "<TS_CONTEXT>") == signal_layout(6, 1.5).tokens


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image"}, r"messages\[0\]\.content\[0\]: a part of type 'image' needs its source"),
        ({"type": "image", "image": "gone.png"}, r"messages\[0\]\.content\[0\]: .*gone\.png"),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, r"messages\[0\]\.content\[0\]: .*https"),
        ({"type": "time_series", "time_series": []}, r"messages\[0\]\.content\[0\]: "),
        ({"type": "time_series", "time_series": [1.0, float("nan")]}, r"messages\[0\]\.content\[0\]: "),
        ({"type": "time_series", "time_series": [1.0], "sampling_rate": -1}, r"messages\[0\]\.content\[0\]: "),
        ({"type": "video", "video": np.zeros((1, 8, 8, 3), np.uint8)}, r"messages\[0\]\.content\[0\]: "),
    ],
)
def test_bad_media_are_named_by_their_place(small: Processor, part: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small.encode([{"role": "user", "content": [part, {"type": "text", "text": "?"}]}])


def test_batches_are_padded_and_media_joined_in_order(small: Processor) -> None:
    def ask(size: int, value: float) -> list[dict]:
        parts = [
            {"type": "image", "image": picture(32, size)},
            {"type": "time_series", "time_series": np.linspace(0, value, 50 * size), "sampling_rate": 10.0},
        ]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}]

    inputs = small([ask(32, 1.0), ask(96, 2.0)])
    assert inputs.image_grid_thw.tolist() == [[1, 2, 2], [1, 2, 6]] and inputs.pixel_values.shape == (16, PATCH)
    assert inputs.ts_values.shape == (2, 4800, 1) and inputs.ts_lens.tolist() == [1600, 4800]
    assert inputs.ts_sr.tolist() == [10.0, 10.0] and not inputs.ts_values[0, 1600:].any()
    lengths = inputs.attention_mask.sum(axis=1)
    assert inputs.attention_mask[0, : lengths[1] - lengths[0]].sum() == 0, "prompts are padded on the left"
    right = small([ask(32, 1.0), ask(96, 2.0)], padding_side="right")
    assert right.attention_mask[0, lengths[0] :].sum() == 0
    with pytest.raises(InputError, match="padding_side must be"):
        small([ask(32, 1.0)], padding_side="middle")


def test_signals_of_unequal_channels_stay_a_list(small: Processor) -> None:
    text = "<|ts|><TS_CONTEXT><|/ts|><|ts|><TS_CONTEXT><|/ts|>"
    inputs = small(text=text, time_series=[np.arange(8.0), np.ones((9, 2)).cumsum(axis=0)], sampling_rate=[1.0, None])
    assert [value.shape for value in inputs.ts_values] == [(8, 1), (9, 2)]
    assert inputs.ts_sr.tolist() == [1.0, 2.25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give conversations, or text"),
        ({"text": "<|image_pad|>"}, "1 placeholders"),
        ({"text": "x", "images": [picture(32, 32)]}, "more media of type 'image'"),
        ({"text": "x", "time_series": [[1.0]], "sampling_rate": [1, 2]}, "sampling_rate: 2 values for 1 media"),
        ({"conversations": [{"role": "user", "content": "x"}], "images": [picture(32, 32)]}, "into their messages"),
    ],
)
def test_calls_that_contradict_themselves(small: Processor, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**arguments)


def test_settings_are_saved_and_read(tiny: Tokenizer, tmp_path: Path, small: Processor) -> None:
    small.save_pretrained(tmp_path / "small")
    read = Processor.from_pretrained(tmp_path / "small")
    assert read.preparation == small.preparation
    assert not (tmp_path / "small" / "signal_preprocessor_config.json").exists()
    settings = Preparation(videos=VideoSettings(fps=1.0), signals=SignalSettings(max_tokens=8, strict=True))
    Processor(tiny, preparation=settings).save_pretrained(tmp_path / "own")
    assert Processor.from_pretrained(tmp_path / "own").preparation == settings
    (tmp_path / "own" / "preprocessor_config.json").write_text('{"patch_size": "big"}')
    with pytest.raises(InputError, match=r"preprocessor_config\.json"):
        Processor.from_pretrained(tmp_path / "own")


def test_released_settings_stay_byte_for_byte(released_dir: Path, tmp_path: Path) -> None:
    processor = Processor.from_pretrained(released_dir)
    processor.save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        assert (tmp_path / name).read_bytes() == (released_dir / name).read_bytes()
    assert processor.preparation == Preparation()


def test_long_signals_are_resampled_with_their_new_rate_in_the_prompt(tiny: Tokenizer) -> None:
    settings = Preparation(signals=SignalSettings(max_tokens=16))
    item = prepare_part({"type": "time_series", "time_series": np.arange(5000.0), "sampling_rate": 1.0}, settings)
    assert item.media.signals is not None and sum(item.runs) <= 16
    [rate] = item.media.signals.sampling_rates
    assert rate < 1.0 and f"{rate:.3g}" in item.text
    strict = Preparation(signals=SignalSettings(max_tokens=16, strict=True))
    with pytest.raises(InputError, match="16"):
        prepare_part({"type": "time_series", "time_series": np.arange(5000.0), "sampling_rate": 1.0}, strict)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samplingrate": 100}, "has no option samplingrate"),
        ({"unit": 5}, "unit must be text, got 5"),
        ({"channels": "II"}, "channels must be a list of names, got 'II'"),
        ({"channels": 5}, "channels must be a list of names"),
        ({"sampling_rate": 10**400}, "sampling_rate must be positive and finite"),
        ({"missing": "guess"}, "missing"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": 1, "strict": True}, "more than max_tokens=1"),
    ],
)
def test_options_of_a_signal_are_checked(small: Processor, options: dict, message: str) -> None:
    part = {"type": "time_series", "time_series": np.arange(100.0), **options}
    with pytest.raises(InputError, match=message):
        small.encode([{"role": "user", "content": [part]}])


def test_a_signal_says_how_it_is_treated(small: Processor) -> None:
    gap = [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]
    part = {"type": "time_series", "time_series": gap, "sampling_rate": 1, "missing": "interpolate"}
    encoded = small.encode([{"role": "user", "content": [part]}])
    assert encoded.media is not None and encoded.media.signals is not None
    values = encoded.media.signals.values_X
    assert values[2] == pytest.approx((values[1] + values[3]) / 2, abs=1e-6)
    table = b"t,x\n0,1\n1,2\n3,3\n4,1\n"
    part = {"type": "time_series", "time_series": table, "resample_irregular": True}
    resampled = small.encode([{"role": "user", "content": [part]}]).media
    assert resampled is not None and resampled.signals is not None and resampled.signals.shapes[0][0] >= 5


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'shape': (" + b" " * 90,
        b"RIFF" + b"\x44\x03\0\0" + b"WAVEfmt M" + bytes(60),
    ],
)
def test_damaged_bytes_are_input_errors(small: Processor, data: bytes) -> None:
    with pytest.raises(InputError):
        small.encode([{"role": "user", "content": [{"type": "time_series", "time_series": data}]}])


def test_single_media_need_no_list(small: Processor) -> None:
    image, wave = picture(32, 64), np.arange(40.0)
    for images, series in ((image, wave), ([image], [wave]), (Image.fromarray(image), wave.tolist())):
        inputs = small(text="<|image_pad|><TS_CONTEXT>", images=images, time_series=series, sampling_rate=np.array(5.0))
        assert inputs.image_grid_thw.tolist() == [[1, 2, 4]] and inputs.ts_lens.tolist() == [40]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": 5}, "text must be text"),
        ({"text": ["a", 5]}, "text must be text"),
        ({"conversations": {"role": "user", "content": "x"}}, "conversations are lists of messages"),
        ({"conversations": 5}, "conversations are lists of messages"),
        ({"text": "<TS_CONTEXT>", "time_series": [None]}, "needs its source"),
        ({"text": "x", "images": "gone.png"}, r"gone\.png: there is no such file"),
    ],
)
def test_wrong_kinds_of_arguments(small: Processor, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**arguments)


@pytest.mark.parametrize("kind", ["image", "video", "time_series"])
def test_limits_without_paths_read_no_file_of_this_machine(small: Processor, tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "signal.npy", np.sin(np.arange(400.0)))
    Image.fromarray(picture(64, 64)).save(tmp_path / "picture.png")
    frames = [picture(64, 64, value) for value in (0, 100, 200)]
    Image.fromarray(frames[0]).save(
        tmp_path / "video.gif", save_all=True, append_images=list(map(Image.fromarray, frames[1:]))
    )
    path = str(tmp_path / {"image": "picture.png", "video": "video.gif", "time_series": "signal.npy"}[kind])
    messages = [{"role": "user", "content": [{"type": kind, kind: path}]}]
    assert small.encode(messages).media is not None
    with pytest.raises(InputError, match=r"messages\[0\]\.content\[0\].*not accepted"):
        small.encode(messages, limits=MediaLimits(allow_paths=False))


def test_limits_of_size_and_pixels(small: Processor) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture(64, 65)).save(stream, "PNG")
    messages = [{"role": "user", "content": [{"type": "image", "image": stream.getvalue()}]}]
    assert small.encode(messages, limits=MediaLimits(max_image_pixels=64 * 65)).media is not None
    with pytest.raises(InputError, match="more than the limit of 4159"):
        small.encode(messages, limits=MediaLimits(max_image_pixels=64 * 65 - 1))
    with pytest.raises(InputError, match="larger than the limit of 20 bytes"):
        small.encode(messages, limits=MediaLimits(max_image_bytes=20))
