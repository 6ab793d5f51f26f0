"""Media from data files through stores and packing into batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.base.media import Media, Patches
from s1pro.base.records import Message, Sample
from s1pro.data.batch import Segment, collate
from s1pro.data.loader import Loader
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.packing import Packer
from s1pro.data.samples import read_samples
from s1pro.data.sequence import ProcessorEncoder, TokenSequence
from s1pro.data.sources import TokenStore
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = train_tokenizer(["what is it? a picture, a signal"] * 4, vocab_size=260)
    return Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=4096)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six conversations: with a picture, with a signal, with words alone, in turn."""
    folder = tmp_path / "data"
    (folder / "media").mkdir(parents=True)
    with (folder / "train.jsonl").open("w") as lines:
        for i in range(6):
            parts: list[dict] = [{"type": "text", "text": "what is it?"}]
            if i % 3 == 0:
                Image.fromarray(np.full((32, 32 * (1 + i % 2), 3), 40 * i, np.uint8)).save(folder / f"media/{i}.png")
                parts.insert(0, {"type": "image", "image": f"media/{i}.png"})
            elif i % 3 == 1:
                np.save(folder / f"media/{i}.npy", np.arange(40 + i, dtype=np.float32))
                parts.insert(0, {"type": "time_series", "time_series": f"media/{i}.npy", "sampling_rate": 5.0})
            messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a thing"}]
            print(json.dumps({"source": "s", "prompt_group": "general", "messages": messages}), file=lines)
    return folder / "train.jsonl"


def build(file: Path, processor: Processor, folder: Path | None = None) -> TokenStore:
    return TokenStore.build("s", read_samples(file), ProcessorEncoder(processor, fingerprint="p"), folder=folder)


def loader(source: TokenStore, rows: int = 160) -> Loader:
    mixture = Mixture([source], [1.0], policy=LengthPolicy(max_length=120), seed=3)
    return Loader(Packer(mixture, num_rows=rows))


def test_relative_paths_begin_at_the_data_file_and_urls_stay(file: Path) -> None:
    first = next(iter(read_samples(file)))
    assert first.messages is not None
    part = first.messages[0].content[0]
    assert part["image"] == str(file.parent / "media/0.png")  # type: ignore[index]
    url = {"type": "image", "image": "data:image/png;base64,AAAA"}
    line = {"source": "s", "prompt_group": "general", "messages": [{"role": "user", "content": [url]}]}
    file.write_text(json.dumps(line))
    [only] = read_samples(file)
    assert only.messages is not None and only.messages[0].content[0] == url


def test_memory_and_disk_hold_the_same_and_read_media_when_drawn(
    file: Path, processor: Processor, tmp_path: Path
) -> None:
    memory, disk = build(file, processor), build(file, processor, tmp_path / "store")
    again = build(file, processor, tmp_path / "store")
    assert [memory.has_media(i) for i in range(6)] == [True, True, False] * 2
    for i in range(6):
        expected = memory.sequence(i)
        for other in (disk.sequence(i), again.sequence(i)):
            np.testing.assert_array_equal(other.token_ids, expected.token_ids)
            assert (other.media is None) == (expected.media is None) == (i % 3 == 2)
            assert other.media_parts == expected.media_parts
    picture = disk.sequence(3).media
    assert picture is not None and picture.images is not None and picture.images.grids == ((1, 2, 4),)
    np.testing.assert_allclose(picture.images.pixel_values_PX, 120 / 255 * 2 - 1, atol=1e-6)


def test_batches_hold_media_in_the_order_of_their_placeholders(file: Path, processor: Processor) -> None:
    batches = loader(build(file, processor))
    placeholder = processor.tokenizer.token_to_id("<|image_pad|>")
    context = processor.tokenizer.token_to_id("<TS_CONTEXT>")
    seen = 0
    for batch, _ in zip(batches, range(6), strict=False):
        media = batch.media or Media()
        patches = 0 if media.images is None else media.images.pixel_values_PX.shape[0]
        assert int((batch.input_ids_T == placeholder).sum()) * 4 == patches
        assert (int((batch.input_ids_T == context).sum()) > 0) == (media.signals is not None)
        seen += patches
        if media.images is not None:
            assert isinstance(media.images.pixel_values_PX, torch.Tensor)
            moved = batch.to("cpu").media
            assert moved is not None and moved.images is not None and moved.images.grids == media.images.grids
    assert seen > 0


def test_the_saved_position_continues_with_the_same_media(file: Path, processor: Processor) -> None:
    first = loader(build(file, processor))
    next(first)
    state = first.state_dict()
    expected = [next(first) for _ in range(3)]
    second = loader(build(file, processor))
    second.load_state_dict(state)
    for batch in expected:
        other = next(second)
        assert torch.equal(batch.input_ids_T, other.input_ids_T)
        assert (batch.media is None) == (other.media is None)
        if batch.media is not None and batch.media.images is not None:
            assert other.media is not None and other.media.images is not None
            assert torch.equal(batch.media.images.pixel_values_PX, other.media.images.pixel_values_PX)


def test_sequences_with_media_are_never_cut(file: Path, processor: Processor) -> None:
    media = Media(images=Patches(pixel_values_PX=np.zeros((4, 8), np.float32), grids=((1, 2, 2),)))
    sequence = TokenSequence(
        token_ids=np.arange(6, dtype=np.int32),
        loss_weights=np.ones(6, dtype=np.float32),
        prompt_group="general",
        media=media,
    )
    with pytest.raises(ValueError, match="never cut"):
        Segment(sequence=sequence, source=0, stop=3)
    assert collate([Segment(sequence=sequence, source=0)], num_rows=5, source_names=["s"]).media is not None
    policy = LengthPolicy(max_length=12, long_conversations="split")
    with pytest.raises(InputError, match="has media"):
        mixture = Mixture([build(file, processor)], [1.0], policy=policy)
        for _ in range(6):
            mixture.next()


def test_media_in_memory_need_no_file_but_cannot_be_cached(processor: Processor, tmp_path: Path) -> None:
    content = [{"type": "image", "image": np.zeros((32, 32, 3), np.uint8)}, {"type": "text", "text": "what?"}]
    messages = (Message(role="user", content=content), Message(role="assistant", content="it"))
    sample = Sample(source="m", prompt_group="general", messages=messages)
    store = TokenStore.build("m", [sample], ProcessorEncoder(processor))
    media = store.sequence(0).media
    assert media is not None and media.images is not None
    with pytest.raises(InputError, match="held in memory"):
        TokenStore.build("m", [sample], ProcessorEncoder(processor, fingerprint="p"), folder=tmp_path / "store")


def test_a_missing_file_is_named_with_its_source(file: Path, processor: Processor) -> None:
    (file.parent / "media" / "3.png").unlink()
    with pytest.raises(InputError, match=r"source 's': messages\[0\]\.content\[0\]: .*3\.png"):
        build(file, processor)
