"""Training and examining small models on labels: against one pass per question, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s1pro.base.records import Message, Sample
from s1pro.data.sequence import ProcessorEncoder
from s1pro.inputs.processor import Processor
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.recipes.claims.labelled import (
    FitSettings,
    Kept,
    Labelled,
    answers,
    fit,
    keep,
    make_network,
    make_processor,
)
from s1pro.recipes.claims.signals import cut_off_module

LABELS = ("rising", "rising slowly", "falling")
WORDS = ("primitive", "face-centred")


def asked(number: int) -> Labelled:
    """A question with a medium of one kind or the other, or without."""
    random = np.random.default_rng(number)
    kinds = (
        {"type": "image", "image": random.integers(0, 256, (16, 32, 3), dtype=np.uint8)},
        {"type": "time_series", "time_series": random.normal(size=40).astype(np.float32), "sampling_rate": 20.0},
        {"type": "text", "text": "0123 "},
    )
    labels = WORDS if number % 2 else LABELS[:1] + LABELS[2:]
    content = (kinds[number % 3], {"type": "text", "text": f"What is it, {number}?"})
    return Labelled(content=content, answer=labels[number % len(labels)], labels=labels)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return make_processor([asked(number) for number in range(12)], vocab_size=300)


@pytest.fixture(scope="module")
def network(processor: Processor) -> Network:
    return make_network(processor, 0).eval()


@torch.no_grad()
def one_by_one(network: Network, processor: Processor, question: Labelled) -> str:
    """The label whose tokens are likeliest where the labels first differ, by one pass per label."""
    found = {}
    for label in question.labels:
        encoded = processor.encode_training(question.messages(label))
        ids_T = torch.tensor(encoded.token_ids)
        media = None if encoded.media is None else encoded.media.map(torch.from_numpy)
        context = PackedContext(cu_seqlens=(0, len(ids_T)))
        logits = network(ids_T, torch.arange(len(ids_T)), context, media=media).logits
        text = processor.tokenizer.decode(
            [i for i, own in zip(*(encoded.token_ids, encoded.learned), strict=True) if own]
        )
        assert label in text
        found[label] = (ids_T, logits)
    first, second = (ids_T for ids_T, _ in found.values())
    length = min(len(first), len(second))
    place = int((first[:length] != second[:length]).nonzero()[0])
    return max(found, key=lambda label: float(found[label][1][place - 1][found[label][0][place]]))


def test_answers_are_those_of_one_pass_per_label(network: Network, processor: Processor) -> None:
    questions = [asked(number) for number in range(30)]
    said = answers(network, processor, questions)
    assert said == [one_by_one(network, processor, question) for question in questions]
    assert all(len(set(group)) > 1 for group in (said, [said[i] for i in range(1, 30, 2)]))


def test_labels_that_begin_alike_are_refused(network: Network, processor: Processor) -> None:
    question = Labelled(
        content=({"type": "text", "text": "What?"},), answer="rising", labels=("rising", "rising slowly")
    )
    three = Labelled(content=question.content, answer="falling", labels=LABELS)
    assert answers(network, processor, [question])  # the end of the turn tells these two apart
    with pytest.raises(ValueError, match="not told apart"):
        answers(network, processor, [three])


def test_a_fit_counts_its_tokens_and_learns(processor: Processor) -> None:
    encoder = ProcessorEncoder(processor)
    short = (Message(role="user", content="?"), Message(role="assistant", content="rising"))
    sources = [
        keep("long", [asked(2)] * 4, encoder),
        Kept("short", encoder.encode([Sample(source="short", prompt_group="science", messages=short)])),
    ]
    network = make_network(processor, 1)
    steps: list[int] = []
    settings = FitSettings(steps=12, tokens_per_batch=96, lr=4e-3)
    fitted = fit(network, sources, settings, seed=0, weights=(3.0, 1.0), each=steps.append)
    assert steps == list(range(1, 13))
    assert fitted.tokens == sum(fitted.by_source.values()) <= 12 * 96
    longest = max(source.num_rows(0) for source in sources)
    assert abs(fitted.by_source["long"] - 3 * fitted.by_source["short"]) <= 8 * longest
    assert fitted.losses[-1][1] < 0.5 * fitted.losses[0][1]
    again = fit(make_network(processor, 1), sources, settings, seed=0, weights=(3.0, 1.0))
    assert again.losses == fitted.losses


def test_a_module_that_is_cut_off_says_the_same_of_every_signal(processor: Processor) -> None:
    network = make_network(processor, 2)
    signals = [asked(number) for number in (1, 7)]
    encoded = [processor.encode_training(question.messages()).media for question in signals]
    media = [one.map(torch.from_numpy).signals for one in encoded if one is not None]
    rows = [network.model.time_series(signals) for signals in media]
    assert len(rows) == 2 and not torch.allclose(*rows)
    cut_off_module(network)
    rows = [network.model.time_series(signals) for signals in media]
    assert torch.equal(*rows) and not rows[0].any()
