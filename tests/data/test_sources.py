"""Token stores in memory and on disk, and the encoder behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.data.samples import read_samples
from s1pro.data.sequence import ProcessorEncoder, TokenSequence, fingerprint_of_processor
from s1pro.data.sources import TokenStore, fingerprint_of
from s1pro.inputs.processor import Encoded


class LetterEncoder:
    """One token per character; assistant turns are learned."""

    fingerprint = "letters"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, samples: Sequence[Sample]) -> list[TokenSequence]:
        self.calls += 1
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> TokenSequence:
        if sample.text is not None:
            parts = [(sample.text, 1.0)]
        else:
            parts = [(str(m.content), float(m.role == "assistant")) for m in sample.messages or ()]
        ids = [ord(c) for text, _ in parts for c in text]
        weights = [weight for text, weight in parts for _ in text]
        return TokenSequence(
            token_ids=np.asarray(ids, dtype=np.int32),
            loss_weights=np.asarray(weights, dtype=np.float32),
            prompt_group=sample.prompt_group,
            conversation=sample.messages is not None,
        )


ROWS = [
    {"source": "a", "prompt_group": "science", "text": "water"},
    {
        "source": "a",
        "prompt_group": "general",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ok"}],
    },
    {"source": "b", "prompt_group": "science", "text": "x", "entity": "C1", "meta": {"smiles": "O"}},
]


def write_jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_store_in_memory_and_on_disk_agree(tmp_path: Path) -> None:
    samples = list(read_samples(write_jsonl(tmp_path / "x.jsonl", ROWS)))
    encoder = LetterEncoder()
    sources = [
        TokenStore.build("s", samples, encoder),
        TokenStore.build("s", samples, encoder, folder=tmp_path / "store", fingerprint="1"),
    ]
    for source in sources:
        assert len(source) == 3
        assert [source.num_rows(i) for i in range(3)] == [4, 2, 0]
        assert [source.is_conversation(i) for i in range(3)] == [False, True, False]
        assert source.sequence(1).token_ids.tolist() == [ord(c) for c in "qok"]
        assert source.sequence(1).loss_weights.tolist() == [0, 1, 1]
        assert [source.sequence(i).prompt_group for i in range(3)] == ["science", "general", "science"]


def test_an_empty_source_is_an_error() -> None:
    with pytest.raises(InputError, match="'empty' has no samples"):
        TokenStore.build("empty", [], LetterEncoder())


def test_store_folder_is_reused_until_something_changes(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "x.jsonl", ROWS)
    encoder = LetterEncoder()

    def build() -> TokenStore:
        return TokenStore.build(
            "s", read_samples(file), encoder, folder=tmp_path / "store", fingerprint=fingerprint_of(file)
        )

    build()
    assert encoder.calls == 1
    build()
    assert encoder.calls == 1
    write_jsonl(file, ROWS[:1])
    os.utime(file, ns=(1, 1))
    assert len(build()) == 1 and encoder.calls == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store", "x.jsonl"]


def test_processor_encoder_appends_the_end_token_and_learns_from_the_assistant_only() -> None:
    class FakeTokenizer:
        eos_token_id = 7

        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            return [[len(text)] for text in texts]

    class FakeProcessor:
        tokenizer = FakeTokenizer()

        def encode_training(self, messages: Sequence[Message]) -> Encoded:
            learned = [m.role == "assistant" for m in messages] + [True]
            return Encoded(token_ids=[1, 2, 3], learned=learned, media=None, media_parts=())

    chat = Sample(
        source="c",
        prompt_group="general",
        messages=(Message(role="user", content="a"), Message(role="assistant", content="b")),
    )
    document = Sample(source="d", prompt_group="science", text="four")
    first, second = ProcessorEncoder(FakeProcessor()).encode([chat, document])
    assert first.conversation and first.loss_weights.tolist() == [0, 1, 1]
    assert second.token_ids.tolist() == [4, 7] and not second.conversation


def test_fingerprint_of_a_processor_ignores_weights_and_sees_every_other_change(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    first = fingerprint_of_processor(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"123")
    assert fingerprint_of_processor(tmp_path) == first
    (tmp_path / "tokenizer.json").write_text("[]")
    assert fingerprint_of_processor(tmp_path) != first
