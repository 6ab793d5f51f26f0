"""Batches of pairs: within their budgets, nothing lost, exact position; pairs from files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.data.loader import Loader
from s1pro.data.mixture import LengthPolicy, Mixture
from s1pro.data.pair_files import read_pairs
from s1pro.data.pairs import Pair, PairBatch, PairPacker, PairSource, collate_pairs
from s1pro.inputs.images import ImageSettings, image_patches


def made(index: int, width: int, *, caption: Sequence[int] | None = None) -> Pair:
    """Every value of picture i is i, and so is every token of its caption."""
    ids = np.full(1 + index % 3, index, dtype=np.int32) if caption is None else np.asarray(caption, dtype=np.int32)
    return Pair(patches_PX=np.full((2 * width, 6), index, dtype=np.float32), grid=(1, 2, width), caption_ids=ids)


WIDTHS = (2, 4, 2, 8, 6, 2, 2, 4, 10, 2, 2)


def packer(*, patches: int = 40, max_pairs: int = 4, repeat: bool = True, min_pairs: int = 2) -> PairPacker:
    source = PairSource.of("a", [made(i, width) for i, width in enumerate(WIDTHS)])
    policy = LengthPolicy(max_length=patches, long_documents="split")
    return PairPacker(
        Mixture([source], [1.0], policy=policy, seed=3, shuffle=repeat, repeat=repeat),
        patches=patches,
        max_pairs=max_pairs,
        min_pairs=min_pairs,
    )


def contents(batch: PairBatch) -> list[int]:
    """Which pairs a batch holds, seen from the pixels; captions and grids must agree."""
    counts = [t * h * w for t, h, w in batch.images.grids]
    indices = [int(part[0, 0]) for part in batch.images.pixel_values_PX.split(counts)]
    captions = batch.caption_ids_T.split([b - a for a, b in zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)])
    assert [int(caption[0]) for caption in captions] == indices
    assert [w for _, _, w in batch.images.grids] == [WIDTHS[i] for i in indices]
    return indices


@pytest.mark.parametrize(
    ("patches", "sizes"),
    [(24, [(3, 16), (1, 16), (3, 20), (1, 8), (2, 24), (1, 4)]), (40, [(4, 32), (4, 28), (3, 28)])],
)
def test_batches_hold_every_pair_once_and_as_many_as_fit(patches: int, sizes: list[tuple[int, int]]) -> None:
    batches = list(Loader(packer(patches=patches, repeat=False, min_pairs=1)))
    assert [i for batch in batches for i in contents(batch)] == list(range(len(WIDTHS)))
    assert [(batch.num_pairs, batch.images.pixel_values_PX.shape[0]) for batch in batches] == sizes


@pytest.mark.parametrize("prefetch", [0, 2])
def test_position_is_exact_after_every_batch(prefetch: int) -> None:
    loader = Loader(packer(), prefetch=prefetch)
    states, seen = [loader.state_dict()], []
    for _ in range(9):
        seen.append(contents(next(loader)))
        states.append(json.loads(json.dumps(loader.state_dict())))
    loader.close()
    for n in range(9):
        again = Loader(packer())
        again.load_state_dict(states[n])
        assert [contents(next(again)) for _ in range(9 - n)] == seen[n:]


def test_equal_captions_are_marked_and_positions_restart() -> None:
    pairs = [
        made(0, 2, caption=[5, 6]),
        made(1, 2, caption=[5]),
        made(2, 4, caption=[5, 6]),
        made(3, 2, caption=[6, 5]),
    ]
    batch = collate_pairs(pairs)
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    assert torch.equal(batch.same_caption_BB, same)
    assert batch.caption_ids_T.tolist() == [5, 6, 5, 5, 6, 6, 5] and batch.position_ids_T.tolist() == [
        0,
        1,
        0,
        0,
        1,
        0,
        1,
    ]
    assert batch.cu_seqlens == (0, 2, 3, 5, 7) and batch.num_real_rows == 7 + 20


def test_pictures_that_do_not_fit_are_errors_that_say_what_to_do() -> None:
    message = r"picture 8 has 20 patches; a batch of {} must have room for {} such pictures: raise patches_per_batch"
    with pytest.raises(InputError, match=message.format(19, 1)):
        list(Loader(packer(patches=19, repeat=False, min_pairs=1)))
    with pytest.raises(InputError, match=message.format(39, 2)):
        for _ in zip(range(20), Loader(packer(patches=39)), strict=False):
            pass
    with pytest.raises(InputError, match="max_pairs must be at least 2, got 1"):
        packer(max_pairs=1)
    source = PairSource("b", 1, num_patches=lambda i: 4, prepare=lambda i: made(0, 4))
    with pytest.raises(InputError, match="picture 0 has 8 patches, expected 4; was the file replaced"):
        source.pair(0)
    with pytest.raises(ValueError, match="at least one token"):
        made(0, 2, caption=[])


class Letters:
    """A tokenizer of letters."""

    eos_token_id = 0

    def encode_batch(self, texts: Sequence[str], *, allow_control_tokens: bool) -> list[list[int]]:
        assert not allow_control_tokens
        return [[ord(letter) for letter in text] for text in texts]


SETTINGS = ImageSettings(min_pixels=32 * 32, max_pixels=64 * 64)


def write(folder: Path, *samples: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return folder / "pairs.jsonl"


def sample(caption: object = "ab", *parts: object) -> dict[str, object]:
    user = parts or ({"type": "image", "image": "pictures/1.png"},)
    messages = [{"role": "user", "content": list(user)}, {"role": "assistant", "content": caption}]
    return {"source": "s", "prompt_group": "general", "messages": messages}


def read(file: Path, *, max_caption: int = 8) -> PairSource:
    return read_pairs("s", file, Letters(), SETTINGS, max_caption=max_caption)  # type: ignore[arg-type]


def test_pairs_from_files_are_the_prepared_pictures_and_their_captions(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 70, 3)).astype(np.uint8)
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "data" / "pictures" / "1.png")
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "data" / "pictures" / "2.png", exif=turned.getexif())
    question = {"type": "text", "text": "Describe it."}
    file = write(
        tmp_path / "data",
        sample("abcdefghijk"),
        sample("ab", {"type": "image", "image": "pictures/2.png"}, question),
    )
    source = read(file)
    expected, grid = image_patches(pixels, SETTINGS)
    first, second = source.pair(0), source.pair(1)
    np.testing.assert_array_equal(first.patches_PX, expected)
    assert first.grid == grid == (1, 2, 4) and second.grid == (1, 4, 2)
    assert first.caption_ids.tolist() == [97, 98, 99, 100, 101, 102, 103, 0] and second.caption_ids.tolist() == [
        97,
        98,
        0,
    ]
    assert [source.num_rows(i) for i in range(2)] == [8, 8]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"source": "s", "prompt_group": "general", "text": "only text"}, "sample 2: a pair is one user turn"),
        (sample("ab", {"type": "text", "text": "no picture"}), "has one picture and no other media, this one has 0"),
        (sample("ab", {"type": "image", "image": "1.png"}, {"type": "image", "image": "2.png"}), "has 2 media"),
        (sample("  "), "the caption is empty"),
        (sample("ab", {"type": "image"}), "sample 2: .* needs its source under 'image'"),
    ],
)
def test_samples_that_are_no_pairs_are_named(tmp_path: Path, bad: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, sample(), bad))


def test_a_missing_picture_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pictures/1\.png: there is no such file"):
        read(write(tmp_path, sample())).num_rows(0)
