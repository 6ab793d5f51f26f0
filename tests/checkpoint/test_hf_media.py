"""The transformers class with images, videos and signals: batches, generation, and rows that are repeated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import s1pro.hf  # noqa: F401
from s1pro.base.signal_tokens import assumed_sampling_rate
from s1pro.checkpoint.hf_media import media_of, repeat_media
from s1pro.checkpoint.huggingface import S1ProForConditionalGeneration
from s1pro.checkpoint.released import save_network
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.network import Network

TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "ts_token_id": "<TS_CONTEXT>",
    "ts_start_token_id": "<|ts|>",
    "ts_end_token_id": "<|/ts|>",
}


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = train_tokenizer(["what is this picture, this signal?"] * 4, vocab_size=260)
    return Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=8192)))


@pytest.fixture(scope="module")
def model(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> S1ProForConditionalGeneration:
    """Through a saved folder, as users get it."""
    ids = {field: processor.tokenizer.token_to_id(token) for field, token in TOKENS.items()}
    config = presets.with_media(presets.tiny(320), **ids)
    assert config.vision is not None
    config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, num_position_embeddings=64))
    folder = tmp_path_factory.mktemp("model")
    save_network(Network(config, seed=5), folder)
    return S1ProForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def ask(seed: int, width: int = 64, points: int = 90) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    parts = [
        {"type": "image", "image": rng.integers(0, 256, (32, width, 3), dtype=np.uint8)},
        {"type": "time_series", "time_series": rng.normal(size=(points, 2)), "sampling_rate": 20.0},
        {"type": "video", "video": rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), "fps": 2.0},
    ]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": f"what is this {seed}?"}]}]


def test_rows_of_a_padded_batch_equal_single_rows(model, processor: Processor) -> None:
    asked = [ask(1), ask(2, width=96, points=40), [{"role": "user", "content": "nothing"}]]
    with torch.no_grad():
        for side in ("left", "right"):
            batch = processor(asked, padding_side=side)
            together = model(**batch).logits
            for row, one in enumerate(asked):
                alone = model(**processor([one])).logits[0]
                valid = torch.from_numpy(batch.attention_mask[row]).bool()
                torch.testing.assert_close(together[row][valid], alone, atol=3e-5, rtol=1e-4)


def test_media_change_the_answer(model, processor: Processor) -> None:
    inputs = processor([ask(1)])
    with torch.no_grad():
        before = model(**inputs).logits
        for name in ("pixel_values", "pixel_values_videos", "ts_values"):
            changed = {
                **inputs,
                name: inputs[name][::-1].copy() if name != "ts_values" else inputs[name][:, ::-1].copy(),
            }
            assert not torch.allclose(model(**changed).logits, before, atol=1e-4), name


def test_generation_feeds_media_once_and_equals_the_full_forward(model, processor: Processor) -> None:
    inputs = processor([ask(3), ask(4, width=32)])
    new = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=-1)
    assert new.shape == (2, inputs.input_ids.shape[1] + 5)
    mask = np.pad(inputs.attention_mask, ((0, 0), (0, 4)), constant_values=1)
    with torch.no_grad():
        full = model(**{**inputs, "input_ids": new[:, :-1], "attention_mask": torch.from_numpy(mask)}).logits
    torch.testing.assert_close(full[:, -5:].argmax(dim=-1), new[:, -5:])


def test_beams_carry_their_own_media(model, processor: Processor) -> None:
    asked = [ask(5), ask(6, width=96)]
    together = model.generate(**processor(asked), max_new_tokens=3, num_beams=3, do_sample=False, eos_token_id=-1)
    for row, one in enumerate(asked):
        alone = model.generate(**processor([one]), max_new_tokens=3, num_beams=3, do_sample=False, eos_token_id=-1)
        torch.testing.assert_close(together[row, -3:], alone[0, -3:])


def test_repeated_rows_repeat_their_media_in_place(model, processor: Processor) -> None:
    inputs = processor([ask(7), [{"role": "user", "content": "x"}], ask(8, width=96, points=41)])
    media = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    repeated = media_of(**repeat_media(media, torch.from_numpy(inputs.input_ids), 2, model.network.config))
    assert repeated is not None and repeated.images is not None and repeated.signals is not None
    assert repeated.images.grids == ((1, 2, 4), (1, 2, 4), (1, 2, 6), (1, 2, 6))
    assert repeated.signals.shapes == ((90, 2), (90, 2), (41, 2), (41, 2))
    with pytest.raises(ValueError, match="do not fill the placeholders"):
        repeat_media(media, torch.from_numpy(inputs.input_ids[1:]), 2, model.network.config)


def test_no_row_takes_the_media_of_another(model, processor: Processor) -> None:
    inputs = processor([ask(11), ask(12)], padding_side="right")
    token = processor.tokenizer.token_to_id("<TS_CONTEXT>")
    first, second = (np.flatnonzero(row == token) for row in inputs.input_ids)
    ids = inputs.input_ids.copy()
    ids[0, first[-1]] = 5
    ids[1, second[-1] + 1] = token  # the sum is right, the rows are not
    with pytest.raises(ValueError, match="do not fill the placeholders"):
        model(**{**inputs, "input_ids": ids})
    ids[0, first[-2]] = 5
    with pytest.raises(ValueError, match="signal placeholders"):
        model(**{**inputs, "input_ids": ids})


def test_signals_as_padded_tensor_as_list_and_without_rate() -> None:
    first, second = torch.randn(6, 2), torch.randn(4, 2)
    padded = torch.zeros(2, 6, 2)
    padded[0], padded[1, :4] = first, second
    by_tensor = media_of(ts_values=padded, ts_lens=torch.tensor([6, 4]), ts_sr=torch.tensor([5.0, 0.0]))
    by_list = media_of(ts_values=[first, second], ts_sr=torch.tensor([5.0, -1.0]))
    for media in (by_tensor, by_list):
        assert media is not None and media.signals is not None
        torch.testing.assert_close(media.signals.values_X, torch.cat([first.flatten(), second.flatten()]))
        assert media.signals.shapes == ((6, 2), (4, 2))
        assert media.signals.sampling_rates == (5.0, assumed_sampling_rate(4))
    assert media_of(ts_lens=torch.tensor([6])) is None and media_of() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ts_values": torch.zeros(2, 5, 1)}, "need ts_lens"),
        ({"ts_values": torch.zeros(2, 5, 1), "ts_lens": torch.tensor([5])}, "ts_lens has 1 entries for 2 signals"),
        ({"ts_values": torch.zeros(1, 5, 1), "ts_lens": torch.tensor([6])}, "do not fit"),
        ({"ts_values": torch.zeros(1, 5)}, r"\[length, channels\]"),
        ({"ts_values": torch.zeros(1, 5, 1), "ts_sr": torch.tensor([1.0, 2.0])}, "ts_sr has 2 entries"),
        ({"ts_values": torch.zeros(1, 5, 1), "ts_sr": torch.tensor([float("nan")])}, "ts_sr holds NaN"),
        ({"ts_values": torch.full((1, 5, 1), float("nan"))}, "NaN or infinite"),
        ({"pixel_values_videos": torch.zeros(4, 8)}, "video_grid_thw"),
        ({"pixel_values": torch.zeros(4, 8), "image_grid_thw": [[2, 2]]}, "must have shape"),
    ],
)
def test_descriptions_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        media_of(**arguments)


def test_a_folder_with_towers_is_read_by_auto_classes(model, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    model.save_pretrained(tmp_path / "again")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "again")
    assert again.network.config == model.network.config
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_gradients_reach_every_tower(processor: Processor, model) -> None:
    inputs = processor([ask(9), ask(10, width=32)], padding_side="right")
    model.zero_grad()
    labels = torch.from_numpy(np.where(inputs.attention_mask == 1, inputs.input_ids, -100))
    model(**inputs, labels=labels).loss.backward()
    for tower in (model.model.visual, model.model.time_series):
        norms = [parameter.grad.norm() for parameter in tower.parameters() if parameter.grad is not None]
        assert len(norms) == len(list(tower.parameters())) and all(torch.isfinite(norm) for norm in norms)
        assert sum(norm > 0 for norm in norms) > len(norms) * 0.8
    model.zero_grad()
