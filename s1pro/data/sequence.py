"""One tokenised sample, before packing.

Everything here is *unshifted*: entry i belongs to token i. A sequence of n tokens gives n - 1 rows; row i feeds token i
and predicts token i + 1 with loss weight `loss_weights[i + 1]`. `data.batch.collate` does the shift, once, inside each
sequence. Rollouts use the same record: their routing trace has one entry per row, everything else one per token.

`Encoder` makes sequences of samples. `ProcessorEncoder` is the real one: documents are encoded in batches and end with
the end-of-text token; conversations go through the chat template and learn from the assistant's turns only.

Media belong to the whole sequence: it is never cut. A sequence that lies in a store keeps the parts that name its media
(`media_parts`); the pixels and values are read again when it is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError
from s1pro.base.media import Media
from s1pro.base.records import PromptGroup, Sample


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """Token ids with what training needs to know about each of them.

    Attributes:
        token_ids: int32 `[n]`.
        loss_weights: float32 `[n]`, 0 for tokens that are not learned; entry 0 has no effect.
        prompt_group: science or general (system-prompt isolation).
        conversation: whole conversations are not split like documents.
        advantages, rollout_logprobs: float32 `[n]`, reinforcement learning only.
        routed_experts: `[n - 1, L, K]`, replay of the rollout's routing.
        media: images, videos and signals whose placeholders are in `token_ids`, in their order.
        media_parts: the parts of the conversation that `media` was read from.
    """

    token_ids: npt.NDArray[np.int32]
    loss_weights: npt.NDArray[np.float32]
    prompt_group: PromptGroup
    conversation: bool = False
    advantages: npt.NDArray[np.float32] | None = None
    rollout_logprobs: npt.NDArray[np.float32] | None = None
    routed_experts: npt.NDArray[np.integer[Any]] | None = None
    media: Media[npt.NDArray[np.float32]] | None = None
    media_parts: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.token_ids)
        for name in ("loss_weights", "advantages", "rollout_logprobs"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"{name} has {len(value)} entries for {n} tokens")
        if self.routed_experts is not None and len(self.routed_experts) != n - 1:
            raise ValueError(f"routed_experts has {len(self.routed_experts)} rows for {n} tokens, expected {n - 1}")

    @property
    def num_rows(self) -> int:
        """Rows that the sequence fills in a batch: one less than tokens."""
        return max(len(self.token_ids) - 1, 0)


class Encoder(Protocol):
    """Samples to token sequences, in order. `fingerprint` changes whenever the result could.

    `read_media` reads the media of a sequence again; it is asked only for sequences with `media_parts`.
    """

    @property
    def fingerprint(self) -> str: ...

    def encode(self, samples: Sequence[Sample]) -> list[TokenSequence]: ...

    def read_media(self, parts: Sequence[Mapping[str, Any]]) -> Media[npt.NDArray[np.float32]] | None: ...


class ProcessorEncoder:
    """Encodes through an `inputs.processor.Processor`.

    Without a `fingerprint` (see `fingerprint_of_processor`) results cannot be cached on disk.
    """

    def __init__(self, processor: Any, *, fingerprint: str = "") -> None:
        self.processor = processor
        self.fingerprint = fingerprint
        self.eos_id: int = processor.tokenizer.eos_token_id

    def encode(self, samples: Sequence[Sample]) -> list[TokenSequence]:
        texts = [sample.text for sample in samples if sample.text is not None]
        encoded = iter(self.processor.tokenizer.encode_batch(texts) if texts else [])
        return [self._document(s, next(encoded)) if s.text is not None else self._conversation(s) for s in samples]

    def _document(self, sample: Sample, ids: Sequence[int]) -> TokenSequence:
        token_ids = np.asarray([*ids, self.eos_id], dtype=np.int32)
        return TokenSequence(
            token_ids=token_ids,
            loss_weights=np.ones(len(token_ids), dtype=np.float32),
            prompt_group=sample.prompt_group,
        )

    def _conversation(self, sample: Sample) -> TokenSequence:
        assert sample.messages is not None
        try:
            encoded = self.processor.encode_training(sample.messages)
        except InputError as error:
            raise InputError(f"source {sample.source!r}: {error}") from error
        if not any(encoded.learned):
            raise InputError(f"source {sample.source!r}: a conversation without an assistant turn teaches nothing")
        return TokenSequence(
            token_ids=np.asarray(encoded.token_ids, dtype=np.int32),
            loss_weights=np.asarray(encoded.learned, dtype=np.float32),
            prompt_group=sample.prompt_group,
            conversation=True,
            media=encoded.media,
            media_parts=encoded.media_parts,
        )

    def read_media(self, parts: Sequence[Mapping[str, Any]]) -> Media[npt.NDArray[np.float32]] | None:
        media: Media[npt.NDArray[np.float32]] | None = self.processor.read_media(parts)
        return media


def fingerprint_of_processor(folder: Path) -> str:
    """Digest of everything in a processor's or model's folder but the weights."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in (".json", ".txt", ".jinja", ".model"):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()
