"""An OpenAI-compatible server for tests, on a loopback port, whose every answer is decided by the test.

`with FakeEndpoint(behave) as server:` runs it in a thread. `behave(number, path, body)` is called for every request
(numbers count from 0 in order of arrival) and returns a `Reply`, or a plain string for a good chat answer. Requests are
kept in `server.requests`, and `server.most_at_once` is the largest number that was under way together.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`delay_s` before the answer; `mode` "hang" never answers, "close" hangs up, "drip" sends a byte now and then."""

    status: int = 200
    body: bytes | str | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    mode: str = "answer"


Behave = Callable[[int, str, dict[str, Any]], Reply | str]


def chat_answer(
    text: str | None, *, finish_reason: str = "stop", prompt: int = 10, tokens: int = 5, **message: Any
) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return Reply(body={"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


def tool_call(name: str, **arguments: Any) -> str:
    """A call as Qwen models write it in an answer."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


class FakeEndpoint:
    def __init__(self, behave: Behave, *, port: int = 0) -> None:
        self.behave, self.port = behave, port
        self.requests: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> FakeEndpoint:
        self._thread.start()
        assert self._ready.wait(100)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._tasks.add(task)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or "{}")
        number = len(self.requests)
        self.requests.append((first.split()[1], headers, body))
        reply = self.behave(number, first.split()[1], body)
        reply = chat_answer(reply) if isinstance(reply, str) else reply
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(reply, writer)
        finally:
            self._at_once -= 1

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(reply.delay_s)
        if reply.mode == "close":
            return False
        if reply.mode == "hang":
            await self._stop.wait()
            return False
        data = json.dumps(reply.body) if isinstance(reply.body, Mapping) else reply.body
        data = data.encode() if isinstance(data, str) else data
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        start = (
            f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
        )
        writer.write(start.encode())
        for index in range(len(data) if reply.mode == "drip" else 0):
            writer.write(data[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"" if reply.mode == "drip" else data)
        await writer.drain()
        return True
