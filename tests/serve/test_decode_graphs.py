"""Recorded decoding steps: against the usual ones on a CPU, and against the rules of a CUDA graph on a fake GPU.

On a CPU a recording is a call of the same step again, so buffers, padding, sizes and everything around them are real.
What is left for a GPU is the capture itself: the last test, which needs one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from s1pro.base.records import Completion, Sampling
from s1pro.kernels import experts_few, experts_grouped
from s1pro.kernels.attention import PagedContext
from s1pro.kernels.attention_static import StaticContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.config import ModelConfig
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.precision import use_fp8_experts
from s1pro.model.presets import bench, tiny
from s1pro.serve import recorders
from s1pro.serve.decode_graphs import DecodeGraphs
from s1pro.serve.engine import Engine
from s1pro.serve.recorders import CallAgain, RecordingFailed, fingerprint, obstacle
from s1pro.serve.routing_record import RoutingRecord
from s1pro.serve.sampler import Sampler
from s1pro.serve.steps import MixedBatch
from tests.serve.fake_gpu import HostWork, Recorded, fake_gpu, fake_network
from tests.serve.traffic import Judge, make_network, make_processor, make_traffic, run

VOCAB = 96
SMALL: dict[str, Any] = {"max_batch": 5, "cache_tokens": 120, "block_size": 4, "step_tokens": 32}


class Counting(CallAgain):
    """Counts recordings and replays."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        step = super().record(step)

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Of all engines that are built from now on."""
    counting = Counting()
    monkeypatch.setattr(recorders, "recorder_for", lambda device: counting)
    return counting


@pytest.fixture
def experts_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding takes the grouped products, as it would there."""
    monkeypatch.setattr(experts_grouped, "is_supported", lambda x, down: True)
    monkeypatch.setattr(experts_few, "is_supported", lambda x, ids: False)


def network(dtype: torch.dtype = torch.float32, seed: int = 0, config: ModelConfig | None = None) -> Network:
    net = Network(config or tiny(vocab_size=VOCAB), seed=seed).eval()
    with torch.no_grad():  # larger gates and head: choices with a margin
        net.lm_head.weight *= 20
        for name, parameter in net.named_parameters():
            if name.endswith("mlp.gate.weight"):
                parameter *= 20
    return net.to(dtype)


def dense_below() -> ModelConfig:
    """A first layer without experts, and several chosen in each group."""
    config = tiny(vocab_size=VOCAB)
    return replace(config, text=replace(config.text, mlp_only_layers=(0,), intermediate_size=96))


def load(count: int = 12, seed: int = 0) -> tuple[list[list[int]], list[Sampling]]:
    rng = random.Random(seed)
    openings = [[rng.randrange(VOCAB) for _ in range(16)] for _ in range(2)]
    prompts = [
        rng.choice(openings)[: rng.randint(0, 16)] + [rng.randrange(VOCAB) for _ in range(rng.randint(1, 12))]
        for _ in range(count)
    ]
    samplings = [
        Sampling(max_new_tokens=rng.randint(1, 50), temperature=i % 2, seed=i, repetition_penalty=1 + (i % 3) / 10)
        for i in range(count)
    ]
    return prompts, samplings


def usual(net: Network, prompts: list[list[int]], samplings: list[Sampling], **settings: Any) -> list[Completion]:
    return Engine(net, cuda_graphs=False, **settings).generate(prompts, samplings)


def assert_equal(mine: list[Completion], expected: list[Completion], atol: float = 2e-5) -> None:
    for answer, other in zip(mine, expected, strict=True):
        assert answer.token_ids == other.token_ids
        assert answer.logprobs == pytest.approx(other.logprobs, abs=atol)
        assert answer.routing is not None and other.routing is not None
        np.testing.assert_array_equal(answer.routing.experts_TLK, other.routing.experts_TLK)
        np.testing.assert_array_equal(answer.routing.token_ids_T, other.routing.token_ids_T)


# on a CPU: the engine


@pytest.mark.parametrize("config", [tiny(vocab_size=VOCAB), dense_below()])
@pytest.mark.parametrize(
    "settings", [SMALL, SMALL | {"cache_tokens": 1024, "max_batch": 12}, SMALL | {"block_size": 1}]
)
def test_answers_and_traces_are_those_of_the_usual_steps(
    recorder: Counting, experts_of_a_gpu: None, config: ModelConfig, settings: dict[str, Any]
) -> None:
    """Small caches force preemption; prompts share beginnings; requests enter and leave all the time."""
    net = network(config=config)
    engine = Engine(net, **settings)
    assert_equal(engine.generate(*load()), usual(net, *load(), **settings))
    stats = engine.stats()
    assert recorder.replayed > 20 and stats.graphs == recorder.recorded < 12
    if settings["cache_tokens"] < 1024:
        assert stats.counters.preemptions > 0 and stats.counters.cached_tokens > 0


def test_bfloat16_differs_by_its_rounding_alone(recorder: Counting, experts_of_a_gpu: None) -> None:
    net = network(torch.bfloat16)
    engine = Engine(net, **SMALL)
    mine, expected = engine.generate(*load()), usual(net, *load(), **SMALL)
    assert recorder.replayed > 20
    assert_equal_but_for_rounding(mine, expected)


def assert_equal_but_for_rounding(mine: list[Completion], expected: list[Completion]) -> None:
    rows = same_rows = tokens = same_tokens = 0
    for answer, other in zip(mine, expected, strict=True):
        assert answer.routing is not None and other.routing is not None
        shared = 0  # until the first token that rounding turned, behind which all may differ
        for a, b in zip(answer.token_ids, other.token_ids, strict=False):
            if a != b:
                break
            shared += 1
        tokens, same_tokens = tokens + len(other.token_ids), same_tokens + shared
        assert answer.logprobs is not None and other.logprobs is not None
        assert answer.logprobs[:shared] == pytest.approx(other.logprobs[:shared], abs=0.1)
        length = len(answer.prompt_token_ids) + shared - 1
        equal_T = (answer.routing.experts_TLK[:length] == other.routing.experts_TLK[:length]).all(axis=(1, 2))
        rows, same_rows = rows + length, same_rows + int(equal_T.sum())
    assert same_tokens > 0.95 * tokens and same_rows > 0.98 * rows


@pytest.mark.parametrize("draft_tokens", [0, 4])
def test_mixed_traffic_with_media_and_cancellations_equals_the_trainers_forward(
    recorder: Counting, draft_tokens: int
) -> None:
    processor = make_processor()
    net = make_network(processor)
    engine = Engine(net, **SMALL | {"cache_tokens": 180, "max_context": 160, "draft_tokens": draft_tokens})
    judge = Judge(net)
    for asked, answer in run(engine, make_traffic(processor, 20, seed=7, longest_answer=20)):
        judge.check(asked, answer)
    assert recorder.replayed > 20 and judge.tokens > 100 and judge.worst < 2e-5
    assert judge.excused <= 1 and judge.excused_rows <= 10


def test_weights_replaced_in_place_keep_recordings_and_sleep_ends_them(recorder: Counting) -> None:
    """New numbers in the middle of the answers: the same recordings give what a new engine gives."""
    prompts, other = load(4)[0], network(seed=1)
    sampling = Sampling(max_new_tokens=12)
    for sleeps in (False, True):
        net = network()
        engine, plain = Engine(net), Engine(network(), cuda_graphs=False)
        answers = []
        for each in (engine, plain):
            requests = [each.prepare(prompt, sampling) for prompt in prompts]
            for request in requests:
                each.submit(request)
            for _ in range(6):
                each.step()
            recorded = each.stats().graphs
            if sleeps:
                each.sleep()
                assert each.stats().graphs == 0
                each.wake()
            each.update_weights(other.state_dict(), version=1)
            while each.has_work:
                each.step()
            assert each.stats().graphs == recorded  # one size in both halves
            answers.append([each.completion(request) for request in requests])
        assert_equal(*answers)
        assert {answer.token_versions for answer in answers[0]} == {(0,) * 6 + (1,) * 6}


def test_a_network_that_changed_is_recorded_anew_or_not_at_all(recorder: Counting) -> None:
    net = network()
    engine = Engine(net, prefix_cache=False)
    ask = Sampling(max_new_tokens=6)

    def recorded() -> int:
        before = recorder.recorded
        assert_equal(engine.generate(load(2)[0], ask), usual(engine.network, load(2)[0], [ask] * 2))
        return recorder.recorded - before

    assert (recorded(), recorded()) == (1, 0)
    net.lm_head.weight.data = net.lm_head.weight.data.clone()  # another address
    assert (recorded(), recorded()) == (1, 0)
    for layer in net.model.language_model.layers:
        layer.input_layernorm.eps = 1e-2
    assert (recorded(), recorded()) == (1, 0)
    handle = net.model.language_model.layers[0].register_forward_hook(lambda *_: None)
    assert recorded() == 0 and recorder.replayed == 6 * 5
    handle.remove()
    engine.network = Engine(network(seed=3)).network  # an engine lays its weights together, once
    assert (recorded(), recorded()) == (1, 0)


def test_steps_that_are_too_large_are_not_recorded(recorder: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an answer, when it grows out of the largest recording."""
    monkeypatch.setattr("s1pro.serve.decode_graphs.MOST_SLOTS", 128)
    net, prompts = network(), [list(range(90))]
    ask = [Sampling(max_new_tokens=60)]
    engine = Engine(net, block_size=8)
    assert_equal(engine.generate(prompts, ask), usual(net, prompts, ask, block_size=8))
    assert recorder.replayed == 38 and engine.stats().graphs == 1  # up to 128 tokens, of which 90 are the prompt


def test_wider_tables_and_more_rows_are_recorded_when_they_are_needed(recorder: Counting) -> None:
    net = network()
    engine = Engine(net, block_size=16, max_batch=24)
    ask = Sampling(max_new_tokens=150)
    assert_equal(engine.generate([[1, 2]], ask), usual(net, [[1, 2]], [ask]))
    assert list(engine._passes._graphs.replay_of) == [(1, 8), (1, 16)]  # type: ignore[union-attr]
    engine.generate(load(19)[0], Sampling(max_new_tokens=3))
    assert list(engine._passes._graphs.replay_of)[2:] == [(24, 8)]  # type: ignore[union-attr]


class Failing(Counting):
    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        raise RecordingFailed("no memory for a graph")


def test_a_recording_that_fails_leaves_the_usual_steps_or_raises_if_it_was_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorders, "recorder_for", lambda device: Failing())
    net, ask = network(), Sampling(max_new_tokens=8)
    engine = Engine(net)
    with pytest.warns(RuntimeWarning, match="no memory for a graph; decoding goes on without"):
        assert_equal(engine.generate(load(3)[0], ask), usual(net, load(3)[0], [ask] * 3))
    engine.generate([[1]], ask)  # and does not try again
    with pytest.raises(RecordingFailed):
        Engine(net, cuda_graphs=True).generate([[1]], ask)


def test_what_cannot_be_recorded_is_refused_if_it_is_demanded(recorder: Counting) -> None:
    exact, eight = network(), network()
    use_exact_operators(exact)
    use_fp8_experts(eight)
    for net, reason in ((exact, "exact mode"), (eight, "experts in FP8")):
        with pytest.raises(ValueError, match=f"cuda_graphs=True.*{reason}"):
            Engine(net, cuda_graphs=True)
        Engine(net).generate([[1, 2]], Sampling(max_new_tokens=4))
    assert recorder.recorded == 0


def test_a_cpu_has_no_graphs() -> None:
    with pytest.raises(ValueError, match="the network is on cpu"):
        Engine(network(), cuda_graphs=True)
    engine = Engine(network())
    engine.generate([[1, 2]], Sampling(max_new_tokens=4))
    assert engine.stats().graphs == 0


def test_an_error_leaves_nothing_in_the_cache_that_spoils_later_answers(recorder: Counting) -> None:
    """Keys that are no numbers stay behind the end of later sequences in the same block."""
    net = network()
    engine = Engine(net, block_size=64)
    good = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    broken = {
        name: tensor.fill_(torch.nan) if "v_proj" in name else tensor for name, tensor in net.state_dict().items()
    }
    engine.update_weights(broken, version=1)
    engine.submit(engine.prepare(list(range(40)), Sampling(max_new_tokens=4)))
    with pytest.raises(ValueError, match="not numbers"):
        engine.step()
    engine.reset()
    engine.update_weights(good, version=2)
    assert_equal(
        engine.generate([[1, 2]], Sampling(max_new_tokens=4)), usual(net, [[1, 2]], [Sampling(max_new_tokens=4)])
    )


# on a CPU: one step


@torch.inference_mode()
def test_repeated_calls_use_the_same_memory_and_padding_touches_the_spare_block_alone() -> None:
    net = network()
    text = net.config.text
    cache = PagedKVCache(text.num_hidden_layers, 9, 4, text.num_key_value_heads, text.head_dim)
    routing = RoutingRecord(36, len(text.moe_layers), text.router.top_k, torch.device("cpu"))
    graphs = DecodeGraphs(net, cache, routing, CallAgain(), max_batch=8, max_blocks=8)
    engine = Engine(net, cuda_graphs=False)
    requests = [engine.prepare([3, 1, 4, 1, 5][: 2 + i], Sampling()) for i in range(3)]
    for request, blocks in zip(requests, ([6], [2], [4, 1]), strict=True):
        request.blocks, request.num_computed = blocks, len(request.prompt_ids) - 1
        request.ids = list(request.prompt_ids)
    graphs.begin(requests)
    first = graphs.run(3, 2)
    before, values = addresses(graphs), first.clone()
    again = graphs.run(3, 2)  # the same step: the same numbers
    assert torch.equal(again, values) and again.data_ptr() == first.data_ptr()
    graphs.advance(torch.tensor([7, 8, 9]))
    assert graphs._ids_B.tolist() == [7, 8, 9, 0, 0, 0, 0, 0]
    assert graphs._positions_B.tolist() == [2, 3, 4, 0, 0, 0, 0, 0]
    requests[1].blocks = [2, 3]
    graphs.add_block(1, 1, 3)
    assert not torch.equal(graphs.run(3, 2), values)
    assert addresses(graphs) == before
    written = {int(slot) for layer in cache.slots for slot in layer.flatten(1).any(dim=1).nonzero()}
    assert written == {25, 26, 10, 11, 19, 4, 32}  # two tokens of each request, and the spare block


def addresses(graphs: DecodeGraphs) -> list[int]:
    return [t.data_ptr() for t in (graphs._ids_B, graphs._positions_B, graphs._table_BM, graphs._logits_BV)]


def test_what_a_recording_depends_on() -> None:
    net = network()
    before = fingerprint(net)
    assert obstacle(net) is None and fingerprint(net) == before
    with torch.no_grad():
        net.lm_head.weight.fill_(0)
    assert fingerprint(net) == before
    gate = net.model.language_model.layers[0].mlp.gate
    gate.config = replace(gate.config, renorm_eps=0.5)
    assert fingerprint(net) != before
    net.model.language_model.forward = lambda *_: None
    assert "method of its own" in (obstacle(net) or "")


# on a fake GPU


class Watching(CallAgain):
    """Lets the step run, which makes what is made once, then watches it."""

    def __init__(self) -> None:
        self.calls = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        super().record(step)
        with Recorded() as watch:
            step()
        self.calls = watch.calls
        return lambda: None


def gpu_cache(config: ModelConfig, blocks: int = 17) -> PagedKVCache:
    text = config.text
    return PagedKVCache(
        text.num_hidden_layers, blocks, 16, text.num_key_value_heads, text.head_dim, torch.bfloat16, device="cuda"
    )


@pytest.mark.parametrize(
    "config", [tiny(), dense_below(), replace(bench(), text=replace(bench().text, num_hidden_layers=2))]
)
def test_a_step_never_asks_the_host(config: ModelConfig) -> None:
    with fake_gpu():
        net, text = fake_network(config), config.text
        routing = RoutingRecord(17 * 16, len(text.moe_layers), text.router.top_k, torch.device("cuda"))
        watching = Watching()
        graphs = DecodeGraphs(net, gpu_cache(config), routing, watching, max_batch=8, max_blocks=16)
        logits_BV = graphs.run(3, 9)
        assert (logits_BV.shape, logits_BV.dtype) == ((3, text.vocab_size), torch.float32)
        assert logits_BV.device.type == "cuda" and list(graphs.replay_of) == [(4, 16)]
        graphs.advance(torch.zeros(3, dtype=torch.int64, device="cuda"))
        assert watching.calls > 30 * text.num_hidden_layers


def test_the_rules_find_steps_that_do() -> None:
    """The control: a usual step, which makes tensors of lengths, and steps that read a number or wait for the host."""
    with fake_gpu():
        net = fake_network(tiny())
        ids_B = torch.zeros(2, dtype=torch.int64, device="cuda")
        table_BM = torch.zeros(2, 4, dtype=torch.int64, device="cuda")
        cache = gpu_cache(tiny())
        context = PagedContext(cache, (0, 1, 2), table_BM, (5, 9), ids_B)
        net(ids_B, ids_B, context)
        with Recorded(), pytest.raises(HostWork):
            net(ids_B, ids_B, replace(context, context_lens=(6, 10)))
        still = StaticContext(cache, table_BM, ids_B)
        with Recorded():
            net(ids_B, ids_B, still)
        for read in (Tensor.tolist, lambda x: x[0, 0, 0].item(), torch.nonzero):
            with pytest.raises((RuntimeError, DataDependentOutputException, DynamicOutputShapeException)):
                read(net(ids_B, ids_B, StaticContext(cache, table_BM, ids_B)).routing_LTK)
        with Recorded(), pytest.raises(HostWork):
            ids_B.to("cpu")


def test_mixed_steps_and_the_sampler_keep_host_and_device_apart() -> None:
    """Prompts, chunks, guesses and wishes of all kinds: every tensor is made where it is used. Up to the read of the
    tokens, which is the one wait of a step."""
    config, device = tiny(vocab_size=VOCAB), torch.device("cuda")
    engine = Engine(network(), draft_tokens=3, step_tokens=24, max_batch=8)
    wishes = [
        Sampling(max_new_tokens=30),
        Sampling(max_new_tokens=30, temperature=1.0, top_k=5, seed=0, logit_bias={3: 1.0}),
        Sampling(max_new_tokens=30, temperature=0.7, top_p=0.9, min_p=0.01, seed=1, min_new_tokens=2),
        Sampling(max_new_tokens=30, repetition_penalty=1.2, presence_penalty=0.1),
    ]
    for wish in wishes:
        engine.submit(engine.prepare([5, 6, 7] * 7, wish))
    kinds: set[tuple[bool, bool, bool]] = set()
    for _ in range(12):
        shares = engine._scheduler.schedule(engine._draft)
        kinds |= {(share.start > 0, share.count > 1, bool(share.draft)) for share in shares}
        with fake_gpu():
            batch = MixedBatch(shares, gpu_cache(config, blocks=2048), device)
            index = batch.logits_index if batch.rows else None
            output = fake_network(config)(batch.ids_T, batch.positions_T, batch.context, logits_index=index)
            routing = RoutingRecord(2048 * 16, 2, 2, device)
            routing.write(batch.slots_T, batch.ids_T, output.routers)
            if batch.rows:
                sampler = Sampler(VOCAB, None, device)
                tokens_N, logprobs_N = sampler.sample(output.logits, sampler.plan(batch.rows))
                assert tokens_N.device == logprobs_N.device == output.logits.device and tokens_N.device.type == "cuda"
        for share in shares:
            engine._scheduler.computed(share, share.count)
            if share.samples:
                share.request.push(share.request.ids[-3], -1.0)
    assert {(False, True, False), (True, True, False), (True, False, False), (True, False, True)} <= kinds


# on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_graphs_give_what_the_usual_steps_give() -> None:
    """What the other tests cannot show. Requests come and go, weights change in place, the engine sleeps."""
    device = torch.device("cuda")
    net = network(torch.bfloat16, config=bench(vocab_size=VOCAB)).to(device)
    engine = Engine(net, cuda_graphs=True, **SMALL)
    plain = Engine(network(torch.bfloat16, config=bench(vocab_size=VOCAB)).to(device), cuda_graphs=False, **SMALL)
    assert_equal_but_for_rounding(engine.generate(*load()), plain.generate(*load()))
    recorded = engine.stats().graphs
    assert recorded >= 3
    new = network(torch.bfloat16, seed=1, config=bench(vocab_size=VOCAB)).state_dict()
    for each in (engine, plain):
        each.update_weights(new, version=1)
    assert_equal_but_for_rounding(engine.generate(*load(seed=1)), plain.generate(*load(seed=1)))
    engine.sleep()
    assert engine.stats().graphs == 0
    engine.wake()
    assert_equal_but_for_rounding(engine.generate(*load(seed=2)), plain.generate(*load(seed=2)))
    assert engine.stats().graphs >= 3
