"""A real browser for the tests of the page: Chromium of the system, driven by Playwright.

A `Visit` notes what the page should never do: errors and refusals of its policy on the console, requests to other
hosts, dialogs. `Visit.check` at its end says so.
"""

from __future__ import annotations

import json
import shutil
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHAT = "/v1/chat/completions"
LAST = ".message.assistant:last-child"
PATIENCE_MS = 100_000  # a loaded machine draws slowly; what never happens is an error all the same

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("Chromium is missing: `make test-slow` as root installs it, or: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A page that is open, and what was seen of it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append("dialog"), dialog.dismiss()))
        self.page.on("request", self._request)

    def _request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and f"http://{parts.netloc}" != self.url:
            self.foreign.append(request.url)
        if parts.path == CHAT:
            self.asked.append(json.loads(request.post_data))

    def ask(self, text: str) -> None:
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    def answered(self) -> str:
        """Waits for the end of the last answer; gives its text."""
        self.page.wait_for_selector(f"{LAST}:not(.waiting)")
        return self.page.inner_text(f"{LAST} .answer")

    def choose(self, name: str, data: bytes, kind: str = "") -> None:
        """A file through the button."""
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})

    def drop(self, name: str, data: bytes, kind: str) -> None:
        """A file dropped on the page."""
        transfer = self.page.evaluate_handle(
            """([name, bytes, type]) => {
                 const transfer = new DataTransfer();
                 transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
                 return transfer;
               }""",
            [name, list(data), kind],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("body", event, {"dataTransfer": transfer})

    def check(self) -> None:
        assert self.errors == [] and self.foreign == []


@contextmanager
def visit(chromium: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A fresh tab on the page of a server."""
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    try:
        seen = Visit(context.new_page(), url)
        seen.page.goto(url)
        yield seen
    finally:
        context.close()


def png(colour: str = "teal", side: int = 64) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, "PNG")
    return stream.getvalue()


def csv() -> bytes:
    rows = "\n".join(f"{i / 100},{np.sin(i / 9):.5f}" for i in range(1000))
    return f"time,height\n{rows}\n".encode()


def wav() -> bytes:
    stream = BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<400h", *(int(9000 * np.sin(i / 5)) for i in range(400))))
    return stream.getvalue()
