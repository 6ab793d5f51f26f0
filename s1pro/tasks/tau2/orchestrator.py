"""A conversation of tau2: user and agent speak in turn, and what they ask of their tools is done in between.

1. The agent greets, or the history of the task is continued: after words the other side is next, after calls the tools,
   after their answers the side that had asked.
2. A turn with calls goes to the tools, whatever else it says; the other side hears only words.
3. It ends when the user says one of `STOP_WORDS` (user_stop); when a side says nothing at all (agent_error,
   user_error); after `max_steps` turns, all answers to the calls of a turn being one; or after `max_errors` failed
   calls. Only user_stop can earn a reward.

Without a user (`solo`) nobody greets, every turn is the agent's, and it ends by its tool `DONE` (agent_stop), which
earns a reward too, or by words without a call (agent_error).

Speakers are models by `ModelClient` (`ModelSpeaker`) or scripts of tests. Tools are described in the system message,
and calls are read from `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; so any endpoint that completes text
can take part, and our own chat template has the same form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from s1pro.base.client import ModelClient
from s1pro.base.records import Message, Sampling
from s1pro.tasks.tau2.records import Side, Tau2Task, ToolCall, Turn
from s1pro.tasks.tau2.world import Domain, World

GREETING = "Hi! How can I help you today?"
STOP_WORDS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
DONE = "done"
MAX_STEPS, MAX_ERRORS = 200, 10
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


class Speaker(Protocol):
    """One side of a conversation."""

    async def speak(self, turns: Sequence[Turn]) -> Turn:
        """The next turn of this side, seeing what it may see."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """How it went. `turns` hold the history too."""

    turns: tuple[Turn, ...]
    ending: str
    world: World


async def converse(
    domain: Domain,
    task: Tau2Task,
    agent: Speaker,
    user: Speaker | None,
    *,
    max_steps: int = MAX_STEPS,
    max_errors: int = MAX_ERRORS,
) -> Conversation:
    """Runs one conversation to its end. Without a user the agent is alone."""
    world = domain.world(task)
    turns = list(task.history)
    if user is not None and not turns:
        turns = [Turn(speaker="assistant", text=GREETING)]
    speakers: dict[Side, Speaker] = {"assistant": agent, "user": user or agent}
    pending = _open_calls(turns)
    errors = 0
    for _ in range(max_steps):
        if pending:
            answers = [world.answer(call) for call in pending]
            turns += answers
            pending = []
            errors += sum(answer.failed for answer in answers)
            if errors >= max_errors:
                return Conversation(turns=tuple(turns), ending="too_many_errors", world=world)
            continue
        side = "assistant" if user is None else _next(turns[-1])
        turn = await speakers[side].speak(turns)
        ending = _solo_ending(turn) if user is None else _ending(turn, side)
        if ending == "agent_stop":
            turn = Turn(speaker="assistant", text=STOP_WORDS[0])
        turns.append(turn)
        if ending:
            return Conversation(turns=tuple(turns), ending=ending, world=world)
        pending = list(turn.calls)
    return Conversation(turns=tuple(turns), ending="max_steps", world=world)


class ModelSpeaker:
    """A model as agent or user.

    Args:
        instructions: its system message; tools are added.

    Attributes:
        hears: whose tools' answers it sees.
        opening: what it reads where nobody has spoken yet.
    """

    opening = "(The conversation begins.)"

    def __init__(
        self,
        client: ModelClient,
        side: Side,
        instructions: str,
        tools: Mapping[str, Mapping[str, Any]],
        sampling: Sampling | None = None,
    ) -> None:
        self.client, self.side = client, side
        self.hears: frozenset[Side] = frozenset({side})
        self.sampling = sampling or Sampling(max_new_tokens=1024)
        self.system = Message(role="system", content=instructions + _tool_text(tools))

    async def speak(self, turns: Sequence[Turn]) -> Turn:
        completion = await self.client.chat(self.messages(turns), self.sampling)
        return read_turn(completion.text, self.side)

    def messages(self, turns: Sequence[Turn]) -> list[Message]:
        """The conversation as this side sees it: its own turns are the assistant's, the other's calls are not shown."""
        seen = [self.system]
        for turn in turns:
            if turn.speaker == self.side:
                seen.append(Message(role="assistant", content=write_turn(turn)))
            elif turn.speaker != "tool" and turn.text and not turn.calls:
                seen.append(Message(role="user", content=turn.text))
            elif turn.speaker == "tool" and turn.side in self.hears:
                seen.append(Message(role="user", content=f"<tool_response>\n{turn.text}\n</tool_response>"))
        if seen[-1].role != "user":
            seen.append(Message(role="user", content=self.opening))
        return seen


def agent_instructions(policy: str) -> str:
    return (
        "You serve customers and follow the policy below. Either call a tool or speak to the customer, never both in "
        f"one turn.\n\n<policy>\n{policy.strip()}\n</policy>"
    )


def user_instructions(task: Tau2Task) -> str:
    persona = f"\n\nWho you are: {task.persona}" if task.persona else ""
    return (
        "You play a customer who talks to an assistant. Say one thing at a time, in your own words, and reveal no more "
        f"than is asked. When everything that you want is done, say {STOP_WORDS[0]}; when you are handed over to a "
        f"human, say {STOP_WORDS[1]}; when the scenario does not say how to go on, say {STOP_WORDS[2]}."
        f"{persona}\n\nWhat you want: {task.instructions}"
    )


def read_turn(response: str, side: Side) -> Turn:
    """Words and calls of a response; reasoning is dropped. A call that cannot be read stays one, without arguments."""
    text = response.rpartition("</think>")[2]
    calls = tuple(_call(found, side) for found in _CALL.findall(text))
    return Turn(speaker=side, text=_CALL.sub("", text).strip(), calls=calls)


def write_turn(turn: Turn) -> str:
    """The inverse of `read_turn`."""
    calls = [
        f"<tool_call>\n{json.dumps({'name': c.name, 'arguments': c.arguments}, ensure_ascii=False)}\n</tool_call>"
        for c in turn.calls
    ]
    return "\n".join(filter(None, [turn.text, *calls]))


def _call(text: str, side: Side) -> ToolCall:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return ToolCall(name="", arguments=None, side=side)
    arguments = found.get("arguments", {})
    return ToolCall(name=found["name"], arguments=arguments if isinstance(arguments, dict) else None, side=side)


def _next(last: Turn) -> Side:
    if last.speaker == "tool":
        return last.side
    return "user" if last.speaker == "assistant" else "assistant"


def _open_calls(turns: Sequence[Turn]) -> list[ToolCall]:
    """Calls at the end of a history that its author did not answer."""
    return list(turns[-1].calls) if turns else []


def _ending(turn: Turn, side: Side) -> str:
    if not turn.text and not turn.calls:
        return "agent_error" if side == "assistant" else "user_error"
    stopped = side == "user" and not turn.calls and any(word in turn.text for word in STOP_WORDS)
    return "user_stop" if stopped else ""


def _solo_ending(turn: Turn) -> str:
    if any(call.name == DONE for call in turn.calls):
        return "agent_stop"
    return "" if turn.calls else "agent_error"


def _tool_text(tools: Mapping[str, Mapping[str, Any]]) -> str:
    if not tools:
        return ""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools.values())
    return (
        f"\n\nTools:\n{lines}\n\nTo call one, answer with nothing but "
        '<tool_call>{"name": "...", "arguments": {...}}</tool_call>.'
    )
