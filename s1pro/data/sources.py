"""Tokenised sources with random access: `TokenStore.build` tokenises every sample once, in memory or into a folder that
is memory-mapped afterwards.

Shuffling needs random access (`num_rows(i)`, `sequence(i)`), which Parquet and long JSONL files get through the store.
A store folder carries a fingerprint of the data and the tokenizer and is rebuilt when either changed.

Media are not stored: a picture as patches takes ten times the room of its file. They are read once for the number of
their placeholders, and again whenever their sequence is drawn.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.data.samples import GROUPS, data_files
from s1pro.data.sequence import Encoder, TokenSequence

ENCODE_BATCH = 256
FORMAT_VERSION = 2
_FLAT = {"ids": np.int32, "weights": np.float32, "parts": np.uint8}
_ARRAYS = (*_FLAT, "offsets", "part_offsets", "flags")


class Measured(Protocol):
    """What a mixture needs to know of its samples: how many there are, how long, and of which kind."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def num_rows(self, index: int) -> int:
        """Rows of sample `index` when packed whole (of text: tokens - 1; of pictures: patches)."""
        ...

    def is_conversation(self, index: int) -> bool: ...

    def has_media(self, index: int) -> bool: ...


class Source(Measured, Protocol):
    """Tokenised samples with random access."""

    def sequence(self, index: int) -> TokenSequence: ...


Parts = tuple[Mapping[str, Any], ...]
"""What names the media of one sequence."""


class TokenStore:
    """All sequences of a source in flat arrays: token ids, loss weights, offsets, flags (group, conversation, media).

    Args:
        parts: of every sequence, empty without media.
        encoder: reads media again.
    """

    def __init__(
        self, name: str, arrays: Mapping[str, npt.NDArray[Any]], parts: Sequence[Parts], encoder: Encoder
    ) -> None:
        self.name, self._parts, self._encoder = name, parts, encoder
        self._ids, self._weights = arrays["ids"], arrays["weights"]
        self._offsets, self._flags = arrays["offsets"], arrays["flags"]
        if len(self._flags) == 0:
            raise InputError(f"source {name!r} has no samples")

    @staticmethod
    def build(
        name: str, samples: Iterable[Sample], encoder: Encoder, *, folder: Path | None = None, fingerprint: str = ""
    ) -> TokenStore:
        """Tokenises everything; with `folder` the result is stored there and memory-mapped.

        An existing folder with the same `fingerprint` is used as it is.
        """
        if folder is None:
            sequences = list(_encoded(samples, encoder))
            return TokenStore(name, _concatenated(sequences), [s.media_parts for s in sequences], encoder)
        wanted = {"format": FORMAT_VERSION, "fingerprint": fingerprint, "encoder": encoder.fingerprint}
        if _stored_meta(folder) != wanted:
            _write_store(folder, _encoded(samples, encoder), wanted)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        return TokenStore(name, arrays, _StoredParts(arrays["parts"], arrays["part_offsets"]), encoder)

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def num_tokens(self) -> int:
        return len(self._ids)

    def num_rows(self, index: int) -> int:
        return max(int(self._offsets[index + 1]) - int(self._offsets[index]) - 1, 0)

    def is_conversation(self, index: int) -> bool:
        return bool(self._flags[index] & 2)

    def has_media(self, index: int) -> bool:
        return bool(self._flags[index] & 4)

    def sequence(self, index: int) -> TokenSequence:
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        parts = self._parts[index] if self.has_media(index) else ()
        return TokenSequence(
            token_ids=np.asarray(self._ids[start:stop]),
            loss_weights=np.asarray(self._weights[start:stop]),
            prompt_group=GROUPS[int(self._flags[index]) & 1],
            conversation=self.is_conversation(index),
            media=self._encoder.read_media(parts) if parts else None,
            media_parts=parts,
        )


class _StoredParts(Sequence[Parts]):
    """JSON texts one after another."""

    def __init__(self, text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self._text, self._offsets = text, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        text = self._text[int(self._offsets[index]) : int(self._offsets[index + 1])].tobytes()
        return tuple(json.loads(text)) if text else ()


def fingerprint_of(path: Path) -> str:
    """Changes when a data file is replaced: names, sizes and modification times."""
    digest = hashlib.blake2b(digest_size=16)
    for file in data_files(path):
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _encoded(samples: Iterable[Sample], encoder: Encoder) -> Iterator[TokenSequence]:
    iterator = iter(samples)
    while batch := list(islice(iterator, ENCODE_BATCH)):
        yield from (replace(sequence, media=None) for sequence in encoder.encode(batch))


def _flag(sequence: TokenSequence) -> int:
    group = GROUPS.index(sequence.prompt_group)
    return group | (2 if sequence.conversation else 0) | (4 if sequence.media_parts else 0)


def _concatenated(kept: Sequence[TokenSequence]) -> dict[str, npt.NDArray[Any]]:
    empty: list[npt.NDArray[Any]] = [np.zeros(0, dtype=np.int32)]
    return {
        "ids": np.concatenate([s.token_ids for s in kept] or empty),
        "weights": np.concatenate([s.loss_weights for s in kept] or empty).astype(np.float32, copy=False),
        "offsets": np.cumsum([0, *(len(s.token_ids) for s in kept)], dtype=np.int64),
        "flags": np.asarray([_flag(s) for s in kept], dtype=np.uint8),
    }


def _stored_meta(folder: Path) -> Any:
    file = folder / "meta.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _write_store(folder: Path, sequences: Iterable[TokenSequence], meta: Mapping[str, Any]) -> None:
    """Builds beside the folder and renames, so that an interrupted build leaves nothing that looks finished."""
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    lengths, part_lengths, flags = [0], [0], []
    with ExitStack() as stack:
        ids, weights, parts = (stack.enter_context((building / f"{name}.raw").open("wb")) for name in _FLAT)
        for sequence in sequences:
            ids.write(sequence.token_ids.astype(np.int32).tobytes())
            weights.write(sequence.loss_weights.astype(np.float32).tobytes())
            lengths.append(len(sequence.token_ids))
            part_lengths.append(parts.write(_json_of(sequence.media_parts)))
            flags.append(_flag(sequence))
    np.save(building / "offsets.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(building / "part_offsets.npy", np.cumsum(part_lengths, dtype=np.int64))
    np.save(building / "flags.npy", np.asarray(flags, dtype=np.uint8))
    for name, dtype in _FLAT.items():
        _raw_to_npy(building / f"{name}.raw", building / f"{name}.npy", dtype)
    (building / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def _json_of(parts: Parts) -> bytes:
    if not parts:
        return b""
    try:
        return json.dumps(parts).encode("utf-8")
    except TypeError as error:
        raise InputError(
            f"data.cache needs media that are named by paths or URLs; this one is held in memory: {error}"
        ) from error


def _raw_to_npy(raw: Path, target: Path, dtype: Any) -> None:
    """Gives flat numbers the header of a `.npy` file, a block at a time."""
    count = raw.stat().st_size // np.dtype(dtype).itemsize
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (count,)}
    with raw.open("rb") as source, target.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        shutil.copyfileobj(source, out, 1 << 20)
    raw.unlink()
