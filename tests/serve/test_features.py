"""What requests can ask for, and what the cache may and may not change."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s1pro.base.records import Completion, Sampling, StructuredOutput
from s1pro.checkpoint.released import save_network
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.client import build_engine
from s1pro.serve.engine import Engine
from s1pro.serve.request import Request
from tests.serve.traffic import VOCAB, make_network, make_processor

PROCESSOR = make_processor()
NETWORK = make_network(PROCESSOR)
PROMPT = [int(t) for t in np.random.default_rng(0).integers(0, 250, 41)]


def greedy(count: int = 10, **settings: Any) -> Sampling:
    return Sampling(max_new_tokens=count, ignore_eos=True, **settings)


def finish(engine: Engine, *requests: Request) -> list[Completion]:
    """The answers to requests of which some may be under way."""
    for request in requests:
        if not request.submitted:
            engine.submit(request)
    while engine.has_work:
        engine.step()
    return [engine.completion(request) for request in requests]


@torch.no_grad()
def next_logits(ids: list[int], network: Network = NETWORK) -> Tensor:
    """The reference: one whole forward per token."""
    output = network(torch.tensor(ids), torch.arange(len(ids)), PackedContext.from_lengths([len(ids)]))
    logits: Tensor = output.logits[-1].clone()
    return logits


# the prefix cache


def test_equal_prompts_share_their_blocks_also_when_they_arrive_together() -> None:
    engine = Engine(NETWORK, block_size=8)
    answers = engine.generate([PROMPT] * 4, greedy())
    assert [a.cached_tokens for a in answers] == [0, 40, 40, 40]
    again = engine.generate([PROMPT], greedy())[0]
    assert again.cached_tokens == 40
    alone = Engine(NETWORK, prefix_cache=False).generate([PROMPT], greedy())[0]
    for answer in (*answers, again):
        assert answer.token_ids == alone.token_ids
        assert answer.routing is not None and alone.routing is not None
        np.testing.assert_array_equal(answer.routing.experts_TLK, alone.routing.experts_TLK)
    assert engine.stats().prefix_hit_rate == 160 / 205


def test_the_next_turn_finds_the_answer_of_the_last_one_in_the_cache() -> None:
    engine = Engine(NETWORK, block_size=8)
    first = engine.generate([PROMPT], greedy(20))[0]
    turn = [*PROMPT, *first.token_ids, 7, 8, 9]
    second = engine.generate([turn], greedy())[0]
    assert second.cached_tokens == (41 + 19) // 8 * 8
    alone = Engine(NETWORK).generate([turn], greedy())[0]
    assert second.token_ids == alone.token_ids
    assert second.routing is not None and alone.routing is not None
    np.testing.assert_array_equal(second.routing.experts_TLK, alone.routing.experts_TLK)


def test_a_prompt_is_never_wholly_taken_from_the_cache() -> None:
    engine = Engine(NETWORK, block_size=8)
    answers = [engine.generate([PROMPT[:40]], greedy())[0] for _ in range(2)]
    assert [a.cached_tokens for a in answers] == [0, 32]
    assert answers[0].token_ids == answers[1].token_ids


@pytest.mark.parametrize(("cache_tokens", "in_rows"), [(2048, True), (160, False)])
def test_known_prefixes_lie_in_rows_while_there_is_room(cache_tokens: int, in_rows: bool) -> None:
    engine = Engine(NETWORK, block_size=8, cache_tokens=cache_tokens, max_context=80)
    requests = [engine.prepare([*PROMPT, i], greedy(12)) for i in range(3)]
    for request in requests:
        engine.submit(request)
    while requests[-1].num_computed < 41:
        engine.step()
    assert all(request.in_a_row for request in requests[1:]) == in_rows
    assert (requests[1].blocks[0] == requests[2].blocks[0]) != in_rows
    answers = finish(engine, *requests)
    assert [a.cached_tokens for a in answers] == [0, 40, 40]
    for i, answer in enumerate(answers):
        alone = Engine(NETWORK).generate([[*PROMPT, i]], greedy(12))[0]
        assert answer.token_ids == alone.token_ids
        assert answer.routing is not None and alone.routing is not None
        np.testing.assert_array_equal(answer.routing.experts_TLK, alone.routing.experts_TLK)
    assert engine.stats().blocks_used == 0


def test_pictures_of_other_content_are_not_taken_for_each_other() -> None:
    def picture(seed: int) -> Any:
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        parts = [{"type": "image", "image": pixels}, {"type": "text", "text": "what is this picture?"}]
        return PROCESSOR.encode([{"role": "user", "content": parts}], add_generation_prompt=True)

    engine, answers = Engine(NETWORK, block_size=4), []
    for encoded in map(picture, (1, 2, 1)):
        answers += finish(engine, engine.prepare(encoded.token_ids, greedy(), media=encoded.media))
    ids = list(picture(1).token_ids)
    before = ids.index(NETWORK.config.image_token_id) // 4 * 4
    assert [a.cached_tokens for a in answers] == [0, before, (len(ids) - 1) // 4 * 4]
    assert answers[0].token_ids == answers[2].token_ids
    assert answers[0].logprobs != answers[1].logprobs


# what is returned


@pytest.mark.parametrize("settings", [{}, {"step_tokens": 7, "max_batch": 2}])
def test_log_probs_of_the_prompt_and_of_alternatives(settings: dict[str, int]) -> None:
    engine = Engine(NETWORK, **settings)  # type: ignore[arg-type]
    engine.generate([PROMPT], greedy())  # a full prefix cache, which must not matter
    answer = engine.generate([PROMPT], greedy(3, prompt_logprobs=2, logprobs=4))[0]
    assert answer.cached_tokens == 0
    assert answer.prompt_logprobs is not None and answer.prompt_top_logprobs is not None
    assert answer.top_logprobs is not None and answer.logprobs is not None
    ids = [*PROMPT, *answer.token_ids]
    values, tops = [*answer.prompt_logprobs, *answer.logprobs], [*answer.prompt_top_logprobs, *answer.top_logprobs]
    assert values[0] is tops[0] is None and len(values) == len(tops) == len(ids)
    for i in range(1, len(ids)):
        expected_V = next_logits(ids[:i]).log_softmax(-1)
        assert values[i] == pytest.approx(float(expected_V[ids[i]]), abs=2e-5)
        best = expected_V.topk(2 if i < len(PROMPT) else 4)
        top = tops[i]
        assert top is not None and [token for token, _ in top] == best.indices.tolist()
        assert [value for _, value in top] == pytest.approx(best.values.tolist(), abs=2e-5)


def test_a_prompt_can_be_read_without_an_answer() -> None:
    engine = Engine(NETWORK, max_context=41)
    answer = engine.generate([PROMPT], Sampling(max_new_tokens=0, prompt_logprobs=0))[0]
    assert (answer.token_ids, answer.finish_reason) == ((), "length")
    assert answer.prompt_logprobs is not None and len(answer.prompt_logprobs) == 41
    assert answer.routing is not None and len(answer.routing.experts_TLK) == 41
    with pytest.raises(ValueError, match="max_new_tokens"):
        Sampling(max_new_tokens=0)


def test_what_ended_a_text_is_told_and_can_be_kept() -> None:
    engine = build_engine(NETWORK, PROCESSOR)
    free = engine.generate([PROMPT], greedy(30))[0]
    stop = free.text[6:9]
    cut = free.text.index(stop)
    ended = engine.generate([PROMPT], greedy(30, stop=("zzzz", stop)))[0]
    assert (ended.text, ended.finish_reason, ended.stop_reason) == (free.text[:cut], "stop", stop)
    kept = engine.generate([PROMPT], greedy(30, stop=(stop,), include_stop=True))[0]
    assert kept.text == free.text[:cut] + stop
    token = free.token_ids[4]
    by_id = engine.generate([PROMPT], greedy(30, stop_token_ids=(token,)))[0]
    assert (by_id.finish_reason, by_id.stop_reason) == ("stop", token)
    assert (free.finish_reason, free.stop_reason) == ("length", None)


def test_an_aborted_request_keeps_what_it_had() -> None:
    engine = Engine(NETWORK)
    request = engine.prepare(PROMPT, greedy(30))
    engine.submit(request)
    for _ in range(5):
        engine.step()
    engine.abort(request)
    assert engine.step() == [request]
    answer, whole = engine.completion(request), Engine(NETWORK).generate([PROMPT], greedy(30))[0]
    assert answer.token_ids == whole.token_ids[:5]
    assert answer.routing is not None and whole.routing is not None
    np.testing.assert_array_equal(answer.routing.experts_TLK, whole.routing.experts_TLK[: 41 + 4])
    assert engine.stats().blocks_used == 0


# how tokens are drawn


def test_penalties_and_biases_equal_a_plain_loop() -> None:
    sampling = greedy(
        16,
        repetition_penalty=1.2,
        presence_penalty=0.7,
        frequency_penalty=0.9,
        logit_bias={PROMPT[0]: 3.0, 17: -100.0, 90: 2.5},
    )
    ids = list(PROMPT)
    for _ in range(16):
        x_V = next_logits(ids)
        for token in set(ids):
            x_V[token] = x_V[token] / 1.2 if x_V[token] > 0 else x_V[token] * 1.2
        for token in ids[len(PROMPT) :]:
            x_V[token] -= 0.9
        for token in set(ids[len(PROMPT) :]):
            x_V[token] -= 0.7
        for token, bias in sampling.logit_bias.items():
            x_V[token] += bias
        ids.append(int(x_V.argmax()))
    others = [greedy(), Sampling(max_new_tokens=20, temperature=1.0, seed=3), greedy(5, logit_bias={3: 50.0})]
    answers = Engine(NETWORK).generate([PROMPT] * 4, [sampling, *others])
    assert list(answers[0].token_ids) == ids[len(PROMPT) :]
    assert answers[3].token_ids == (3,) * 5


def test_an_answer_can_have_a_least_length() -> None:
    free = Engine(NETWORK).generate([PROMPT], greedy(20))[0].token_ids
    eos = free[2]
    engine = Engine(NETWORK, eos_token_ids=[eos])
    short = engine.generate([PROMPT], Sampling(max_new_tokens=20))[0]
    assert len(short.token_ids) == free.index(eos) + 1
    longer = engine.generate([PROMPT], Sampling(max_new_tokens=20, min_new_tokens=8))[0]
    assert len(longer.token_ids) >= 8 and eos not in longer.token_ids[:8]
    ids = list(PROMPT)
    for i, token in enumerate(longer.token_ids):
        x_V = next_logits(ids)
        if i < 8:
            x_V[eos] = -torch.inf
        assert int(x_V.argmax()) == token
        ids.append(token)


def test_a_seed_gives_the_same_text_whatever_else_happens() -> None:
    sampling = Sampling(max_new_tokens=24, temperature=1.3, top_p=0.95, seed=11, ignore_eos=True)
    alone = Engine(NETWORK).generate([PROMPT], sampling)[0].token_ids
    assert len(set(alone)) > 5
    noise = [Sampling(max_new_tokens=9 + i, temperature=1.0, ignore_eos=True) for i in range(5)]
    for settings in (
        {},
        {"cache_tokens": 160, "block_size": 4, "step_tokens": 16, "max_batch": 6},
        {"draft_tokens": 3},
    ):
        engine = Engine(NETWORK, max_context=80, **settings)  # type: ignore[arg-type]
        answers = engine.generate([PROMPT[i:] for i in range(6)], [sampling, *noise])
        assert answers[0].token_ids == alone, settings


# guesses


@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_guessing_changes_the_number_of_steps_and_nothing_else(temperature: float) -> None:
    network = make_network(PROCESSOR, seed=5)
    with torch.no_grad():  # attention off: the next token depends on the last alone, so texts soon go in circles
        for layer in network.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
    prompts = [PROMPT[i : i + 12] for i in range(5)]
    samplings = [greedy(60, temperature=temperature, seed=i, logprobs=1) for i in range(5)]
    plain, guessing = Engine(network), Engine(network, draft_tokens=6)
    expected, answers = plain.generate(prompts, samplings), guessing.generate(prompts, samplings)
    for a, b in zip(expected, answers, strict=True):
        assert a.token_ids == b.token_ids
        torch.testing.assert_close(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=2e-5, rtol=0)
        assert a.top_logprobs is not None and b.top_logprobs is not None
        assert [t[0][0] for t in a.top_logprobs] == [t[0][0] for t in b.top_logprobs]
        assert a.routing is not None and b.routing is not None
        np.testing.assert_array_equal(a.routing.experts_TLK, b.routing.experts_TLK)
    counters = guessing.stats().counters
    assert 0 < counters.accepted_tokens <= counters.drafted_tokens
    if temperature == 0:
        assert counters.steps < plain.stats().counters.steps // 2
    else:
        assert counters.accepted_tokens < counters.drafted_tokens
    assert counters.generated_tokens == 300


def test_guesses_end_where_the_answer_ends_and_leave_penalties_alone() -> None:
    circle = [5, 6, 7, 8] * 6
    engine = Engine(NETWORK, draft_tokens=8, max_context=30)
    free = Engine(NETWORK).generate([circle], greedy(6))[0].token_ids
    for sampling in (
        greedy(6),
        greedy(6, repetition_penalty=1.4),
        greedy(6, presence_penalty=0.5),
        Sampling(max_new_tokens=6, stop_token_ids=(free[2],)),
    ):
        expected = Engine(NETWORK).generate([circle], sampling)[0]
        answer = engine.generate([circle], sampling)[0]
        assert (answer.token_ids, answer.finish_reason) == (expected.token_ids, expected.finish_reason)
        assert answer.routing is not None and len(answer.routing.experts_TLK) == 23 + len(answer.token_ids)
    assert engine.stats().blocks_used == 0


# structure

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "mass": {"type": "number", "minimum": 0, "maximum": 500},
        "tags": {"type": "array", "items": {"enum": ["solid", "liquid"]}, "maxItems": 3},
        "ok": {"type": "boolean"},
    },
    "required": ["name", "mass", "ok"],
    "additionalProperties": False,
}


def test_structured_answers_always_parse() -> None:
    engine = build_engine(NETWORK, PROCESSOR)
    by_schema = StructuredOutput(kind="json_schema", value=json.dumps(SCHEMA))
    by_regex = StructuredOutput(kind="regex", value=r"[A-Z][a-z]{1,3}-[0-9]{2}")
    by_grammar = StructuredOutput(kind="grammar", value='start: ("C" | "N" | "O")+ "!"')
    asked = [by_schema] * 8 + [by_regex] * 4 + [by_grammar] * 2
    samplings = [
        Sampling(max_new_tokens=200, temperature=float(i % 3) / 2, seed=i, structured=wanted, min_new_tokens=3)
        for i, wanted in enumerate(asked)
    ]
    answers = engine.generate([PROMPT] * len(asked) + [PROMPT], [*samplings, greedy()])
    for answer in answers[:8]:
        assert answer.finish_reason == "stop", answer
        value = json.loads(answer.text)
        assert {"name", "mass", "ok"} <= value.keys() <= {"name", "mass", "tags", "ok"}
        assert len(value["name"]) <= 8 and 0 <= value["mass"] <= 500 and isinstance(value["ok"], bool)
        assert len(value.get("tags", [])) <= 3
    for answer in answers[8:12]:
        assert re.fullmatch(r"[A-Z][a-z]{1,3}-[0-9]{2}", answer.text)
    for answer in answers[12:14]:
        assert answer.finish_reason == "length" or re.fullmatch("[CNO]+!", answer.text)
    assert len({answer.text for answer in answers[:8]}) > 2
    assert answers[14].token_ids == Engine(NETWORK).generate([PROMPT], greedy())[0].token_ids
    assert answers[0].logprobs is not None  # raw: what the network thought of the tokens it was made to take
    first = float(next_logits(PROMPT).log_softmax(-1)[answers[0].token_ids[0]])
    assert answers[0].logprobs[0] == pytest.approx(first, abs=2e-5)


def test_any_json_object_and_what_cannot_be_a_structure() -> None:
    engine = build_engine(NETWORK, PROCESSOR)
    wanted = StructuredOutput(kind="json_object")
    samplings = [Sampling(max_new_tokens=300, temperature=0.7, seed=i, structured=wanted) for i in range(6)]
    answers = engine.generate([PROMPT] * 6, samplings)
    whole = [json.loads(answer.text) for answer in answers if answer.finish_reason == "stop"]
    assert whole and all(isinstance(value, dict) for value in whole)
    assert all(answer.text.startswith("{") for answer in answers)
    for kind, value in (("json_schema", "{"), ("json_schema", '{"type": "thing"}'), ("regex", "[a"), ("grammar", "x")):
        with pytest.raises(ValueError, match="structured output"):
            engine.prepare(PROMPT, Sampling(structured=StructuredOutput(kind=kind, value=value)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokenizer"):
        Engine(NETWORK).prepare(PROMPT, Sampling(structured=wanted))
    for kind, value in (("json_object", "{}"), ("regex", ""), ("xml", "a")):
        with pytest.raises(ValueError, match="structured output"):
            StructuredOutput(kind=kind, value=value)  # type: ignore[arg-type]


# weights and memory


def test_new_weights_serve_from_the_next_token_on() -> None:
    network, other = Network(tiny(VOCAB), seed=1).eval(), Network(tiny(VOCAB), seed=2).eval()
    engine = Engine(network, block_size=4, policy_version=7)
    request, waits = engine.prepare(PROMPT, greedy(12)), engine.prepare(PROMPT, greedy(4))
    engine.submit(request)
    for _ in range(5):
        engine.step()
    before = list(request.token_ids)
    engine.update_weights(other.state_dict(), version=8)
    answer, late = finish(engine, request, waits)[0], engine.completion(waits)
    ids = [*PROMPT, *before]
    for token in answer.token_ids[5:]:
        assert token == int(next_logits(ids, other).argmax())
        ids.append(token)
    assert answer.token_versions == (7,) * 5 + (8,) * 7
    assert answer.policy_version == 8
    assert answer.routing is not None
    output = other(torch.tensor(ids[:-1]), torch.arange(len(ids) - 1), PackedContext.from_lengths([len(ids) - 1]))
    np.testing.assert_array_equal(answer.routing.experts_TLK, output.routing_LTK.transpose(0, 1).numpy())
    assert late.token_ids == Engine(other).generate([PROMPT], greedy(4))[0].token_ids
    assert (late.policy_version, late.token_versions) == (8, None)


def test_new_weights_read_pictures_again() -> None:
    network, other = make_network(PROCESSOR, seed=6), make_network(PROCESSOR, seed=7)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    parts = [{"type": "image", "image": pixels}, {"type": "text", "text": "what is this picture?"}]
    encoded = PROCESSOR.encode([{"role": "user", "content": parts}], add_generation_prompt=True)
    engine = Engine(network)
    request = engine.prepare(encoded.token_ids, greedy(6), media=encoded.media)
    engine.submit(request)
    engine.step()
    engine.update_weights(other.state_dict(), version=1)
    answer = finish(engine, request)[0]
    fed = torch.tensor([*encoded.token_ids, *answer.token_ids[:-1]])
    assert encoded.media is not None
    media, packed = encoded.media.map(torch.as_tensor), PackedContext.from_lengths([len(fed)])
    with torch.no_grad():
        output = other(fed, torch.arange(len(fed)), packed, media=media)
    expected_TV = output.logits[len(encoded.token_ids) :].log_softmax(-1)
    expected = expected_TV.gather(1, torch.tensor(answer.token_ids[1:])[:, None])[:, 0].tolist()
    assert answer.logprobs is not None
    assert list(answer.logprobs[1:]) == pytest.approx(expected, abs=2e-5)


def test_requests_can_keep_the_keys_of_the_weights_that_wrote_them() -> None:
    network, other = Network(tiny(VOCAB), seed=1).eval(), Network(tiny(VOCAB), seed=2).eval()
    engine = Engine(network, block_size=4)
    request = engine.prepare(PROMPT, greedy(30))
    engine.submit(request)
    for _ in range(5):
        engine.step()
    engine.update_weights(other.state_dict(), version=1, recompute=False)
    old = finish(engine, request)[0]
    assert engine.stats().counters.preemptions == 0
    assert old.token_versions == (0,) * 5 + (1,) * 25
    again = engine.generate([[*PROMPT, *old.token_ids]], greedy(3))[0]
    assert again.cached_tokens == 0  # nothing that stands on old keys is shared
    assert again.token_ids == Engine(other).generate([[*PROMPT, *old.token_ids]], greedy(3))[0].token_ids


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    network = Network(tiny(VOCAB), seed=1).eval()
    engine, expected = Engine(network), Engine(network).generate([PROMPT], greedy())[0].token_ids
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    name = "lm_head.weight"
    for wrong, message in (
        ({**state, "no.such": torch.ones(1)}, "no.such"),
        ({k: v for k, v in state.items() if k != name}, "missing"),
        ({**state, name: torch.ones(3)}, "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.update_weights(wrong, version=1)
    save_network(Network(tiny(VOCAB + 1)), tmp_path / "other")
    with pytest.raises(ValueError, match="architecture"):
        engine.update_weights(tmp_path / "other", version=1)
    with pytest.raises(ValueError, match="nowhere"):
        engine.update_weights(tmp_path / "nowhere", version=1)
    answer = engine.generate([PROMPT], greedy())[0]
    assert (answer.token_ids, answer.policy_version) == (expected, 0)


def test_weights_come_from_a_folder_or_in_parts(tmp_path: Path) -> None:
    network, other = Network(tiny(VOCAB), seed=1).eval(), Network(tiny(VOCAB), seed=2).eval()
    save_network(other, tmp_path / "model")
    engine = Engine(network)
    engine.update_weights(tmp_path / "model", version=3)
    expected = Engine(other).generate([PROMPT], greedy())[0].token_ids
    assert engine.generate([PROMPT], greedy())[0].token_ids == expected
    engine.update_weights({"lm_head.weight": -other.lm_head.weight}, version=4, partial=True)
    assert engine.generate([PROMPT], greedy())[0].token_ids != expected


def test_a_sleeping_engine_holds_no_cache_and_goes_on_where_it_was() -> None:
    engine = Engine(NETWORK)
    expected = engine.generate([PROMPT], greedy(12))[0]
    request = engine.prepare(PROMPT, greedy(12))
    engine.submit(request)
    for _ in range(4):
        engine.step()
    engine.sleep()
    engine.sleep()  # nothing is left to be given back
    assert engine.stats().asleep and not hasattr(engine._passes, "_cache")
    with pytest.raises(AssertionError, match="sleeps"):
        engine.step()
    engine.wake()
    answer = finish(engine, request)[0]
    assert answer.token_ids == expected.token_ids
    assert answer.routing is not None and expected.routing is not None
    np.testing.assert_array_equal(answer.routing.experts_TLK, expected.routing.experts_TLK)
