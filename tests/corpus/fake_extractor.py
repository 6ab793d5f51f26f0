"""An extractor whose documents say what it shall do: `%PDF-` and a JSON list with one word per page."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from PIL import Image  # here and not at the first page, so that a page costs a millisecond

from s1pro.corpus.frames import Frame
from s1pro.corpus.records import ElementRow, Mention, PageRow, document_id, element_id
from s1pro.corpus.tables import to_plain

NAME = "tests.corpus.fake_extractor:extract"


def document(*pages: str, salt: str = "") -> bytes:
    return b"%PDF-1.7\n" + json.dumps([pages, salt]).encode()


def extract(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    if data[9:] == b"locked":
        yield Frame(header={"op": "refused", "status": "encrypted", "error": "needs a password"})
        return
    if data[9:] == b"die":
        os.kill(os.getpid(), signal.SIGSEGV)
    pages, _ = json.loads(data[9:])
    facts = {"num_pages": len(pages), "tagged": False, "producer": "fake", "extractor": "fake/1"}
    yield Frame(header={"op": "facts", **facts})
    doc_id = document_id(data)
    for page in range(first_page, min(len(pages), int(settings.get("max_pages", 10**9)))):
        _act(pages[page], settings)
        pictures: list[bytes] = []
        elements = [to_plain(row, pictures) for row in _elements(doc_id, page)]
        row = PageRow(doc_id=doc_id, page=page, width=612.0, height=792.0, num_chars=100)
        yield Frame(header={"op": "page", "page": to_plain(row), "elements": elements}, parts=pictures)


def liar(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Sends a page that is none."""
    yield Frame(header={"op": "page", "page": {"doc_id": "d", "mood": "good"}, "elements": []})


def flood(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Talks for ever, and every frame of it is in order."""
    while True:
        yield Frame(header={"op": "facts", "num_pages": 2, "tagged": False, "producer": "", "extractor": "fake/1"})


def _act(word: str, settings: Mapping[str, Any]) -> None:
    if word in _DEEDS:
        _DEEDS[word]()
    elif word == "connect":
        socket.create_connection(("127.0.0.1", settings["port"]), timeout=5).close()


def _spin() -> None:
    while True:
        pass


def _eat() -> None:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def _hold() -> None:
    """Takes a gigabyte, which the kernel must take back later, and stays."""
    held = bytearray(1 << 30)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    time.sleep(1000)


def _raise() -> None:
    raise ValueError("a page that cannot be read")


def _garble() -> None:
    """Writes something that is no frame to the pipe of the parent."""
    os.write(int(max(os.listdir("/proc/self/fd"), key=int)) - 1, b"\xff" * 64)
    os._exit(0)


def _mute() -> None:
    """Closes the pipe to the parent and lives on."""
    os.close(int(max(os.listdir("/proc/self/fd"), key=int)) - 1)
    time.sleep(1000)


def _write() -> None:
    with open("left-behind", "wb") as file:
        file.write(b"x")


_DEEDS: Mapping[str, Callable[[], Any]] = {
    "crash": lambda: os.kill(os.getpid(), signal.SIGABRT),
    "hang": lambda: time.sleep(1000),
    "hold": _hold,
    "spin": _spin,
    "oom": _eat,
    "raise": _raise,
    "exit": lambda: sys.exit(3),
    "garble": _garble,
    "write": _write,
    "mute": _mute,
    "slow": lambda: time.sleep(0.02),
    "pause": lambda: time.sleep(2),
}


def _elements(doc_id: str, page: int) -> list[ElementRow]:
    seed = hashlib.sha256(f"{doc_id} {page}".encode()).digest()
    file = io.BytesIO()
    Image.frombytes("RGB", (4, 2), seed[:24]).resize((64, 32)).save(file, format="PNG")
    image = file.getvalue()
    box = (72.0, 72.0, 300.0, 200.0)
    return [
        ElementRow(
            element_id=element_id(doc_id, page, "figure", box, "fake/1"),
            doc_id=doc_id,
            page=page,
            type="figure",
            box=box,
            page_width=612.0,
            page_height=792.0,
            label=f"Figure {page + 1}",
            caption="Temperature of the sample over time.",
            caption_box=(72.0, 205.0, 300.0, 220.0),
            caption_page=page,
            mentions=(Mention(page=page, text=f"Figure {page + 1} shows it."),),
            text_layer="time (s) temperature (K) 300 310",
            description="A plot. Its horizontal axis is labelled time (s).",
            confidence=0.9,
            crop_dpi=72,
            width=64,
            height=32,
            mime="image/png",
            image=image,
            image_id=hashlib.sha256(image).hexdigest(),
            phash=hashlib.sha256(seed).hexdigest(),
            dhash=hashlib.sha256(seed + b"d").hexdigest(),
            ink_ratio=0.3,
            entropy=2.0,
        )
    ]
