"""Planted faults are found from what an engine says, and named; a faultless engine passes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from s1pro.base.records import Completion, Message, RoutingTrace, Sampling
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.rl.parity.diagnosis import Diagnosis, diagnose
from s1pro.rl.parity.hypotheses import Hypothesis, hypotheses
from s1pro.rl.parity.probes import ProbeSettings, check_probes, collect
from s1pro.serve.client import LocalClient
from tests.rl.letters import Letters, policy

SETTINGS = ProbeSettings(prompts=24, tokens=32, longest=150)


def trained_policy() -> Network:
    """Weights large enough that everything matters: of a fresh network all distributions are nearly flat."""
    network = policy(seed=3)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(6.0 if "embed" not in name else 20.0)
    return network.eval()


NETWORK = trained_policy()


class FaultyClient(LocalClient):
    """An engine with something wrong around the network."""

    def __init__(
        self, *args: Any, temperature: float = 1.0, shift: int = 0, template: str = "", **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.temperature, self.shift, self.template = temperature, shift, template

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        if sampling.temperature:
            sampling = replace(sampling, temperature=sampling.temperature * self.temperature)
        completion = await super().generate(prompt_token_ids, sampling)
        if self.shift and completion.routing is not None:
            moved = np.roll(completion.routing.experts_TLK, self.shift, axis=0)
            completion = replace(completion, routing=RoutingTrace(experts_TLK=moved))
        return completion

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        if self.template:
            messages = [replace(messages[0], content=self.template + messages[0].text), *messages[1:]]
        return await super().chat(messages, sampling)


def examine(engine: Network, trainer: Network = NETWORK, **faults: Any) -> Diagnosis:
    made = LocalClient.from_network(engine, Letters(), max_batch=16, cache_tokens=8192)  # type: ignore[arg-type]
    client = FaultyClient(made.engine, made.processor, **faults)
    probes, chats = asyncio.run(collect(client, Letters(), SETTINGS))  # type: ignore[arg-type]
    check_probes(probes)
    return diagnose(trainer, probes, chats, bos=3)


def changed(name: str, network: Network = NETWORK) -> Network:
    return hypothesis(name, network).applied(network)


def hypothesis(name: str, network: Network = NETWORK) -> Hypothesis:
    return next(h for h in hypotheses(network, bos=3) if h.name == name)


def test_a_faultless_engine_passes() -> None:
    found = examine(NETWORK)
    assert found.passed, found.faults
    assert found.gap.k3 < 1e-8 and abs(found.sampler.z) < 4
    assert found.routing_agreement and min(found.routing_agreement) > 0.99 and found.routing_shift == 0
    assert all(found.chats_agree) and found.gap.tokens == 24 * 32 and found.top1 == 1.0


@pytest.mark.parametrize(
    "name",
    [
        "sine-padding-0", "rope-padding-0", "plain-rope", "router-gate-bf16", "router-normalisation", "bf16",
        "experts-fp8-fp32", "router-ungrouped", "head-bf16",
    ],
)  # fmt: skip
def test_planted_faults_of_the_network(name: str) -> None:
    found = examine(changed(name))
    assert not found.passed and (found.top1 < 1.0 or found.gap.k3 < 1e-3)
    assert found.cause == name or name == "bf16", (found.gap, found.explanations[:4])  # its roundings do not repeat
    assert f"({name})" in found.faults[0], found.faults


def test_fp8_of_other_masters() -> None:
    """Both sides in FP8, the engine from bfloat16 copies: the public lesson of a factor of 20 in KL."""
    trainer, engine = copy.deepcopy(NETWORK), copy.deepcopy(NETWORK)
    use_fp8_experts(trainer)
    assert examine(copy.deepcopy(trainer), trainer).passed
    engine = changed("experts-fp8-fp32-of-bf16", engine)
    found = examine(engine, trainer)
    assert not found.passed and found.cause == "experts-fp8-fp32-of-bf16", (found.gap, found.explanations[:4])


@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_another_temperature(temperature: float) -> None:
    found = examine(NETWORK, temperature=temperature)
    assert found.gap.k3 < 1e-8, "raw log-probabilities are not touched by it"
    assert [fault for fault in found.faults if "draws do not come from" in fault]
    assert found.sampler.drawn_at == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("shift", [1, -1])
def test_records_of_experts_off_by_one(shift: int) -> None:
    found = examine(NETWORK, shift=shift)
    assert found.routing_shift == shift and found.gap.k3 < 1e-8
    assert found.faults == [f"records of experts are off by {shift:+d} tokens"]
    assert max(found.routing_agreement) < 0.9 < min(found.routing_agreement_shifted)


def test_another_chat_template() -> None:
    found = examine(NETWORK, template=" ")
    assert len(found.faults) == 1 and "another chat template" in found.faults[0]
    assert not any(found.chats_agree)


def test_what_nothing_explains_is_reported_with_its_place() -> None:
    engine = copy.deepcopy(NETWORK)
    engine.model.language_model.layers[1].self_attn.o_proj.weight.data.mul_(1.2)
    found = examine(engine)
    assert not found.passed and found.cause == ""
    assert "no known difference explains it" in found.faults[0]
    assert found.routing_agreement[0] > 0.99 > found.routing_agreement[-1], "the first layer still agrees"
    assert len(found.worst) == 10 and found.by_position
