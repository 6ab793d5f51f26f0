"""Random traffic: every request gets what it would get alone, from the trainer's forward."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

from s1pro.base.media import Media
from s1pro.checkpoint.hf_config import S1ProConfig
from s1pro.checkpoint.huggingface import S1ProForConditionalGeneration
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.serve.engine import Engine
from tests.serve.traffic import Judge, make_network, make_processor, make_traffic, run

SETTINGS: list[dict[str, Any]] = [
    {},  # room for all
    {"max_batch": 6, "cache_tokens": 160, "block_size": 4, "step_tokens": 32},  # preemption, small chunks
    {"max_batch": 8, "cache_tokens": 320, "block_size": 8, "step_tokens": 48, "prefix_cache": False},
    {"max_batch": 5, "cache_tokens": 256, "block_size": 8, "step_tokens": 24, "draft_tokens": 4},
    {"max_batch": 6, "cache_tokens": 180, "block_size": 1, "step_tokens": 24, "draft_tokens": 5},
]


@pytest.fixture(scope="module")
def processor() -> Processor:
    return make_processor()


@pytest.fixture(scope="module")
def network(processor: Processor) -> Network:
    return make_network(processor)


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_mixed_requests_equal_the_trainers_forward(network: Network, processor: Processor, number: int) -> None:
    engine = Engine(network, max_context=160, **SETTINGS[number])
    judge = Judge(network)
    for asked, answer in run(engine, make_traffic(processor, 24, seed=number, longest_answer=20 + 10 * number)):
        judge.check(asked, answer)
    assert judge.tokens > 150 and judge.rows > 800
    assert judge.excused <= 1 and judge.excused_rows <= 10
    assert judge.worst < 2e-5
    counters = engine.stats().counters
    if number in (1, 4):
        assert counters.preemptions > 0 and counters.cached_tokens > 0
    if number == 2:
        assert counters.cached_tokens == 0


@pytest.mark.parametrize("number", [1, 4])
def test_compiled_steps_equal_the_trainers_forward(network: Network, processor: Processor, number: int) -> None:
    engine = Engine(make_network(processor), max_context=160, serves_only=True, **SETTINGS[number])
    judge = Judge(network)
    for asked, answer in run(engine, make_traffic(processor, 24, seed=50 + number, longest_answer=40)):
        judge.check(asked, answer)
    assert engine._passes._decoding._compiled is not None and engine.stats().counters.preemptions > 0
    assert judge.tokens > 150 and judge.rows > 800
    assert judge.excused <= 1 and judge.excused_rows <= 10
    assert judge.worst < 2e-5


def test_guesses_that_find_no_room_do_not_move_other_tokens(processor: Processor) -> None:
    """A seed of many: blocks were taken for a guess and given back while a decoding batch was kept."""
    network = make_network(processor, seed=3)
    engine = Engine(
        network, max_context=160, block_size=2, max_batch=7, cache_tokens=240, step_tokens=100, draft_tokens=5
    )
    judge = Judge(network)
    for asked, answer in run(engine, make_traffic(processor, 20, seed=5003, longest_answer=60)):
        if asked.media is None or not set(answer.token_ids) & placeholders(network):
            judge.check(asked, answer)
    assert judge.worst < 2e-5 and judge.excused == 0


def placeholders(network: Network) -> set[int]:
    """A random network may write them; the judge's forward would look for their media."""
    config = network.config
    return {config.image_token_id, config.video_token_id, config.ts_token_id}


def arguments(media: Media[Any] | None) -> dict[str, Any]:
    """Media as the transformers class takes them."""
    kwargs: dict[str, Any] = {}
    if media is not None and media.images is not None:
        kwargs["pixel_values"] = torch.as_tensor(media.images.pixel_values_PX)
        kwargs["image_grid_thw"] = torch.tensor(media.images.grids)
    if media is not None and media.videos is not None:
        kwargs["pixel_values_videos"] = torch.as_tensor(media.videos.pixel_values_PX)
        kwargs["video_grid_thw"] = torch.tensor(media.videos.grids)
    if media is not None and media.signals is not None:
        sizes = [length * channels for length, channels in media.signals.shapes]
        parts = torch.as_tensor(media.signals.values_X).split(sizes)
        kwargs["ts_values"] = [part.view(shape) for part, shape in zip(parts, media.signals.shapes, strict=True)]
        kwargs["ts_sr"] = torch.tensor(media.signals.sampling_rates)
    return kwargs


@pytest.mark.slow
def test_two_hundred_mixed_requests_equal_generate(network: Network, processor: Processor) -> None:
    judge = Judge(network, doubles=copy.deepcopy(network).double())
    model = S1ProForConditionalGeneration(S1ProConfig.from_model_config(network.config), network=network).eval()
    model.generation_config.eos_token_id = None
    preemptions = cached = drafted = same = whole = 0
    for seed, settings in enumerate(SETTINGS):
        engine = Engine(network, max_context=160, **settings)
        for asked, answer in run(engine, make_traffic(processor, 48, seed=10 + seed, longest_answer=40)):
            judge.check(asked, answer)
            if answer.finish_reason == "abort":
                continue
            whole += 1
            ids = torch.tensor([asked.prompt])
            expected = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=asked.sampling.max_new_tokens,
                do_sample=False,
                **arguments(asked.media),
            )
            same += tuple(expected[0, len(asked.prompt) :].tolist()) == answer.token_ids
        counters = engine.stats().counters
        preemptions += counters.preemptions
        cached += counters.cached_tokens
        drafted += counters.accepted_tokens
    logging.getLogger(__name__).warning(
        f"noise {judge.noise:.1e}, difference {judge.worst:.1e}; {judge.tokens} tokens, {judge.excused} excused; "
        f"{judge.rows} routed rows, {judge.excused_rows} excused; {same} of {whole} equal generate(); "
        f"{preemptions} preemptions, {cached} cached tokens, {drafted} guessed right"
    )
    assert preemptions > 10 and cached > 500 and drafted > 0
    assert judge.worst <= 5 * judge.noise
    assert whole - same <= judge.excused <= 5
