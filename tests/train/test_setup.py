"""From configuration to sources and networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.data.sequence import TokenSequence
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.science.contamination import ContaminationIndex, ContaminationSettings
from s1pro.train.config import DataConfig, SourceConfig, TrainRun
from s1pro.train.guarded import Guarded
from s1pro.train.metrics import read_metrics
from s1pro.train.setup import (
    build_loader,
    build_network,
    sources_of_data,
    sources_of_files,
    to_bfloat16,
    validation_batches,
)
from s1pro.train.stage import train


class Letters:
    def __init__(self, fingerprint: str = "letters") -> None:
        self.fingerprint = fingerprint

    def encode(self, samples: Sequence[Sample]) -> list[TokenSequence]:
        ids = [np.asarray([ord(c) % 16 for c in str(s.text)], dtype=np.int32) for s in samples]
        return [
            TokenSequence(token_ids=i, loss_weights=np.ones(len(i), np.float32), prompt_group=s.prompt_group)
            for i, s in zip(ids, samples, strict=True)
        ]


def write(path: Path, texts: Sequence[str]) -> Path:
    rows = [{"source": "x", "prompt_group": "science", "text": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_and_memory_are_mixed_by_weight(tiny_run: Callable[..., TrainRun], tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ["abcdefgh"] * 5)
    data = DataConfig(
        sources=(SourceConfig(name="file", path=file, weight=3.0),),
        tokens_per_batch=140,
        max_length=20,
        cache=tmp_path / "cache",
    )
    memory = [Sample(source="m", prompt_group="general", text="zyxwvuts")] * 3
    train(tiny_run(data=data, steps=4), encoder=Letters(), sources={"memory": memory})
    tokens = read_metrics(tmp_path / "run", "train")
    totals = {name: sum(record["source_tokens"].get(name, 0) for record in tokens) for name in ("file", "memory")}
    assert totals["file"] / totals["memory"] == pytest.approx(3.0, rel=0.1)
    assert (tmp_path / "cache" / "file" / "ids.npy").exists()


def test_cache_without_fingerprint_and_misnamed_source_are_errors(tmp_path: Path) -> None:
    configs = [SourceConfig(name="a", path=write(tmp_path / "a.jsonl", ["abc"]))]
    with pytest.raises(InputError, match=r"data\.cache needs"):
        sources_of_files(configs, Letters(""), tmp_path / "cache")
    [source] = sources_of_files(configs, Letters(""), None)
    with pytest.raises(InputError, match="source 'b' is called 'a' itself"):
        sources_of_data({"b": source}, None)


def test_files_without_tokenizer_are_an_error(tiny_run: Callable[..., TrainRun], tmp_path: Path) -> None:
    data = DataConfig(sources=(SourceConfig(name="a", path=tmp_path),))
    with pytest.raises(InputError, match="there is no tokenizer"):
        train(tiny_run(data=data))


def test_validation_is_one_unshuffled_pass_cut_at_the_limit() -> None:
    samples = {"v": [Sample(source="v", prompt_group="science", text="a" * n) for n in (5, 9, 3, 7)]}
    data = DataConfig(tokens_per_batch=16, max_length=16, lookahead=4)
    batches = validation_batches(sources_of_data(samples, Letters()), data)
    assert sum(batch.num_real_rows for batch in batches) == 4 + 8 + 2 + 6
    assert len(validation_batches(sources_of_data(samples, Letters()), replace(data, validation_batches=1))) == 1
    assert validation_batches([], data) == []


def test_seed_decides_the_initial_weights(tiny_run: Callable[..., TrainRun]) -> None:
    a, b, c = (build_network(tiny_run(seed=seed)).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_bfloat16_keeps_gate_head_and_rotary_tables_in_float32() -> None:
    network = Network(tiny(vocab_size=16))
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    to_bfloat16(network)
    kept = {name for name, p in network.named_parameters() if p.dtype == torch.float32}
    assert "lm_head.weight" in kept and all(n == "lm_head.weight" or "gate.weight" in n or "rotary" in n for n in kept)
    assert all(torch.equal(buffers[name], buffer) for name, buffer in network.named_buffers())


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(InputError, match=r"data\.sources is empty"):
        build_loader([], [], DataConfig(), seed=0)


def test_questions_of_evaluations_are_kept_out_and_counted(tiny_run: Callable[..., TrainRun], tmp_path: Path) -> None:
    question = "Which of the seven metals that were named melts in the hand?"
    ContaminationIndex.of_questions({"t#1": question}).write(tmp_path / "index.json")
    file = write(tmp_path / "a.jsonl", ["abcdefgh", f"Well: {question} Gallium.", "zyxwvuts"])
    guard = ContaminationSettings(index=tmp_path / "index.json")
    memory = [Sample(source="m", prompt_group="general", text=text) for text in (question, "abcdefgh")]
    encoder, counts = Letters(), {"checked": 3, "words": 1, "molecules": 0, "dropped": 1, "marked": 0}
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):  # the last one finds everything in the cache
        found = Guarded(guard)
        sources = sources_of_files([SourceConfig(name="file", path=file)], encoder, cache, found)
        assert [source.num_rows(i) for source in sources for i in range(len(source))] == [7, 7]
        found.write(tmp_path)
        assert json.loads((tmp_path / "contamination.json").read_text()) == {"file": counts}
    other = Guarded(replace(guard, found="mark"))
    (kept,) = sources_of_files([SourceConfig(name="file", path=file)], encoder, tmp_path / "cache", other)
    assert len(kept) == 3  # other settings, so the cache is made anew
    data = DataConfig(
        sources=(SourceConfig(name="file", path=file),), tokens_per_batch=140, max_length=20, contamination=guard
    )
    train(tiny_run(data=data, steps=1), encoder=encoder, sources={"memory": memory})
    written = json.loads((tmp_path / "run" / "contamination.json").read_text())
    assert written == {"file": counts, "memory": {**counts, "checked": 2}}
    with pytest.raises(InputError, match="'file', which is tokenised already"):
        sources_of_data({"file": kept}, encoder, Guarded(guard))
    with pytest.raises(InputError, match=r"data\.contamination\.index: .*cannot be read"):
        Guarded(replace(guard, index=tmp_path / "none.json"))
