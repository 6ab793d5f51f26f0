from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from s1pro.base.records import Sampling
from s1pro.serve.sampler import Draws, Sampler, Uniforms

V = 50
CPU = torch.device("cpu")


@dataclass
class FakeRow:
    sampling: Sampling
    uniforms: Draws = field(default_factory=list)
    prompt_ids: tuple[int, ...] = ()
    token_ids: list[int] = field(default_factory=list)
    stop_ids: tuple[int, ...] = ()
    structure: None = None


def sample(logits_BV: Tensor, rows: Sequence[FakeRow], sampler: Sampler | None = None) -> tuple[Tensor, Tensor]:
    sampler = sampler or Sampler(logits_BV.shape[1], None, CPU)
    return sampler.sample(logits_BV, sampler.plan(rows))


def logits(rows: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed))


def test_greedy_takes_the_largest_and_gives_raw_logprobs() -> None:
    x = logits(3)
    tokens, logprobs = sample(x, [FakeRow(Sampling()) for _ in range(3)])
    assert torch.equal(tokens, x.argmax(-1))
    torch.testing.assert_close(logprobs, x.log_softmax(-1).max(-1).values)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.4},
        {"temperature": 1.0, "top_p": 1e-6},
        {"temperature": 1.0, "top_k": 1000},
    ],
)
def test_frequencies_follow_the_filters_of_transformers(settings: dict[str, float]) -> None:
    """4000 evenly spaced uniform numbers hit every id as often as its filtered probability says."""
    s, count = Sampling(**settings), 4000  # type: ignore[arg-type]
    x = logits(1)
    prompt = (3, 7, int(x.argmax()))
    filters = LogitsProcessorList()
    if s.repetition_penalty != 1:
        filters.append(RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    filters.append(TemperatureLogitsWarper(s.temperature))
    if s.top_k:
        filters.append(TopKLogitsWarper(s.top_k))
    if s.top_p < 1:
        filters.append(TopPLogitsWarper(s.top_p))
    if s.min_p:
        filters.append(MinPLogitsWarper(s.min_p))
    expected_V = filters(torch.tensor([prompt]), x.clone()).softmax(-1)[0]
    rows = [FakeRow(s, [(i + 0.5) / count], prompt) for i in range(count)]
    tokens, logprobs = sample(x.expand(count, V), rows)
    measured_V = torch.bincount(tokens, minlength=V) / count
    torch.testing.assert_close(measured_V, expected_V, atol=1.5 / count, rtol=0)
    torch.testing.assert_close(logprobs, x.log_softmax(-1)[0][tokens])  # raw: no temperature, filter or penalty


def test_a_draw_does_not_depend_on_the_neighbours() -> None:
    x = logits(6)
    settings = [
        Sampling(temperature=0.9, seed=1),
        Sampling(temperature=0.9, top_k=7, seed=2),
        Sampling(),
        Sampling(temperature=1.2, top_p=0.7, seed=4),
        Sampling(temperature=1.0, min_p=0.05, repetition_penalty=1.5, seed=5),
        Sampling(temperature=0.9, top_k=9, top_p=0.9, seed=6),
    ]
    rows = [FakeRow(s, Uniforms(s), (1, 2)) for s in settings]
    together, _ = sample(x, rows)
    alone = [sample(x[i : i + 1], [row])[0] for i, row in enumerate(rows)]
    assert torch.equal(together, torch.cat(alone))


def test_uniforms_depend_on_seed_and_position_only() -> None:
    drawn = [Uniforms(Sampling(temperature=1, seed=9)) for _ in range(2)]
    assert [drawn[0][i] for i in range(200)] == [drawn[1][i] for i in reversed(range(200))][::-1]
    assert len({Uniforms(Sampling(temperature=1, seed=seed))[0] for seed in (-1, 0, 1, 2**70, None, None)}) == 6


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_excluded_ids_are_never_drawn(uniform: float) -> None:
    allowed = torch.zeros(V, dtype=torch.bool)
    allowed[[10, 20]] = True
    sampler = Sampler(V, allowed, CPU)
    x = logits(40)
    x[:, 49] += 100.0
    for s in (
        Sampling(),
        Sampling(temperature=2.0),
        Sampling(temperature=2.0, top_p=0.99),
        Sampling(temperature=9.0, top_k=30),
    ):
        tokens, _ = sample(x, [FakeRow(s, [uniform])] * 40, sampler)
        assert set(tokens.tolist()) <= {10, 20}


def test_the_penalty_also_counts_what_was_sampled() -> None:
    x = torch.zeros(1, V)
    x[0, 5], x[0, 6] = 2.0, 1.5
    row = FakeRow(Sampling(repetition_penalty=2.0))
    sampler = Sampler(V, None, CPU)
    plan = sampler.plan([row])
    assert [int(sampler.sample(x, plan)[0]) for _ in range(2)] == [5, 6]


@pytest.mark.parametrize("mask", [torch.ones(V - 1, dtype=torch.bool), torch.ones(V), torch.zeros(V, dtype=torch.bool)])
def test_a_wrong_mask_is_an_error(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"mask|sampled"):
        Sampler(V, mask, CPU)
