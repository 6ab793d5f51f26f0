"""Tokenised sources with random access: every sample once into a token store, or each at the moment it is drawn.

    TokenStore.build(...)       all of them tokenised once; in memory, or in a folder that is memory-mapped afterwards
    LazySource(...)             in-memory samples, tokenised at the moment they are drawn

Both give random access (`num_rows(i)`, `sequence(i)`), which shuffling needs; Parquet and long JSONL files get it
through the store. A store folder carries a fingerprint of the data and the tokenizer and is rebuilt when either
changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
FORMAT_VERSION = 1


class Measured(Protocol):
    """What a mixture needs to know of its samples: how many there are, how long, and of which kind."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def num_rows(self, index: int) -> int:
        """Rows of sample `index` when packed whole (of text: tokens - 1; of pictures: patches)."""
        ...

    def is_conversation(self, index: int) -> bool: ...


class Source(Measured, Protocol):
    """Tokenised samples with random access."""

    def sequence(self, index: int) -> TokenSequence: ...


class LazySource:
    """In-memory samples, tokenised when they are drawn. The last few hundred results are kept."""

    def __init__(self, name: str, samples: Sequence[Sample], encoder: Encoder) -> None:
        if not samples:
            raise InputError(f"source {name!r} has no samples")
        self.name = name
        self._samples = samples
        self._encoder = encoder
        self._encode = functools.lru_cache(maxsize=512)(self._encode_one)

    def __len__(self) -> int:
        return len(self._samples)

    def num_rows(self, index: int) -> int:
        return self.sequence(index).num_rows

    def is_conversation(self, index: int) -> bool:
        return self._samples[index].messages is not None

    def sequence(self, index: int) -> TokenSequence:
        return self._encode(index)

    def _encode_one(self, index: int) -> TokenSequence:
        return self._encoder.encode([self._samples[index]])[0]


class TokenStore:
    """All sequences of a source in four flat arrays: token ids, loss weights, offsets, flags (group, conversation)."""

    def __init__(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.name = name
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
            return TokenStore(name, _concatenated(_encoded(samples, encoder)))
        wanted = {"format": FORMAT_VERSION, "fingerprint": fingerprint, "encoder": encoder.fingerprint}
        if _stored_meta(folder) != wanted:
            _write_store(folder, _encoded(samples, encoder), wanted)
        return TokenStore(
            name, {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("ids", "weights", "offsets", "flags")}
        )

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def num_tokens(self) -> int:
        return len(self._ids)

    def num_rows(self, index: int) -> int:
        return max(int(self._offsets[index + 1]) - int(self._offsets[index]) - 1, 0)

    def is_conversation(self, index: int) -> bool:
        return bool(self._flags[index] & 2)

    def sequence(self, index: int) -> TokenSequence:
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        return TokenSequence(
            token_ids=np.asarray(self._ids[start:stop]),
            loss_weights=np.asarray(self._weights[start:stop]),
            prompt_group=GROUPS[int(self._flags[index]) & 1],
            conversation=self.is_conversation(index),
        )


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
        yield from encoder.encode(batch)


def _flag(sequence: TokenSequence) -> int:
    return GROUPS.index(sequence.prompt_group) | (2 if sequence.conversation else 0)


def _concatenated(sequences: Iterable[TokenSequence]) -> dict[str, npt.NDArray[Any]]:
    kept = list(sequences)
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
    lengths, flags = [0], []
    with (building / "ids.raw").open("wb") as ids, (building / "weights.raw").open("wb") as weights:
        for sequence in sequences:
            ids.write(sequence.token_ids.astype(np.int32).tobytes())
            weights.write(sequence.loss_weights.astype(np.float32).tobytes())
            lengths.append(len(sequence.token_ids))
            flags.append(_flag(sequence))
    np.save(building / "offsets.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(building / "flags.npy", np.asarray(flags, dtype=np.uint8))
    for name, dtype in (("ids", np.int32), ("weights", np.float32)):
        _raw_to_npy(building / f"{name}.raw", building / f"{name}.npy", dtype)
    (building / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def _raw_to_npy(raw: Path, target: Path, dtype: Any) -> None:
    """Gives flat numbers the header of a `.npy` file, a block at a time."""
    count = raw.stat().st_size // np.dtype(dtype).itemsize
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (count,)}
    with raw.open("rb") as source, target.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        shutil.copyfileobj(source, out, 1 << 20)
    raw.unlink()
