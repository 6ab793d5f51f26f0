"""Rows of experts by source and modality against a loop; a run writes them; copies are watched by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s1pro.data.batch import PackedBatch, Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.parallel.mesh import Ranks
from s1pro.train.copies import EXPANSION_FILE, with_copies
from s1pro.train.routing_counts import MODALITIES, RoutingCounts

CONFIG = replace(tiny(vocab_size=40), image_token_id=31, video_token_id=32, ts_token_id=33)
SOURCES = ("a", "b", "c")


def batch(seed: int, tokens: int = 40) -> PackedBatch:
    """Three samples of sources a, b, a with placeholders of images and signals, and a tail."""
    draw = np.random.default_rng(seed)
    segments = []
    for source, length in ((0, 9), (1, 14), (0, 5)):
        ids = draw.integers(0, 34, length + 1).astype(np.int32)
        ids[ids == 32] = 31
        sequence = TokenSequence(
            token_ids=ids, loss_weights=np.ones(length + 1, dtype=np.float32), prompt_group="science"
        )
        segments.append(Segment(sequence=sequence, source=source))
    return collate(segments, num_rows=tokens, source_names=SOURCES)


def routers(network: Network, of: PackedBatch) -> Any:
    return network(of.input_ids_T, of.position_ids_T, PackedContext(cu_seqlens=of.cu_seqlens)).routers


def test_counts_are_those_of_a_loop_over_rows() -> None:
    network, counts = Network(CONFIG, seed=3).eval(), RoutingCounts(CONFIG)
    router = CONFIG.text.router
    layers = len(CONFIG.text.moe_layers)
    wanted: dict[str, np.ndarray] = {}
    for one in (batch(0), batch(1)):
        found = routers(network, one)
        counts.add(found, one)
        for row in range(one.num_real_rows):
            segment = int(np.searchsorted(one.cu_seqlens, row, side="right")) - 1
            token = int(one.input_ids_T[row])
            kind = {31: "image", 32: "video", 33: "signal"}.get(token, "text")
            for name in (f"source/{SOURCES[one.segment_sources[segment]]}", f"modality/{kind}"):
                table = wanted.setdefault(name, np.zeros((layers, router.num_experts), dtype=int))
                for layer, output in enumerate(found):
                    for expert in output.topk_ids_TK[row].tolist():
                        table[layer, expert] += 1
    report = counts.report(Ranks())
    assert set(report["source"]) == {"a", "b"} and set(report["modality"]) == {"text", "image", "signal"}
    got = {f"{division}/{name}": table for division, parts in report.items() for name, table in parts.items()}
    assert {name: table.tolist() for name, table in wanted.items()} == got
    rows = batch(0).num_real_rows + batch(1).num_real_rows
    for division in report.values():
        assert sum(np.sum(table[0]) for table in division.values()) == rows * router.top_k
    assert set(MODALITIES) >= set(report["modality"])


def test_nothing_to_tell_apart_is_not_written() -> None:
    one = batch(0)
    one = replace(one, segment_sources=tuple(min(s, 0) for s in one.segment_sources))
    one = replace(one, input_ids_T=torch.zeros_like(one.input_ids_T))
    counts = RoutingCounts(CONFIG)
    counts.add(routers(Network(CONFIG, seed=3).eval(), one), one)
    assert counts.report(Ranks()) == {}
    assert RoutingCounts(CONFIG).report(Ranks()) == {}


def test_only_expanded_models_are_watched_for_copies(tmp_path: Path) -> None:
    def hook(trainer: Any) -> dict[str, Any]:
        return {"own": 1}

    assert with_copies(hook, None, Ranks()) is hook and with_copies(None, tmp_path, Ranks()) is None
    experts = CONFIG.text.router.num_experts
    origins = [[e // 2 for e in range(experts)]] * len(CONFIG.text.moe_layers)
    (tmp_path / EXPANSION_FILE).write_text(f'{{"origins": {origins}}}')
    joined = with_copies(hook, tmp_path, Ranks())
    assert joined is not None

    class Trainer:
        network = Network(CONFIG, seed=0)

    record = joined(Trainer())  # type: ignore[arg-type]
    assert record["own"] == 1 and set(record["copies"]) == {str(i) for i in range(len(origins))}
    assert all(layer["expert_distance"] > 0.5 for layer in record["copies"].values())
