"""Tasks with tools in an evaluation: over HTTP against a server that answers by script, and in process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointSettings
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Message, Sampling, StructuredOutput
from s1pro.eval import runner
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.serve.client import LocalClient
from s1pro.tasks.agents.conversions import ConvertUnits
from s1pro.tasks.agents.settings import AgentConfig
from tests.fake_endpoint import FakeEndpoint, Reply, chat_answer


def call(expression: str, name: str = "calculator", number: int = 1) -> dict[str, Any]:
    arguments = json.dumps({"expression": expression})
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_an_endpoint_uses_the_tools_of_a_task(tmp_path: Path) -> None:
    """The server asks the calculator and repeats what it says; the answer file has the last turn and all tokens."""
    task = ConvertUnits(num_items=6)
    bodies: list[dict[str, Any]] = []

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        bodies.append(body)
        last = body["messages"][-1]
        if last["role"] == "tool":
            return chat_answer(f"It is {last['content']}")
        item = next(i for i in task.items() if f" {i.asked['number']} {i.asked['unit']}" in last["content"])
        asked = f"{item.asked['number']} {item.asked['unit']} to {item.asked['to']}"
        return chat_answer(None, finish_reason="tool_calls", tool_calls=[call(asked)])

    with FakeEndpoint(behave) as server:
        client = HttpClient(EndpointSettings(base_url=server.url, model="m"))
        (result,) = runner.run([task], client, tmp_path)
    assert result.task_score().model.value == 1.0
    assert len(bodies) == 12 and all(body["tools"] == list(task.prompt(task.items()[0]).tools) for body in bodies)
    later = next(body for body in bodies if body["messages"][-1]["role"] == "tool")
    assert [turn["role"] for turn in later["messages"]] == ["system", "user", "assistant", "tool"]
    assert later["messages"][-1]["tool_call_id"] == later["messages"][-2]["tool_calls"][0]["id"] == "call_1"
    lines = [json.loads(line) for line in (tmp_path / "answers" / "convert_units.jsonl").read_text().splitlines()]
    assert all(line["response"].startswith("It is ") and line["num_tokens"] == 10 for line in lines)


def test_calls_without_end_are_silence(tmp_path: Path) -> None:
    task = ConvertUnits(num_items=1)

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        broken = {"id": "x", "function": {"name": "calculator", "arguments": "{oops"}}
        return chat_answer("thinking of it", finish_reason="tool_calls", tool_calls=[call("1 m"), broken])

    with FakeEndpoint(behave) as server:
        client = HttpClient(EndpointSettings(base_url=server.url, model="m"))
        runner.run([task], client, tmp_path)
        asked = [body for _, _, body in server.requests]
    assert len(asked) == AgentConfig().max_turns
    said = [turn["content"] for turn in asked[-1]["messages"] if turn["role"] == "tool"]
    assert said[:2] == ["1 m", "Error: the arguments are no JSON object"]
    (line,) = (tmp_path / "answers" / "convert_units.jsonl").read_text().splitlines()
    answer = json.loads(line)
    assert (answer["response"], answer["score"], answer["valid"], answer["status"]) == ("", 0.0, False, "answered")


def test_a_client_without_tools_fails_the_items_in_words(tmp_path: Path) -> None:
    class Plain:
        async def chat(self, messages: Any, sampling: Any) -> Any:
            raise AssertionError("never asked")

    runner.run([ConvertUnits(num_items=1)], Plain(), tmp_path)  # type: ignore[arg-type]
    answer = json.loads((tmp_path / "answers" / "convert_units.jsonl").read_text())
    assert answer["status"] == "failed" and "takes none" in answer["error"]


@pytest.fixture(scope="module")
def client() -> LocalClient:
    processor = Processor(train_tokenizer(["how many km are 3 mi, in the calculator?"] * 4, vocab_size=300))
    return LocalClient.from_network(Network(presets.tiny(vocab_size=340), seed=1).eval(), processor)


def test_the_engine_in_process_speaks_as_the_server(client: LocalClient) -> None:
    """Tools stand in the prompt as the template writes them, and a call is taken out of the text."""
    messages = [Message(role="user", content="1 mi in km?")]
    tools = ConvertUnits(num_items=1).prompt(ConvertUnits(num_items=1).items()[0]).tools
    form = StructuredOutput(
        kind="regex",
        value=r"I ask\. <tool_call>\n"
        r"\{\"name\": \"calculator\", \"arguments\": \{\"expression\": \"[0-9] mi\"\}\}\n</tool_call>",
    )
    sampling = Sampling(max_new_tokens=120, structured=form)
    found = asyncio.run(client.chat_with_tools(messages, tools, sampling))
    expected = client.processor.encode(
        messages, tools=tools, add_generation_prompt=True, enable_thinking=False, allow_control_tokens=False
    )
    assert list(found.prompt_token_ids) == expected.token_ids
    assert found.text == "I ask." and found.reasoning_content is None
    (request,) = found.tool_calls
    assert request.name == "calculator" and json.loads(request.arguments)["expression"].endswith(" mi")
    plain = asyncio.run(client.chat(messages, Sampling(max_new_tokens=4)))
    same = asyncio.run(client.chat_with_tools(messages, (), Sampling(max_new_tokens=4)))
    assert same.token_ids == plain.token_ids and same.tool_calls == ()
