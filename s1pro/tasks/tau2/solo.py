"""Solo mode of tau2: the agent alone. It reads a ticket, has the tools of both sides, and says when it is done.

A turn is a call; words without one end the conversation (agent_error), the tool `done` ends it well (agent_stop), and
whatever is called beside it is not done. Calls of the customer's tools count as the customer's (`ToolCall.side`), so
that a reward that names who should act is the same as with a customer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sampling
from s1pro.tasks.tau2.orchestrator import DONE, ModelSpeaker, read_turn
from s1pro.tasks.tau2.records import Tau2Task, Turn
from s1pro.tasks.tau2.world import Tools, tool


class SoloSpeaker(ModelSpeaker):
    """A model with the tools of both sides."""

    opening = "(Begin.)"

    def __init__(self, client: ModelClient, instructions: str, tools: Tools, sampling: Sampling | None = None) -> None:
        both = {**tools["assistant"], **tools["user"], DONE: tool(DONE, "Say that the ticket is solved.", ())}
        super().__init__(client, "assistant", instructions, both, sampling)
        self.hears = frozenset({"assistant", "user"})
        self.of_user = frozenset(tools["user"])

    async def speak(self, turns: Sequence[Turn]) -> Turn:
        completion = await self.client.chat(self.messages(turns), self.sampling)
        return owned(read_turn(completion.text, "assistant"), self.of_user)

    def messages(self, turns: Sequence[Turn]) -> list[Message]:
        """All that was done, after an opening that stays."""
        system, *seen = super().messages(turns)
        return [system, *([] if seen[0].role == "user" else [Message(role="user", content=self.opening)]), *seen]


def owned(turn: Turn, of_user: frozenset[str] | Mapping[str, Any]) -> Turn:
    """A turn whose calls belong to the side that has the tool."""
    calls = tuple(dataclasses.replace(call, side="user") if call.name in of_user else call for call in turn.calls)
    return dataclasses.replace(turn, calls=calls)


def solo_instructions(policy: str, task: Tau2Task) -> str:
    return (
        "You solve tickets of customers and follow the policy below. You cannot talk to the customer: every turn is a "
        "call of a tool, and some of them act on the customer's own things. When the ticket is solved, or handed over "
        f"to a human, call {DONE} and nothing else.\n\n<policy>\n{policy.strip()}\n</policy>\n\n"
        f"<ticket>\n{task.ticket.strip()}\n</ticket>"
    )


def playable(tasks: Sequence[Tau2Task]) -> list[Tau2Task]:
    """Those with a ticket whose history has no words.

    Raises:
        InputError: there are none.
    """
    found = [task for task in tasks if task.ticket and not any(turn.text for turn in _words(task))]
    if not found:
        raise InputError("no task has a ticket that could be solved alone")
    return found


def _words(task: Tau2Task) -> list[Turn]:
    return [turn for turn in task.history if turn.speaker != "tool" and not turn.calls]
