"""The same comparison through our own server: token ids in, log-probabilities and routing out, never as JSON lists."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from s1pro.base.endpoint import EndpointError, EndpointSettings
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Sampling
from s1pro.base.routing_file import read_trace, reference_of
from s1pro.model.network import Network
from s1pro.rl.parity.diagnosis import diagnose
from s1pro.rl.parity.hypotheses import hypotheses
from s1pro.rl.parity.probes import ProbeSettings, check_probes, collect
from s1pro.serve.http.service import Service
from tests.serve.http import running


def test_parity_over_http() -> None:
    engine, processor = running.engine(), running.processor()
    settings = ProbeSettings(prompts=6, tokens=8, longest=40)
    with running.running(Service(engine, processor, running.SETTINGS, max_batch=8)) as url:
        client = HttpClient(EndpointSettings(base_url=f"{url}/v1", model="tiny", logprobs=True, routing=True))
        probes, chats = asyncio.run(collect(client, processor, settings))
        check_probes(probes)
        trace = probes[0].completion.routing
        assert trace is not None and trace.experts_TLK.shape[0] == len(probes[0].token_ids) - 1
        with pytest.raises(EndpointError):  # it was fetched, and forgotten
            asyncio.run(client._with_routing(probes[0].completion, "gen-gone", (1, 1, 1)))
    trainer = Network(running.config(), seed=3).eval()
    found = diagnose(trainer, probes, chats)
    assert found.passed, found.faults
    assert min(found.routing_agreement) > 0.99
    wrong = next(h for h in hypotheses(trainer, bos=None) if h.name == "router-normalisation")
    faulty = diagnose(wrong.applied(trainer), probes, chats)
    assert not faulty.passed and faulty.gap.k3 > 1e-5


def test_generation_without_routing_is_as_before() -> None:
    with running.running(Service(running.engine(), running.processor(), running.SETTINGS, max_batch=8)) as url:
        client = HttpClient(EndpointSettings(base_url=f"{url}/v1", model="tiny"))
        completion = asyncio.run(client.generate([5, 6, 7], Sampling(max_new_tokens=3, ignore_eos=True)))
    assert completion.routing is None and len(completion.token_ids) == 3


def test_what_is_no_trace_is_refused() -> None:
    assert reference_of({"ref": "a-1", "shape": [2, 3, 4], "dtype": "uint16"}) == ("a-1", (2, 3, 4))
    for bad in ([[1]], "key", {"ref": "../x", "shape": [1, 1, 1]}, {"ref": "a", "shape": [1, -1, 1]}, {"ref": "a"}):
        assert reference_of(bad) is None
    import io

    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 3, 4), np.uint16))
    assert read_trace(stream.getvalue(), (2, 3, 4), 7).policy_version == 7
    for data, shape in ((stream.getvalue(), (2, 3, 5)), (b"no file", (2, 3, 4)), (stream.getvalue()[:-8], (2, 3, 4))):
        with pytest.raises(ValueError, match="routing trace"):
            read_trace(data, shape, 0)
    objects = io.BytesIO()
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="routing trace"):
        read_trace(objects.getvalue(), (1, 1, 1), 0)
