"""Pictures with captions from files of samples, for contrastive training.

A sample is a conversation of two turns: a user who shows one picture, and an assistant whose answer is its caption.

    {"source": "…", "prompt_group": "general", "messages": [
        {"role": "user", "content": [{"type": "image", "image": "pictures/1.png"}]},
        {"role": "assistant", "content": "A blue circle above a red square."}]}

Text beside the picture in the user's turn is an instruction and not read here, so that the same file can be used in the
later stages, where the language model answers it. Paths are relative to the data file. Captions are tokenised at once,
pictures are read when their turn comes: their header for planning, their pixels for the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.data.pairs import Pair, PairSource
from s1pro.data.samples import data_files, read_samples
from s1pro.inputs.image_files import image_size
from s1pro.inputs.images import ImageSettings, image_patches, load_image, smart_resize
from s1pro.inputs.media_parts import media_parts
from s1pro.inputs.tokenizer import Tokenizer

ENCODE_BATCH = 1024


def read_pairs(name: str, path: Path, tokenizer: Tokenizer, settings: ImageSettings, *, max_caption: int) -> PairSource:
    """The pairs of a `.jsonl` or `.parquet` file, or of all such files of a folder.

    Args:
        settings: how pictures become patches.
        max_caption: most tokens of a caption, the end included; longer ones are cut.

    Raises:
        InputError: a sample that is no pair, with its file and number.
    """
    pictures: list[str] = []
    captions: list[npt.NDArray[np.int32]] = []
    for file in data_files(path):
        texts = []
        for number, sample in enumerate(read_samples(file), start=1):
            picture, text = _pair_of(sample, f"{file}: sample {number}")
            pictures.append(picture)
            texts.append(text)
        for start in range(0, len(texts), ENCODE_BATCH):
            encoded = tokenizer.encode_batch(texts[start : start + ENCODE_BATCH], allow_control_tokens=False)
            captions += [_with_end(ids, tokenizer.eos_token_id, max_caption) for ids in encoded]

    @lru_cache(maxsize=65536)
    def num_patches(index: int) -> int:
        height, width = smart_resize(*image_size(pictures[index]), settings)
        return (height // settings.patch_size) * (width // settings.patch_size)

    def prepare(index: int) -> Pair:
        patches_PX, grid = image_patches(load_image(pictures[index]), settings)
        return Pair(patches_PX=patches_PX, grid=grid, caption_ids=captions[index])

    return PairSource(name, len(pictures), num_patches=num_patches, prepare=prepare)


def _with_end(ids: Sequence[int], end: int, longest: int) -> npt.NDArray[np.int32]:
    return np.asarray([*ids[: longest - 1], end], dtype=np.int32)


def _pair_of(sample: Sample, where: str) -> tuple[str, str]:
    """Picture and caption."""
    messages = [message for message in sample.messages or () if message.role != "system"]
    if [message.role for message in messages] != ["user", "assistant"]:
        raise InputError(f"{where}: a pair is one user turn with a picture and one assistant turn with its caption")
    try:
        media = media_parts([message.as_dict() for message in messages])
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if [part["type"] for part in media] != ["image"]:
        raise InputError(f"{where}: a pair has one picture and no other media, this one has {len(media)} media")
    content = messages[1].content
    parts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content]
    caption = "".join(parts).strip()
    if not caption:
        raise InputError(f"{where}: the caption is empty")
    return media[0]["image"], caption
