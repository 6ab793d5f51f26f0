"""A Hub for tests on a loopback port: one data set, files behind a redirect to a second port, every request kept."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class FakeHub:
    """`with FakeHub(files) as hub:` serves at `hub.url`; large files are redirected to another address.

    Attributes:
        requests: (server, path, headers); the server is "hub" or "store".
        breaks: how many answers of the store end after half of what they announced.
        busy: how many answers of the hub are "later".
        lie: files whose bytes are not those of their digest.
    """

    def __init__(
        self, files: Mapping[str, bytes], *, licence: Any = "apache-2.0", large: bool = True, token: str | None = None
    ) -> None:
        self.files, self.licence, self.large, self.token = dict(files), licence, large, token
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.breaks = self.busy = 0
        self.lie: set[str] = set()
        self._servers = [_server(self, side) for side in ("hub", "store")]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def store(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def asked(self, server: str) -> list[str]:
        return [path for name, path, _ in self.requests if name == server]

    def __enter__(self) -> FakeHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def listing(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            if self.large:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
            siblings.append(entry)
        return {"sha": COMMIT, "cardData": {"license": self.licence}, "gated": bool(self.token), "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    side: str

    def do_GET(self) -> None:
        self.fake.requests.append((self.side, self.path, dict(self.headers)))
        if self.side == "hub":
            self.hub()
        else:
            self.file(self.path.lstrip("/"))

    def hub(self) -> None:
        hub = self.fake
        if hub.busy:
            hub.busy -= 1
            return self.give(503)
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.give(401)
        if self.path.startswith("/api/datasets/some/where/revision/main"):
            return self.give(200, json.dumps(hub.listing()).encode())
        name = self.path.removeprefix(f"/datasets/some/where/resolve/{COMMIT}/")
        if name == self.path or name not in hub.files:
            return self.give(404)
        if hub.large:
            return self.give(302, location=f"{hub.store}/{name}")
        return self.file(name)

    def file(self, name: str) -> None:
        hub = self.fake
        data = hub.files[name]
        start = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0])[0])
        body = data[start:] if name not in hub.lie else b"x" * (len(data) - start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        broken = hub.breaks > 0
        hub.breaks -= broken
        self.wfile.write(body[: len(body) // 2] if broken else body)

    def give(self, status: int, body: bytes = b"", location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def _server(hub: FakeHub, side: str) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": hub, "side": side}))
