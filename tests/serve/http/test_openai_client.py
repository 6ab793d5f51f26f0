"""The real client of OpenAI against a running server."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import threading
import time
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.serve.http.running import config, processor, scripted

HELLO: list[Any] = [{"role": "user", "content": "What is the weather in Ghent?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Ghent", "Oslo"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def connect(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=200)


@pytest.fixture
def client(server: str) -> openai.OpenAI:
    return connect(server)


def picture(value: int) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def test_models(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert model.id == "tiny"
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_a_seed_repeats_an_answer_and_greedy_needs_none(client: openai.OpenAI) -> None:
    def ask(**options: Any) -> Any:
        return client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=12, extra_body={"ignore_eos": True}, **options
        )

    first, again, other = ask(seed=5), ask(seed=5), ask(seed=6)
    assert first.choices[0].message.content == again.choices[0].message.content != other.choices[0].message.content
    assert ask(temperature=0).choices[0].message.content == ask(temperature=0).choices[0].message.content
    assert first.choices[0].finish_reason == "length"
    assert first.usage.completion_tokens == 12
    assert first.usage.total_tokens == first.usage.prompt_tokens + 12
    several = ask(seed=5, n=3)
    texts = [choice.message.content for choice in several.choices]
    assert texts[0] == first.choices[0].message.content and texts[1] == other.choices[0].message.content
    assert len(set(texts)) == 3 and several.usage.completion_tokens == 36


def test_streaming_gives_the_same_text_and_the_usage(client: openai.OpenAI) -> None:
    options: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "seed": 1, "n": 2}
    options["extra_body"] = {"ignore_eos": True}
    whole = client.chat.completions.create(**options)
    texts, reasons, usages, roles = ["", ""], {}, [], []
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.delta.role:
                roles.append(choice.index)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        usages += [chunk.usage] if chunk.usage else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == {0: "length", 1: "length"} and sorted(roles) == [0, 1]
    assert [usage.completion_tokens for usage in usages] == [40]


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=5
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 6
    for entry in entries:
        best = next(top for top in entry.top_logprobs if top.bytes)  # untrained rows without a piece are never drawn
        assert (entry.token, entry.logprob) == (best.token, best.logprob)  # greedy
        assert len(entry.top_logprobs) == 5 and entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert bytes(entry.bytes).decode("utf-8", "replace")
    streamed = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=5, stream=True
    )
    parts = [choice.logprobs.content for chunk in streamed for choice in chunk.choices if choice.logprobs]
    assert [entry.logprob for part in parts for entry in part] == [entry.logprob for entry in entries]


def test_stop_and_logit_bias(client: openai.OpenAI) -> None:
    tokenizer = processor().tokenizer
    [token] = tokenizer.encode("w")
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, temperature=0, logit_bias={str(token): 100}
    )
    assert answer.choices[0].message.content == "wwwww"
    stopped = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, temperature=0, logit_bias={str(token): 100}, stop=["www", "x"]
    )
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("", "stop")
    text = client.completions.create(
        model="tiny",
        prompt="a",
        max_tokens=5,
        temperature=0,
        logit_bias={str(token): 100},
        stop="www",
        extra_body={"include_stop_str_in_output": True},
    )
    assert text.choices[0].text == "www"


def test_response_formats(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["yes", "n"],
        "additionalProperties": False,
    }
    for seed in range(3):
        answer = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            seed=seed,
            max_tokens=200,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
        assert answer.choices[0].finish_reason == "stop"
        value = json.loads(answer.choices[0].message.content)
        assert set(value) == {"yes", "n"} and isinstance(value["yes"], bool) and 0 <= value["n"] <= 99
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, seed=0, max_tokens=40, extra_body={"regex": "(yes|no), [0-9]{3}"}
    )
    assert re.fullmatch("(yes|no), [0-9]{3}", answer.choices[0].message.content)
    plain = client.chat.completions.create(
        model="tiny", messages=HELLO, seed=2, max_tokens=60, response_format={"type": "json_object"}
    )
    content = plain.choices[0].message.content
    assert content.startswith("{")
    if plain.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


@pytest.mark.parametrize(
    "bad",
    [{"type": 5}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}],
)
def test_bad_response_formats(client: openai.OpenAI, bad: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="tiny", messages=HELLO, response_format=bad)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_required_call_is_made_by_any_model(client: openai.OpenAI, choice: Any) -> None:
    other = {"type": "function", "function": {"name": "now"}}
    for stream in (False, True):
        answer: Any = client.chat.completions.create(
            model="tiny", messages=HELLO, tools=[WEATHER], tool_choice=choice, seed=3, max_tokens=200, stream=stream
        )
        if stream:
            deltas = [chunk.choices[0].delta for chunk in answer]
            [call] = [call for delta in deltas for call in delta.tool_calls or []]
            assert not any(delta.content for delta in deltas)
        else:
            assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.content == ""
            [call] = answer.choices[0].message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "get_weather" and arguments["city"] in ("Ghent", "Oslo")
        assert 1 <= arguments["days"] <= 9
    several = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        tools=[WEATHER, other],
        tool_choice="required",
        seed=3,
        max_tokens=300,  # type: ignore[list-item]
    )
    choice = several.choices[0]
    if choice.finish_reason == "tool_calls":  # a random model may write arguments of `now` without end
        assert choice.message.tool_calls[0].function.name in ("get_weather", "now")


def test_a_tool_calling_loop() -> None:
    """Question, two calls at once, their results, the answer."""

    def write(prompt: str) -> str:
        if "<tool_response>" in prompt:
            found = re.findall(r"<tool_response>\n(.*?)\n</tool_response>", prompt)
            return "I know now.</think>\n\n" + " and ".join(found)
        call = '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{}", "days": 1}}}}\n</tool_call>'
        return "Two cities.</think>\n\nLet me see.\n" + call.format("Ghent") + "\n" + call.format("Oslo")

    for stream in (False, True):
        with scripted(write, enable_thinking=True) as (url, engine):
            client, messages, turns = connect(url), list(HELLO), 0
            while True:
                turns += 1
                answer: Any = client.chat.completions.create(
                    model="tiny", messages=messages, tools=[WEATHER], stream=stream
                )
                message, reasoning = collect(answer) if stream else whole(answer)
                messages.append(message)
                if not message.get("tool_calls"):
                    break
                for call in message["tool_calls"]:
                    city = json.loads(call["function"]["arguments"])["city"]
                    messages.append({"role": "tool", "content": f"{city}: sunny", "tool_call_id": call["id"]})
        assert turns == 2
        assert messages[1]["content"] == "Let me see." and len(messages[1]["tool_calls"]) == 2
        assert message["content"] == "Ghent: sunny and Oslo: sunny" and reasoning == "I know now."
        assert "# Tools" in engine.prompts[0] and '"get_weather"' in engine.prompts[0]


def whole(answer: Any) -> tuple[dict[str, Any], str]:
    choice = answer.choices[0]
    message = choice.message.model_dump(exclude_none=True)
    assert choice.finish_reason == ("tool_calls" if message.get("tool_calls") else "stop")
    return message, message.pop("reasoning_content", "")


def collect(stream: Any) -> tuple[dict[str, Any], str]:
    """Message and reasoning of a stream."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    reasoning, reason = "", None
    for chunk in stream:
        delta = chunk.choices[0].delta
        message["content"] += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        for call in delta.tool_calls or []:
            message.setdefault("tool_calls", []).append(call.model_dump(exclude={"index"}))
        reason = chunk.choices[0].finish_reason or reason
    assert reason == ("tool_calls" if message.get("tool_calls") else "stop")
    return message, reasoning


def test_without_parallel_calls_an_answer_ends_with_its_first() -> None:
    call = '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{}"}}}}\n</tool_call>'
    text = "See:\n" + call.format("Ghent") + "\n" + call.format("Oslo") + "\nand so on and on"
    tool: Any = {"type": "function", **WEATHER["function"]}
    with scripted(lambda _: text) as (url, engine):
        client = connect(url)
        for most in (4000, len(processor().tokenizer.encode(text)) - 2):  # to its end, and cut behind the first call
            for stream in (False, True):
                answer: Any = client.chat.completions.create(
                    model="x",
                    messages=HELLO,
                    tools=[WEATHER],
                    parallel_tool_calls=False,
                    stream=stream,
                    max_tokens=most,
                )
                message, _ = collect(answer) if stream else whole(answer)
                [found] = message["tool_calls"]
                assert json.loads(found["function"]["arguments"]) == {"city": "Ghent"} and message["content"] == "See:"
            response = client.responses.create(
                model="x", input="?", tools=[tool], parallel_tool_calls=False, max_output_tokens=most
            )
            assert [item.type for item in response.output] == ["message", "function_call"]
            assert response.status == "completed" and response.incomplete_details is None
        engine.allowed = len(processor().tokenizer.encode(text[: text.index("</tool_call>") + 12])) + 2
        body: Any = {"model": "x", "messages": HELLO, "tools": [WEATHER], "parallel_tool_calls": False}
        waiting = threading.Thread(target=lambda: client.chat.completions.create(**body))
        waiting.start()
        while not engine.cancelled:  # told to stop, long before the text ends
            assert waiting.is_alive()
            time.sleep(0.01)
        engine.allowed = math.inf
        waiting.join()


def test_a_streamed_response_has_the_items_of_the_whole_one() -> None:
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ghent"}}\n</tool_call>'
    tool: Any = {"type": "function", **WEATHER["function"]}
    for text in ("Why.</think>\n\nSee.\n" + call + "\nThen:\n" + call, "only thoughts", "so.</think>\n\nYes", ""):
        with scripted(lambda _, text=text: text, enable_thinking=True) as (url, _):
            client = connect(url)
            response = client.responses.create(model="x", input="?", tools=[tool])
            last: Any = list(client.responses.create(model="x", input="?", tools=[tool], stream=True))[-1]
            assert shape(response) == shape(last.response)
    assert len(shape(response)) == 1  # also an empty answer is one


def shape(response: Any) -> list[tuple[str, str | None, str]]:
    """Kind, status and text of the items of a response."""
    items = []
    for item in response.output:
        text = item.arguments if item.type == "function_call" else "".join(part.text for part in item.content or ())
        items.append((item.type, item.status, text))
    return items


def test_thinking_is_switched_by_the_request() -> None:
    with scripted(lambda prompt: "why</think>\n\nso" if prompt.endswith("<think>") else "so") as (url, _):
        client = connect(url)
        for extra, reasoning in (
            ({}, None),
            ({"chat_template_kwargs": {"enable_thinking": True}}, "why"),
            ({"enable_thinking": True}, "why"),
            ({"reasoning_effort": "high"}, "why"),
            ({"reasoning_effort": "none", "enable_thinking": False}, None),
        ):
            message: Any = (
                client.chat.completions.create(model="x", messages=HELLO, extra_body=extra).choices[0].message
            )
            assert message.content == "so"
            assert getattr(message, "reasoning_content", None) == reasoning
        answer = client.chat.completions.create(
            model="x", messages=HELLO, max_tokens=1, extra_body={"enable_thinking": True}
        )
        assert answer.choices[0].message.content == "" and answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens_details.reasoning_tokens == 1


def test_the_form_of_an_answer_holds_behind_its_reasoning(client: openai.OpenAI) -> None:
    tokenizer = processor().tokenizer
    end = {str(tokenizer.token_to_id("</think>")): 3.0}  # a random model would think until its limit

    def ask(**options: Any) -> tuple[str, str]:
        extra = {"enable_thinking": True, **options.pop("extra_body", {})}
        answer = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=400, seed=4, logit_bias=end, extra_body=extra, **options
        )
        assert answer.choices[0].finish_reason == "stop"
        message: Any = answer.choices[0].message
        return getattr(message, "reasoning_content", ""), message.content

    schema: Any = {
        "type": "object",
        "properties": {"a": {"enum": ["x/y", "z"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    reasoning, content = ask(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
    assert reasoning and json.loads(content)["a"] in ("x/y", "z")
    reasoning, content = ask(extra_body={"regex": "[ab]/[0-9]"})
    assert reasoning and re.fullmatch("[ab]/[0-9]", content)
    with pytest.raises(openai.BadRequestError, match="grammar"):
        ask(extra_body={"grammar": 'start: "a"'})


def test_reasoning_that_a_model_begins_by_itself_is_counted() -> None:
    thought = "<think>so and so</think>"
    with scripted(lambda _: thought + "\n\nYes") as (url, _):
        for stream in (False, True):
            answer: Any = connect(url).chat.completions.create(
                model="x", messages=HELLO, stream=stream, stream_options={"include_usage": True}
            )
            last = list(answer)[-1] if stream else answer
            counted = last.usage.completion_tokens_details.reasoning_tokens
            assert counted == len(processor().tokenizer.encode(thought))


def test_tool_choice_none_hides_the_tools() -> None:
    with scripted(lambda prompt: '<tool_call>{"name": "f", "arguments": {}}</tool_call>') as (url, engine):
        client = connect(url)
        answer = client.chat.completions.create(model="x", messages=HELLO, tools=[WEATHER], tool_choice="none")
        assert answer.choices[0].message.tool_calls is None and "tool_call" in answer.choices[0].message.content
        assert "get_weather" not in engine.prompts[0]
        with pytest.raises(openai.BadRequestError, match="tool_choice"):
            other: Any = {"type": "function", "function": {"name": "other"}}
            client.chat.completions.create(model="x", messages=HELLO, tools=[WEATHER], tool_choice=other)


def test_media_of_all_kinds_reach_the_model(client: openai.OpenAI) -> None:
    def tokens(*parts: Any) -> tuple[int, str]:
        content = [{"type": "text", "text": "What is it?"}, *parts]
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}], max_tokens=4, temperature=0
        )
        return answer.usage.prompt_tokens, answer.choices[0].message.content

    bare, _ = tokens()
    one, dark = tokens({"type": "image_url", "image_url": {"url": picture(0), "detail": "auto"}})
    two, _ = tokens(*({"type": "image_url", "image_url": {"url": picture(value)}} for value in (0, 255)))
    _, light = tokens({"type": "image_url", "image_url": {"url": picture(255)}})
    assert bare < one < two
    signal = {"type": "time_series", "time_series": np.sin(np.arange(600)).tolist(), "sampling_rate": 100, "unit": "mV"}
    assert tokens(signal)[0] > bare
    frames = [picture(value) for value in (0, 80, 160, 240)]
    assert tokens({"type": "video", "video": frames, "fps": 2})[0] > bare
    assert isinstance(dark, str) and isinstance(light, str)


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="tiny", input="What is it?", max_output_tokens=6, temperature=0)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 6 and len(answer.output_text) > 0
    stream = client.responses.create(model="tiny", input="What is it?", max_output_tokens=6, temperature=0, stream=True)
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text == events[-1].response.output_text
    shaped = client.responses.create(
        model="tiny",
        input="Yes?",
        max_output_tokens=60,
        instructions="Be brief.",
        text={"format": {"type": "json_schema", "name": "x", "schema": {"enum": ["yes", "no"]}}},
    )
    assert json.loads(shaped.output_text) in ("yes", "no") and shaped.status == "completed"
    image: Any = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": picture(9)}],
        }
    ]
    with_image = client.responses.create(model="tiny", input=image, max_output_tokens=2)
    assert with_image.usage.input_tokens > answer.usage.input_tokens


def test_responses_call_tools_and_remember() -> None:
    def write(prompt: str) -> str:
        if "sunny" in prompt:
            return "It is sunny."
        return 'plan</think>\n\n<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'

    tool: Any = {"type": "function", **WEATHER["function"]}
    with scripted(write, enable_thinking=True) as (url, engine):
        client = connect(url)
        first = client.responses.create(model="x", input="Weather?", tools=[tool], instructions="Be kind.")
        reasoning, call = first.output
        assert reasoning.type == "reasoning" and reasoning.content[0].text == "plan"
        assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Oslo"}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        second = client.responses.create(model="x", input=[result], previous_response_id=first.id, tools=[tool])
        whole: Any = [{"role": "user", "content": "Weather?"}, *(item.model_dump() for item in first.output), result]
        third = client.responses.create(model="x", input=whole, tools=[tool])
        assert second.output_text == third.output_text == ""  # all of it is reasoning: no end tag came
        assert engine.prompts[1] == engine.prompts[2] and "Be kind" not in engine.prompts[1]
        assert client.responses.retrieve(first.id).id == first.id
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="x", input="again", previous_response_id=first.id)
        kinds: list[str] = []
        with client.responses.stream(model="x", input="Weather?", tools=[tool]) as stream:
            kinds += [event.type for event in stream]
            final = stream.get_final_response()
        assert [item.type for item in final.output] == ["reasoning", "function_call"]
        assert kinds[-1] == "response.completed" and "response.function_call_arguments.done" in kinds


def test_text_completions(client: openai.OpenAI) -> None:
    ids = processor().tokenizer.encode("What is")
    by_text = client.completions.create(model="tiny", prompt="What is", max_tokens=5, temperature=0)
    by_ids = client.completions.create(model="tiny", prompt=ids, max_tokens=5, temperature=0)
    several = client.completions.create(model="tiny", prompt=["What is", "The"], max_tokens=5, temperature=0, n=2)
    assert by_text.choices[0].text == by_ids.choices[0].text == several.choices[0].text == several.choices[1].text
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert by_text.usage.prompt_tokens == len(ids)
    streamed = client.completions.create(model="tiny", prompt="What is", max_tokens=5, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == by_text.choices[0].text


def test_echoed_logprobs_are_those_of_the_network(client: openai.OpenAI) -> None:
    import torch

    from s1pro.kernels.attention import PackedContext
    from s1pro.model.network import Network

    ids = processor().tokenizer.encode("The answer is 42, yes or no.")
    answer = client.completions.create(model="tiny", prompt=[ids], max_tokens=1, temperature=0, echo=True, logprobs=1)
    got = answer.choices[0].logprobs
    assert got.token_logprobs[0] is None and got.top_logprobs[0] is None and len(got.tokens) == len(ids) + 1
    network = Network(config(), seed=3).eval()
    with torch.inference_mode():
        context = PackedContext((0, len(ids)))
        logits = network(torch.tensor(ids), torch.arange(len(ids)), context).logits.log_softmax(-1)
    expected = [float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1)]
    assert got.token_logprobs[1:-1] == pytest.approx(expected, abs=2e-5)
    for place in range(1, len(ids) + 1):
        best = max(got.top_logprobs[place].values())
        assert got.token_logprobs[place] <= best == pytest.approx(float(logits[place - 1].max()), abs=2e-5)
    nothing = client.completions.create(model="tiny", prompt=[ids], max_tokens=0, echo=True, logprobs=1)
    assert nothing.choices[0].logprobs.token_logprobs == got.token_logprobs[:-1]
    assert nothing.choices[0].text == processor().tokenizer.decode(ids)


def test_errors_have_the_form_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)
    assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt=[5] * 5000)
    assert caught.value.code == "context_length_exceeded"
