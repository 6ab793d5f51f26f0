"""Other engines behind the same client: what is asked, what is read, and how weights get there."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.client import ModelClient
from s1pro.base.endpoint import EndpointError, EndpointSettings, RetrySettings
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Completion, Sampling
from s1pro.checkpoint.released import load_network
from s1pro.model.network import Network
from s1pro.model.precision import expert_layers, use_fp8_experts
from s1pro.rl import engines
from s1pro.rl.config import RolloutConfig
from s1pro.rl.engines import PublicationError, ServedEngine, check_digests, write_weights
from s1pro.rl.parity.diagnosis import diagnose
from s1pro.rl.parity.hypotheses import hypotheses
from s1pro.rl.parity.probes import ProbeSettings, check_probes, collect
from s1pro.rl.rollout import Question, RecordError, answer, check_record
from s1pro.serve.client import LocalClient
from s1pro.tasks.task import Item
from tests.rl.engine_servers import RecordingServer, serving
from tests.rl.letters import Vowels
from tests.serve.http import running

ENGINES = ("vllm", "lmdeploy", "sglang")
NETWORK = Network(running.config(), seed=3).eval()
TEXT = NETWORK.config.text
SHAPE = (len(TEXT.moe_layers), TEXT.router.top_k)
PROMPT = (5, 6, 7, 8)


def client_of(server: RecordingServer, **changes: Any) -> HttpClient:
    settings = EndpointSettings(
        base_url=server.url,
        model="tiny",
        engine=server.name,  # type: ignore[arg-type]
        logprobs=True,
        routing=True,
        routing_shape=SHAPE,
        retries=RetrySettings(attempts=1),
    )
    return HttpClient(dataclasses.replace(settings, **changes))


def ours(sampling: Sampling, prompt: tuple[int, ...] = PROMPT, network: Network = NETWORK) -> Completion:
    local = LocalClient.from_network(network, running.processor(), max_batch=4, cache_tokens=4096)
    return asyncio.run(local.generate(prompt, sampling))


@pytest.mark.parametrize("name", ENGINES)
def test_tokens_logprobs_and_experts_come_back_as_they_were(name: str) -> None:
    sampling = Sampling(max_new_tokens=6, temperature=1.0, seed=11, ignore_eos=True)
    with serving(name, NETWORK, running.processor()) as server:
        client = client_of(server)
        assert isinstance(client, ModelClient)
        found = asyncio.run(client.generate(PROMPT, sampling))
        (path, _), *others = server.calls
    expected = ours(dataclasses.replace(sampling, seed=11 if name != "lmdeploy" else 7))  # LMDeploy takes no seed
    assert not others and path == ("/v1/completions" if name == "vllm" else "/generate")
    assert (found.token_ids, found.text, found.finish_reason) == (expected.token_ids, expected.text, "length")
    assert found.logprobs == expected.logprobs and found.prompt_token_ids == PROMPT
    assert found.routing is not None and expected.routing is not None
    assert np.array_equal(found.routing.experts_TLK, expected.routing.experts_TLK)
    check_record(Question(task="t", item=Item(id="1"), token_ids=PROMPT), found, SHAPE)


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_that_shapes_the_distribution_is_left_to_the_server(name: str) -> None:
    """The servers' own defaults would cut the distribution; every one of these has to be sent, also where it is off."""
    with serving(name, NETWORK, running.processor()) as server:
        client = client_of(server)
        asyncio.run(client.generate(PROMPT, Sampling(max_new_tokens=2, temperature=1.0)))
        asyncio.run(client.generate(PROMPT, Sampling(max_new_tokens=2, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1)))
        plain, chosen = (body.get("sampling_params", body) for _, body in server.calls)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    assert [plain[n] for n in names] == [1.0, 1.0, 0 if name == "lmdeploy" else -1, 0.0, 1.0]
    assert [chosen[n] for n in names] == [0.5, 0.9, 3, 0.1, 1.0]


@pytest.mark.parametrize("name", ENGINES)
def test_rollouts_from_a_server_are_rollouts(name: str) -> None:
    """What the trainer needs is there and of one piece; the experts are those of the trainer's own choice."""
    questions = [Question(task="vowels", item=Item(id=str(i)), token_ids=(9, 8, 7 + i)) for i in range(3)]
    config = RolloutConfig(prompts=3, group_size=2, max_new_tokens=5)
    with serving(name, NETWORK, running.processor()) as server:
        engine = ServedEngine(client_of(server), version=0)
        groups = asyncio.run(
            answer(questions, {"vowels": Vowels()}, engine, config, seed=3, routing_shape=SHAPE)  # type: ignore[dict-item]
        )
    assert [len(group) for group in groups] == [2, 2, 2]
    for rollout in (r for group in groups for r in group):
        assert rollout.completion.logprobs is not None and len(rollout.completion.logprobs) == rollout.num_tokens


def _drop(answer: dict[str, Any], name: str, key: str) -> None:
    (answer["choices"][0] if name == "vllm" else answer["meta_info"]).pop(key)


@pytest.mark.parametrize("name", ENGINES)
def test_answers_that_are_damaged_are_no_rollouts(name: str) -> None:
    def shifted(answer: dict[str, Any]) -> None:
        place = answer["choices"][0] if name == "vllm" else answer["meta_info"]
        place["routed_experts"] = [[[0]]] if name == "lmdeploy" else "bm90IGEgdHJhY2U="

    sampling, question = Sampling(max_new_tokens=3), Question(task="t", item=Item(id="1"), token_ids=PROMPT)
    with (
        serving(name, NETWORK, running.processor(), damage=shifted) as server,
        pytest.raises(EndpointError, match="routed_experts"),
    ):
        asyncio.run(client_of(server).generate(PROMPT, sampling))
    damage = lambda answer: _drop(answer, name, "routed_experts")  # noqa: E731
    with serving(name, NETWORK, running.processor(), damage=damage) as server:
        found = asyncio.run(client_of(server).generate(PROMPT, sampling))
    with pytest.raises(RecordError, match="replay needs the experts"):
        check_record(question, found, SHAPE)


def ending(prompt: tuple[int, ...]) -> Network:
    """NETWORK, but after the second greedy token the most likely one ends the answer."""
    network, sampling = copy.deepcopy(NETWORK), Sampling(max_new_tokens=3, ignore_eos=True)
    top, eos = ours(sampling, prompt).token_ids[2], running.processor().tokenizer.eos_token_id
    with torch.no_grad():
        network.lm_head.weight[eos] = network.lm_head.weight[top]
        network.lm_head.weight[top] *= 0.9
    return network


@pytest.mark.parametrize("name", ENGINES)
def test_the_token_that_ends_an_answer_belongs_to_it(name: str) -> None:
    """Else a policy would never learn to stop. LMDeploy has to be asked for it, and writes its name behind the text."""
    network, sampling = ending(PROMPT), Sampling(max_new_tokens=8)
    expected = ours(sampling, network=network)
    assert expected.finish_reason == "stop" and len(expected.token_ids) == 3, "a fault of the test"
    with serving(name, network, running.processor()) as server:
        found = asyncio.run(client_of(server).generate(PROMPT, sampling))
    assert found.finish_reason == "stop" and found.token_ids == expected.token_ids
    assert found.token_ids[-1] == running.processor().tokenizer.eos_token_id
    assert found.logprobs == expected.logprobs and found.text == expected.text
    check_record(Question(task="t", item=Item(id="1"), token_ids=PROMPT), found, SHAPE)


def test_lmdeploy_without_being_asked_leaves_it_out() -> None:
    """What the server of the tests does then, as the real one: nothing is damaged, and the record is of one piece."""
    client_free = {"include_stop_str_in_output": False}
    network, sampling = ending(PROMPT), Sampling(max_new_tokens=8)
    with serving("lmdeploy", network, running.processor()) as server:
        found = asyncio.run(client_of(server, extra_body=client_free).generate(PROMPT, sampling))
    assert found.finish_reason == "stop" and len(found.token_ids) == 2
    check_record(Question(task="t", item=Item(id="1"), token_ids=PROMPT), found, SHAPE)


def test_a_reference_that_only_pickle_reads_is_refused() -> None:
    def referred(answer: dict[str, Any]) -> None:
        answer["meta_info"]["routed_experts"] = "gASVCAAAAAAAAACMBHdvcmSULg=="

    with (
        serving("lmdeploy", NETWORK, running.processor(), damage=referred) as server,
        pytest.raises(EndpointError, match="only pickle can read"),
    ):
        asyncio.run(client_of(server).generate(PROMPT, Sampling(max_new_tokens=2)))


def test_settings_that_cannot_work() -> None:
    with pytest.raises(InputError, match="engine must be one of"):
        EndpointSettings(base_url="http://localhost:1/v1", model="m", engine="tgi")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs routing_shape"):
        EndpointSettings(base_url="http://localhost:1/v1", model="m", engine="sglang", routing=True)


def doubled() -> Network:
    network = copy.deepcopy(NETWORK)
    with torch.no_grad():
        network.lm_head.weight.mul_(2)
    return network


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_published_weights_answer(name: str, tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=4, temperature=1.0, seed=3)
    with serving(name, copy.deepcopy(NETWORK), running.processor()) as server:
        engine = ServedEngine(client_of(server), folder=tmp_path, processor=running.processor())
        before = asyncio.run(engine.generate(PROMPT, sampling))
        for version in (1, 2, 3):
            asyncio.run(engine.publish(doubled(), version))
        after = asyncio.run(engine.generate(PROMPT, sampling))
        control = [path for path, _ in server.calls if "generate" not in path and "completions" not in path]
        bodies = dict(server.calls)
    assert before.logprobs == ours(sampling).logprobs
    assert after.logprobs == ours(sampling, network=doubled()).logprobs != before.logprobs
    assert after.policy_version == 3 and after.routing is not None and after.routing.policy_version == 3
    steps = {
        "vllm": ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"],
        "sglang": ["/pause_generation", "/update_weights_from_disk", "/continue_generation"],
    }[name]
    assert control == 3 * steps
    if name == "sglang":
        sent = bodies["/update_weights_from_disk"]
        assert sent == {"model_path": str(tmp_path / "v3"), "weight_version": "3", "flush_cache": True}
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["v2", "v3"], "old ones go"
    written = {file.suffix for file in (tmp_path / "v3").iterdir()}
    assert ".safetensors" in written and not written & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


def test_a_server_that_kept_its_old_weights_is_noticed(tmp_path: Path) -> None:
    with serving("sglang", copy.deepcopy(NETWORK), running.processor()) as server:
        engine = ServedEngine(client_of(server), folder=tmp_path)
        asyncio.run(engine.publish(doubled(), 1))
        server.version = "0"  # as a second server behind the same address that was not told
        with pytest.raises(PublicationError, match="weights 0 answered, and 1 were published"):
            asyncio.run(engine.generate(PROMPT, Sampling(max_new_tokens=2)))


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_failed_publication_leaves_no_server_paused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths that a server hears when the call that loads weights fails."""
    heard: list[str] = []

    async def post(self: HttpClient, path: str, body: Any, read: Any) -> Any:
        heard.append(path)
        if path in ("/collective_rpc", "/update_weights_from_disk"):
            raise ConnectionError("no folder")
        return {}

    monkeypatch.setattr(HttpClient, "post", post)
    client = HttpClient(EndpointSettings(base_url="http://127.0.0.1:1/v1", model="tiny"))
    with pytest.raises(ConnectionError, match="no folder"):
        asyncio.run(engines._TELL[name](client, Path("w"), 1))
    assert "pause" in heard[0] and heard[-1] == {"vllm": "/resume", "sglang": "/continue_generation"}[name]


def test_what_cannot_be_published(tmp_path: Path) -> None:
    with serving("lmdeploy", NETWORK, running.processor()) as server:
        with pytest.raises(InputError, match=r"engine\.restart is missing: lmdeploy takes weights .* as pickles only"):
            asyncio.run(ServedEngine(client_of(server), folder=tmp_path).publish(NETWORK, 1))
        with pytest.raises(InputError, match="folder is missing"):
            asyncio.run(ServedEngine(client_of(server)).publish(NETWORK, 1))
        assert server.calls == []


def test_our_own_server_takes_a_publication(tmp_path: Path) -> None:
    from s1pro.serve.http.service import Service

    settings = dataclasses.replace(running.SETTINGS, weights_root=tmp_path)
    with running.running(Service(running.engine(), running.processor(), settings, max_batch=8)) as url:
        client = HttpClient(EndpointSettings(base_url=f"{url}/v1", model="tiny", logprobs=True, routing=True))
        engine = ServedEngine(client, folder=tmp_path)
        asyncio.run(engine.publish(doubled(), 5))
        sampling = Sampling(max_new_tokens=4, temperature=1.0, seed=3)
        found = asyncio.run(engine.generate(PROMPT, sampling))
    assert found.policy_version == 5
    assert found.logprobs == pytest.approx(ours(sampling, network=doubled()).logprobs, abs=1e-6)


def test_fp8_experts_travel_as_the_bytes_that_train(tmp_path: Path) -> None:
    network = copy.deepcopy(NETWORK)
    use_fp8_experts(network)
    folder = write_weights(network, tmp_path / "v1")
    loaded = load_network(folder)
    plain = {name: tensor for name, tensor in network.state_dict().items() if "experts" not in name}
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in plain.items())
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert stored < sum(t.numel() * t.element_size() for t in network.state_dict().values())


def test_the_hashes_of_a_publication_notice_other_masters(tmp_path: Path) -> None:
    """Quantised from bfloat16 copies instead of float32 masters, one number changed, another kind of scales."""
    network = copy.deepcopy(NETWORK)
    use_fp8_experts(network)
    rounded = next(h for h in hypotheses(network, bos=None) if h.name == "experts-fp8-fp32-of-bf16").applied(network)
    one = copy.deepcopy(network)
    with torch.no_grad():
        next(iter(expert_layers(one).values())).down_proj.data[0, 0, 0] += 1.0
    scales = copy.deepcopy(network)
    use_fp8_experts(scales, scale_format="ue8m0")
    for number, other in enumerate((rounded, one, scales)):
        folder = write_weights(other, tmp_path / f"v{number}")
        with pytest.raises(PublicationError, match="FP8 weights are not those of the trainer"):
            check_digests(network, folder)
        check_digests(other, folder)


def test_nothing_wrong_is_ever_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose bytes are not the trainer's never reaches the server."""
    network = copy.deepcopy(NETWORK)
    use_fp8_experts(network)
    save = engines.save_network

    def other_quantiser(network: Network, folder: Path, **options: Any) -> Path:
        return save(network, folder, **{**options, "scale_format": "ue8m0"})

    monkeypatch.setattr(engines, "save_network", other_quantiser)
    with serving("vllm", copy.deepcopy(NETWORK), running.processor()) as server:
        with pytest.raises(PublicationError, match="another quantiser"):
            asyncio.run(ServedEngine(client_of(server), folder=tmp_path).publish(network, 1))
        assert server.calls == []


@pytest.mark.parametrize("name", ENGINES)
def test_parity_of_another_engine(name: str) -> None:
    """The same comparison over each of the three forms; a fault planted in the engine is found and named."""
    settings = ProbeSettings(prompts=6, tokens=8, longest=30)
    processor = running.processor()
    wrong = next(h for h in hypotheses(NETWORK, bos=None) if h.name == "router-normalisation").applied(NETWORK)
    for network in (NETWORK, wrong):
        with serving(name, network, processor) as server:
            probes, chats = asyncio.run(collect(client_of(server), processor, settings))
        check_probes(probes)
        found = diagnose(NETWORK, probes, chats)
        assert found.passed == (network is NETWORK), found.faults
        assert found.routing_agreement
    assert found.cause == "router-normalisation", found.explanations[:3]


def test_the_command_asks_another_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from s1pro.checkpoint.released import save_network
    from s1pro.cli import main

    processor = running.processor()
    save_network(NETWORK, tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    small = ["--prompts", "4", "--tokens", "6", "--longest", "20"]
    with serving("sglang", NETWORK, processor) as server:
        command = ["parity", str(tmp_path / "model"), "--url", server.url, "--engine", "sglang", *small]
        assert main(command) == 0
        assert "engine and trainer agree" in capsys.readouterr().out
        assert any(body.get("return_routed_experts") for _, body in server.calls)
        assert main([*command, "--no-routing"]) == 0
    assert main(["parity", str(tmp_path / "model"), "--engine", "vllm"]) == 2
    assert "no effect without --url" in capsys.readouterr().err
