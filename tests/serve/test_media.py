"""Media through the engine and the client: the same tokens as the transformers class, whatever else is in the batch."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.records import Message, Sampling
from s1pro.checkpoint.hf_config import S1ProConfig
from s1pro.checkpoint.huggingface import S1ProForConditionalGeneration
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.serve.client import LocalClient

GREEDY = Sampling(max_new_tokens=6, ignore_eos=True)


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = train_tokenizer(["what is this picture, this signal?"] * 4, vocab_size=260)
    return Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=8192)))


@pytest.fixture(scope="module")
def network(processor: Processor) -> Network:
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "ts": "<TS_CONTEXT>"}
    ids = {f"{kind}_token_id": processor.tokenizer.token_to_id(token) for kind, token in names.items()}
    return Network(presets.with_media(presets.tiny(320), **ids), seed=2).eval()


def ask(seed: int) -> list[Message]:
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Any]] = [{"type": "text", "text": f"what {seed}?"}]
    if seed % 3 != 1:
        size = (32, 32 * (1 + seed % 2), 3)
        parts.insert(0, {"type": "image", "image": rng.integers(0, 256, size, dtype=np.uint8)})
    if seed % 3 != 2:
        parts.insert(0, {"type": "time_series", "time_series": rng.normal(size=50 + seed), "sampling_rate": 10.0})
    return [Message(role="user", content=parts)]


def test_answers_do_not_depend_on_the_batch_and_equal_generate(network: Network, processor: Processor) -> None:
    client = LocalClient.from_network(network, processor, max_batch=3)

    async def all_at_once() -> list[tuple[int, ...]]:
        answers = await asyncio.gather(*(client.chat(ask(seed), GREEDY) for seed in range(7)))
        return [answer.token_ids for answer in answers]

    together = asyncio.run(all_at_once())
    model = S1ProForConditionalGeneration(S1ProConfig.from_model_config(network.config), network=network).eval()
    for seed, answer in enumerate(together):
        inputs = processor(ask(seed), enable_thinking=False)
        expected = model.generate(
            **inputs,
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=-1,
            suppress_tokens=np.flatnonzero(~processor.tokenizer.sampleable_ids(320)).tolist(),
        )
        assert answer == tuple(expected[0, inputs.input_ids.shape[1] :].tolist()), seed


def test_routing_covers_the_rows_of_media(network: Network, processor: Processor) -> None:
    client = LocalClient.from_network(network, processor)
    answer = asyncio.run(client.chat(ask(0), GREEDY))
    assert answer.routing is not None
    assert len(answer.routing.experts_TLK) == len(answer.prompt_token_ids) + len(answer.token_ids) - 1


def test_media_that_do_not_fit_are_refused_before_the_batch(network: Network, processor: Processor) -> None:
    client = LocalClient.from_network(network, processor)
    encoded = processor.encode(ask(0), add_generation_prompt=True)
    with pytest.raises(ValueError, match="placeholders"):
        client.engine.prepare(encoded.token_ids[:-8][::2], GREEDY, media=encoded.media)
    text_only = LocalClient.from_network(Network(presets.tiny(320)).eval(), processor)
    with pytest.raises(ValueError, match="no vision tower"):
        asyncio.run(text_only.chat(ask(2), GREEDY))
    with pytest.raises(ValueError, match="no time-series module"):
        asyncio.run(text_only.chat(ask(1), GREEDY))
    assert not client.engine.has_work
    assert torch.isfinite(network.lm_head.weight).all()
