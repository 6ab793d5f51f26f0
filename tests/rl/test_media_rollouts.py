"""Questions about pictures and signals in the loop: packed media are those that the engine saw, also after a stop."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.media import Media
from s1pro.base.records import Message, Sampling
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.rl.batches import micro_batches
from s1pro.rl.buffer import from_json, to_json
from s1pro.rl.config import RolloutConfig, TaskConfig
from s1pro.rl.loop import train_rl
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.questions import question_of
from s1pro.rl.rollout import generate
from s1pro.rl.system.config import EngineConfig
from s1pro.tasks import registry
from s1pro.tasks.task import Item, Prompt, Score
from s1pro.train.config import DataConfig
from s1pro.train.metrics import read_metrics
from tests.rl.letters import StoppedError, run_in, stops_once
from tests.rl.test_controls import rollout


class Shown:
    """Every prompt shows a picture, a signal, both or nothing; an answer is worth its share of the letter e."""

    name = "shown"

    def items(self) -> list[Item]:
        return [Item(id=f"shown-{i}", asked={"n": i}) for i in range(12)]

    def prompt(self, item: Item) -> Prompt:
        number = item.asked["n"]
        rng = np.random.default_rng(number)
        parts: list[dict[str, Any]] = [{"type": "text", "text": f"what {number}?"}]
        if number % 4 in (0, 1):
            size = (32, 32 * (1 + number % 3), 3)
            parts.insert(0, {"type": "image", "image": rng.integers(0, 256, size, dtype=np.uint8)})
        if number % 4 in (0, 2):
            parts.insert(0, {"type": "time_series", "time_series": rng.normal(size=50 + number), "sampling_rate": 10.0})
        return Prompt(messages=(Message(role="user", content=parts),))

    async def score(self, item: Item, response: str) -> Score:
        return Score(value=(response.count("e") + len(response) % 3) / max(len(response) + 3, 1))

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = train_tokenizer(["what is this picture, this signal?"] * 4, vocab_size=260)
    return Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=8192)))


def arrays(media: Media[Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    media.map(lambda tensor: (found.append(tensor), tensor)[1])
    return found


def shapes(media: Media[Any]) -> list[Any]:
    patches = [part.grids for part in (media.images, media.videos) if part is not None]
    return [patches, None if media.signals is None else (media.signals.shapes, media.signals.sampling_rates)]


def policy(processor: Processor) -> Network:
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "ts": "<TS_CONTEXT>"}
    ids = {f"{kind}_token_id": processor.tokenizer.token_to_id(token) for kind, token in names.items()}
    return Network(presets.with_media(presets.tiny(320), **ids), seed=2)


def learn(processor: Processor, folder: Path, *, exact: bool = False, **options: Any) -> Network:
    run = run_in(
        folder,
        steps=4,
        updates=2,
        checkpoint_every=1,
        tasks=(TaskConfig(name="shown"),),
        rollout=RolloutConfig(prompts=6, group_size=3, max_new_tokens=6),
        data=DataConfig(tokens_per_batch=192),
        eval_every=1,
        exact=exact,
    )
    network = policy(processor)
    train_rl(run, tasks={"shown": Shown()}, network=network, processor=processor, **options)
    return network


def test_the_trainer_sees_the_media_of_the_engine_also_after_a_stop(processor: Processor, tmp_path: Path) -> None:
    whole = learn(processor, tmp_path / "whole")
    records = read_metrics(tmp_path / "whole", "rollout")
    assert len(records) == 2
    for record in records:
        assert record["mismatch"]["tokens"] > 50 and record["mismatch"]["k3"] < 1e-9
        assert record["replayed"] == 1.0 and min(record["mismatch"]["routing_agreement"]) > 0.99

    stop = stops_once(3)  # an update with media waits
    with pytest.raises(StoppedError):
        learn(processor, tmp_path / "parts", on_evaluate=stop)
    parts = learn(processor, tmp_path / "parts", on_evaluate=stop)
    before = dict(policy(processor).named_parameters())
    assert all(torch.equal(p, dict(whole.named_parameters())[name]) for name, p in parts.named_parameters())
    for name in ("model.visual.", "model.time_series."):  # the towers learn too
        moved = [not torch.equal(p, before[key]) for key, p in parts.named_parameters() if key.startswith(name)]
        assert moved and any(moved), name


def test_in_exact_mode_there_is_no_gap_with_media_either(processor: Processor, tmp_path: Path) -> None:
    network = learn(processor, tmp_path, exact=True)
    for record in read_metrics(tmp_path, "rollout"):
        assert record["mismatch"]["exact"] and record["mismatch"]["tokens"] > 50
        assert set(record["mismatch"]["routing_agreement"]) == {1.0}
    before = dict(policy(processor).named_parameters())
    for name in ("model.visual.", "model.time_series."):
        assert any(not torch.equal(p, before[key]) for key, p in network.named_parameters() if key.startswith(name))


def test_batches_with_media_survive_text(processor: Processor) -> None:
    questions = [question_of(Shown(), item, processor, enable_thinking=False) for item in Shown().items()]
    groups = [[replace(rollout(v, [-1.0, -2.0]), question=q) for v in (0.0, 1.0)] for q in questions]
    batches = micro_batches(groups, ObjectiveConfig(), num_rows=256, replay=False, source_names=("shown",))
    assert any(batch.media is not None and batch.media.signals is not None for batch in batches)
    for batch in batches:
        again = from_json(json.loads(json.dumps(to_json(batch))))
        for field in dataclasses.fields(batch):
            one, other = getattr(batch, field.name), getattr(again, field.name)
            if isinstance(one, Media):
                same = [torch.equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True)]
                assert same and all(same)
                assert shapes(one) == shapes(other)
            else:
                assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_server_that_takes_text_only_is_not_published_to(processor: Processor, tmp_path: Path) -> None:
    run = run_in(tmp_path, tasks=(TaskConfig(name="shown"),), engine=EngineConfig(url="http://127.0.0.1:1/v1"))
    with pytest.raises(InputError, match="task 'shown' shows media, and `engine` takes prompts of text only"):
        train_rl(run, tasks={"shown": Shown()}, network=policy(processor), processor=processor)
    assert not (tmp_path / "published").exists()


def test_a_client_without_media_is_refused(processor: Processor) -> None:
    class Text:
        async def generate(self, prompt_token_ids: Any, sampling: Any) -> Any:
            raise AssertionError("never asked")

    question = question_of(Shown(), Shown().items()[0], processor, enable_thinking=False)
    with pytest.raises(InputError, match="takes prompts of text only"):
        asyncio.run(generate(Text(), question.token_ids, Sampling(), question.media))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["value_in_plot", "arrival_in_seismogram", "lattice_in_diffraction"])
def test_media_tasks_are_rewards_on_training_examples(name: str, tmp_path: Path) -> None:
    learned = registry.for_learning(name, num_items=4, folder=tmp_path)
    held_out = registry.get(name, num_items=4, folder=tmp_path)
    shown = [{json.dumps(i.asked["medium"], sort_keys=True) for i in task.items()} for task in (learned, held_out)]
    assert len(shown[0]) == 4 and not shown[0] & shown[1]
