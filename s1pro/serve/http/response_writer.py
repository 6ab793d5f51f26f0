"""Items of a response and the events that tell of them, from pieces of the answer as they come.

    reasoning, message   added ─> deltas ─> done      one item while pieces of one kind follow each other
    function_call        added, delta, done at once   a call is known when it is whole

The streamed and the whole answer are written here alike: the whole one is what `output` holds at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from s1pro.serve.answer_text import Piece, Reasoning, ToolCall


class Writer:
    """See the module docstring. At most one item is open at a time.

    Attributes:
        output: the items so far.
        logprobs: of the message that is closed next.
    """

    def __init__(self) -> None:
        self.output: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._text = ""

    def push(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for piece in pieces:
            if isinstance(piece, ToolCall):
                events += [*self.close("completed"), *self._call(piece)]
                continue
            kind = "reasoning" if isinstance(piece, Reasoning) else "message"
            if self._open is None or self._open["type"] != kind:
                events += [*self.close("completed"), *self._begin(kind)]
            self._text += piece.text
            name = "reasoning_text" if kind == "reasoning" else "output_text"
            events.append(self._event(f"response.{name}.delta", content_index=0, delta=piece.text))
            if kind == "message":
                events[-1]["logprobs"] = []
        return events

    def close(self, status: str) -> list[dict[str, Any]]:
        """Ends the open item."""
        if self._open is None:
            return []
        item, text = self._open, self._text
        item["status"] = status
        if item["type"] == "reasoning":
            item["content"] = [{"type": "reasoning_text", "text": text}]
            events = [self._event("response.reasoning_text.done", content_index=0, text=text)]
        else:
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs}
            item["content"] = [part]
            events = [
                self._event("response.output_text.done", content_index=0, text=text, logprobs=self.logprobs),
                self._event("response.content_part.done", content_index=0, part=part),
            ]
        events.append(self._event("response.output_item.done", item=item))
        self._open, self._text = None, ""
        return events

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        name = f"{'rs' if kind == 'reasoning' else 'msg'}_{uuid.uuid4().hex}"
        self._open = {"type": kind, "id": name, "status": "in_progress", "content": []}
        if kind == "reasoning":
            self._open["summary"] = []
        else:
            self._open["role"] = "assistant"
        self.output.append(self._open)
        events = [self._event("response.output_item.added", item=dict(self._open))]
        if kind == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            events.append(self._event("response.content_part.added", content_index=0, part=part))
        return events

    def _call(self, call: ToolCall) -> list[dict[str, Any]]:
        item = {
            "type": "function_call",
            "id": f"fc_{uuid.uuid4().hex}",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        self.output.append(item)
        return [
            self._event("response.output_item.added", item={**item, "arguments": "", "status": "in_progress"}),
            self._event("response.function_call_arguments.delta", delta=call.arguments),
            self._event("response.function_call_arguments.done", arguments=call.arguments, name=call.name),
            self._event("response.output_item.done", item=item),
        ]

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        record: dict[str, Any] = {"type": kind, "output_index": len(self.output) - 1, **fields}
        if "item" not in fields:
            record["item_id"] = self.output[-1]["id"]
        return record
