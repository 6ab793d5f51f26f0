"""A question with tools, asked over chats: what `rl.agent` does with tokens, for any endpoint.

The other side keeps no state, so every turn sends the whole conversation again, and the other side renders it. Limits
and endings are those of `AgentConfig`; what ends by a limit is silence.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from s1pro.base.client import TakesTools
from s1pro.base.records import Completion, Message, Sampling, ToolRequest, Usage
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.toolbox import ERROR, Toolbox


async def answer_with_tools(
    client: TakesTools, messages: Sequence[Message], toolbox: Toolbox, sampling: Sampling, config: AgentConfig
) -> Completion:
    """The last completion, with the tokens of all turns in `usage`."""
    said = list(messages)
    spent, prompt_tokens, tokens = 0.0, 0, 0
    for turn in range(config.max_turns):
        completion = await client.chat_with_tools(said, toolbox.described, sampling)
        some = completion.usage
        prompt_tokens += len(completion.prompt_token_ids) if some is None else some.num_prompt_tokens
        tokens += len(completion.token_ids) if some is None else some.num_tokens
        usage = Usage(num_prompt_tokens=prompt_tokens, num_tokens=tokens)
        completion = dataclasses.replace(completion, usage=usage)
        if not completion.tool_calls:
            return completion
        if turn == config.max_turns - 1 or completion.finish_reason == "length" or spent > config.seconds:
            break
        began = time.monotonic()
        said += [_spoken(completion), *[await _result(toolbox, call, n, config) for n, call in _numbered(completion)]]
        spent += time.monotonic() - began
    return dataclasses.replace(completion, text="", reasoning_content=None, tool_calls=())


def _numbered(completion: Completion) -> list[tuple[int, ToolRequest]]:
    return list(enumerate(completion.tool_calls))


def _spoken(completion: Completion) -> Message:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in completion.tool_calls
    ]
    thought = completion.reasoning_content
    return Message(role="assistant", content=completion.text, reasoning_content=thought, tool_calls=calls)


async def _result(toolbox: Toolbox, call: ToolRequest, number: int, config: AgentConfig) -> Message:
    if number >= config.max_calls:
        text = f"{ERROR}at most {config.max_calls} calls in one turn"
    else:
        text = await toolbox.answer(call.name, call.arguments)
    return Message(role="tool", content=text, tool_call_id=call.id)
