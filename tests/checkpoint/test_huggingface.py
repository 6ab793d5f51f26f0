"""The transformers wrapper: registration, padding, cache, losses, replay, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import s1pro
import s1pro.hf
from s1pro.base.errors import InputError
from s1pro.checkpoint.config_file import resolved
from s1pro.checkpoint.hf_cache import S1ProCache
from s1pro.checkpoint.huggingface import S1ProForConditionalGeneration
from s1pro.model.presets import PRESETS, small_time_series, small_vision, tiny

STRICT = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def folder(goldens_dir: Path) -> Path:
    return goldens_dir / "model_tiny"


@pytest.fixture(scope="module")
def goldens(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "goldens.safetensors"))


@pytest.fixture(scope="module")
def losses(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "goldens.json").read_text())["losses"])


@pytest.fixture(scope="module")
def model(folder: Path) -> S1ProForConditionalGeneration:
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def greedy(model: S1ProForConditionalGeneration, ids: Tensor, new: int, **kwargs: Any) -> Tensor:
    kwargs = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0, **kwargs}
    return model.generate(ids, max_new_tokens=new, eos_token_id=None, **kwargs)


def test_auto_classes_load_the_released_folder_without_remote_code(folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder)
    assert isinstance(config, s1pro.S1ProConfig)
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        loaded = auto.from_pretrained(folder, dtype=torch.bfloat16)
        assert type(loaded) is S1ProForConditionalGeneration
        assert loaded.lm_head.weight.dtype == torch.bfloat16
        assert not loaded.training


def test_the_configuration_of_both_towers_goes_through_transformers(tmp_path: Path) -> None:
    towers = {"vision": small_vision(64), "time_series": small_time_series(64), "ts_token_id": 7}
    config = replace(tiny(), **towers)
    s1pro.S1ProConfig.from_model_config(config).save_pretrained(tmp_path)
    read = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(read.ts_config).__name__ == "S1ProTimeSeriesConfig" and read.ts_config.encoder_layers == 2
    assert read.to_model_config() == resolved(config)
    assert transformers.AutoConfig.for_model("interns1_pro_time_series").model_type == "interns1_pro_time_series"


def test_names_of_parameters_are_those_of_the_network(model: S1ProForConditionalGeneration) -> None:
    assert model.state_dict().keys() == model.network.state_dict().keys()


@torch.no_grad()
@pytest.mark.parametrize("case", ["a_text", "a_offset", "a_rightpad"])
def test_logits(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor], case: str) -> None:
    names = [name for name in ("attention_mask", "position_ids") if f"{case}.{name}" in goldens]
    inputs = {name: goldens[f"{case}.{name}"] for name in names}
    logits = model(goldens[f"{case}.input_ids"], **inputs).logits
    expected = goldens[f"{case}.logits"]
    valid = inputs.get("attention_mask", torch.ones(logits.shape[:2])).bool()
    torch.testing.assert_close(logits[valid], expected[valid], **STRICT)
    assert not logits[~valid].any()


@torch.no_grad()
def test_left_padding(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor]) -> None:
    """The released positions on request; by default a padded row gives the logits of the row without padding."""
    ids, mask = goldens["a_leftpad.input_ids"], goldens["a_leftpad.attention_mask"]
    released = model(ids, attention_mask=mask, position_ids=torch.arange(ids.shape[1]).expand(ids.shape)).logits
    torch.testing.assert_close(released[mask.bool()], goldens["a_leftpad.logits"][mask.bool()], **STRICT)
    ours = model(ids, attention_mask=mask).logits
    alone = model(ids[1:, mask[1] == 1]).logits
    torch.testing.assert_close(ours[1, mask[1] == 1], alone[0], **STRICT)
    assert (released - ours)[mask.bool()].abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("case", ["b_image", "c_images"])
def test_images(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor], case: str) -> None:
    output = model(
        goldens[f"{case}.input_ids"],
        pixel_values=goldens[f"{case}.pixel_values"].float(),
        image_grid_thw=goldens[f"{case}.image_grid_thw"],
    )
    torch.testing.assert_close(output.logits, goldens[f"{case}.logits"], **STRICT)


def test_loss_and_auxiliary_loss(
    model: S1ProForConditionalGeneration, goldens: dict[str, Tensor], losses: dict[str, Any]
) -> None:
    inputs = {"input_ids": goldens["f_loss.input_ids"], "labels": goldens["f_loss.labels"]}
    plain = model(**inputs)
    assert plain.loss.item() == pytest.approx(losses["ce"]["loss"], abs=1e-5)
    with_aux = model(**inputs, output_router_logits=True)
    assert with_aux.loss.item() == pytest.approx(losses["ce_plus_aux"]["loss"], abs=1e-5)
    assert with_aux.aux_loss.item() == pytest.approx(losses["ce_plus_aux"]["aux_loss"], abs=1e-4)
    assert plain.past_key_values is None


def test_padding_takes_no_part_in_the_loss(model: S1ProForConditionalGeneration) -> None:
    ids = torch.randint(1, 500, (1, 12), generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(ids, (3, 4), value=7)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (3, 4))
    expected = model(ids, labels=ids).loss
    torch.testing.assert_close(model(padded, attention_mask=mask, labels=padded).loss, expected)
    halved = model(ids, labels=ids, num_items_in_batch=22).loss
    torch.testing.assert_close(halved, expected / 2)


@torch.no_grad()
def test_incremental_decoding(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor]) -> None:
    ids, expected = goldens["e_incremental.input_ids"], goldens["e_incremental.logits_cached"]
    cache, logits = None, []
    for start, stop in ((0, 10), *((i, i + 1) for i in range(10, 15))):
        output = model(ids[:, start:stop], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, **STRICT)
    assert cache.get_seq_length() == 15


def test_generate_text_and_image(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor]) -> None:
    text = goldens["e_greedy_text.sequence"]
    assert torch.equal(greedy(model, text[:, :24], text.shape[1] - 24), text)
    image, prompt = goldens["e_greedy_image.sequence"], goldens["b_image.input_ids"]
    pixels, grid = goldens["b_image.pixel_values"].float(), goldens["b_image.image_grid_thw"]
    new = image.shape[1] - prompt.shape[1]
    assert torch.equal(greedy(model, prompt, new, pixel_values=pixels, image_grid_thw=grid), image)


def test_generate_does_not_depend_on_left_padding_cache_or_growth(
    model: S1ProForConditionalGeneration, goldens: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1pro.checkpoint.hf_cache.GROWTH", 4)
    long = goldens["e_greedy_text.sequence"][:, :24]
    short = torch.nn.functional.pad(long[:, :10], (14, 0))
    mask = torch.cat([torch.ones_like(long), torch.nn.functional.pad(torch.ones(1, 10, dtype=torch.long), (14, 0))])
    batch = greedy(model, torch.cat([long, short]), 8, attention_mask=mask)
    assert torch.equal(batch[:1], greedy(model, long, 8))
    assert torch.equal(batch[1:, 14:], greedy(model, long[:, :10], 8))
    for options in ({"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        cached = greedy(model, torch.cat([long, short]), 6, attention_mask=mask, **options)
        plain = greedy(model, torch.cat([long, short]), 6, attention_mask=mask, use_cache=False, **options)
        assert torch.equal(cached, plain)


@torch.no_grad()
def test_cropped_cache_goes_on_from_there(model: S1ProForConditionalGeneration) -> None:
    ids = torch.randint(1, 500, (2, 12), generator=torch.Generator().manual_seed(1))
    cache = model(ids, use_cache=True).past_key_values
    cache.crop(8)
    again = model(ids[:, 8:], past_key_values=cache).logits
    torch.testing.assert_close(again, model(ids).logits[:, 8:], **STRICT)


@torch.no_grad()
def test_logits_to_keep(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor]) -> None:
    ids, mask = goldens["a_rightpad.input_ids"], goldens["a_rightpad.attention_mask"]
    full, last = (model(ids, attention_mask=mask, logits_to_keep=n).logits for n in (0, 9))
    assert last.shape[1] == 9
    torch.testing.assert_close(last, full[:, -9:], atol=1e-5, rtol=0)


@torch.no_grad()
def test_recorded_routing_can_be_replayed(model: S1ProForConditionalGeneration, goldens: dict[str, Tensor]) -> None:
    ids, mask = goldens["a_rightpad.input_ids"], goldens["a_rightpad.attention_mask"]
    first = model(ids, attention_mask=mask, output_routing=True)
    assert first.routing.shape == (3, *ids.shape, 4)
    assert (first.routing[:, mask == 0] == -1).all()
    same = model(ids, attention_mask=mask, routed_experts=first.routing)
    assert torch.equal(first.logits, same.logits)
    others = first.routing.clone()
    others[:, 0] = first.routing[:, 0].roll(1, dims=1)
    forced = model(ids, attention_mask=mask, routed_experts=others, output_routing=True)
    assert torch.equal(forced.routing, others)
    assert not torch.equal(forced.logits[0], first.logits[0])


@pytest.mark.parametrize("fp8", [False, True])
def test_save_and_load(model: S1ProForConditionalGeneration, tmp_path: Path, fp8: bool) -> None:
    model.generation_config.max_new_tokens = 77
    model.save_pretrained(tmp_path / "a", fp8=fp8, max_shard_size="300KB")
    assert (tmp_path / "a" / "model.safetensors.index.json").is_file()
    loaded = S1ProForConditionalGeneration.from_pretrained(tmp_path / "a", dtype="auto")
    assert loaded.generation_config.max_new_tokens == 77
    if not fp8:
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    loaded.save_pretrained(tmp_path / "b", fp8=fp8, max_shard_size="300KB")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["tiny", "bench", "30b-a3b", "intern-s1-pro"])
def test_configurations_convert_both_ways(name: str, tmp_path: Path) -> None:
    config = resolved(PRESETS[name]())
    hf = s1pro.S1ProConfig.from_model_config(config)
    assert hf.to_model_config() == config
    hf.save_pretrained(tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).to_model_config() == config


def test_new_model_trains_with_a_torch_optimizer() -> None:
    model = S1ProForConditionalGeneration(s1pro.S1ProConfig.from_model_config(tiny())).train()
    ids = torch.randint(0, 512, (2, 16), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = model(ids, labels=ids).loss.detach()
    for _ in range(3):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    assert model(ids, labels=ids).loss.detach() < before


def test_errors_say_what_is_wrong(model: S1ProForConditionalGeneration, tmp_path: Path) -> None:
    ids = torch.ones(1, 4, dtype=torch.long)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("time-series|time_series", {"ts_values": torch.ones(1, 4, 1)}),
        ("attention_mask has shape", {"attention_mask": torch.ones(1, 3)}),
        ("position_ids has shape", {"position_ids": torch.ones(1, 3, dtype=torch.long)}),
        ("routed_experts has shape", {"routed_experts": torch.ones(3, 1, 3, 4, dtype=torch.long)}),
        ("image_grid_thw", {"pixel_values": torch.ones(4, 4)}),
        ("DynamicCache", {"past_key_values": transformers.DynamicCache()}),
        ("no gradients", {"use_cache": True}),
    ]
    for message, inputs in cases:
        with pytest.raises(ValueError, match=message):
            model(ids, **inputs)
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        model()
    with pytest.raises(InputError, match="no such folder"):
        S1ProForConditionalGeneration.from_pretrained(tmp_path / "nothing")
    with pytest.raises(TypeError, match="load_in_8bit"):
        S1ProForConditionalGeneration.from_pretrained(tmp_path, load_in_8bit=True)
    with torch.no_grad(), pytest.raises(ValueError, match="holds 1 rows"):
        cache = model(ids, use_cache=True).past_key_values
        assert isinstance(cache, S1ProCache)
        model(ids.expand(2, 4), past_key_values=cache)
