"""Fetching from servers on the loopback, which stand for everything that must not be reached."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.serve.http.remote import RemoteMedia, host_allowed, is_public
from s1pro.serve.http.settings import MediaAccess


class Handler(BaseHTTPRequestHandler):
    """Answers by path; remembers the names under which it was asked."""

    hosts: list[str]
    over: threading.Event

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self._answer(302, b"", {"Location": rest if "://" in rest else f"/{rest}"})
        elif kind == "gzip":
            self._answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(b"x" * 1000)
                    time.sleep(0.001)
            except OSError:
                pass
        elif kind == "silent":
            self.over.wait()
        elif kind == "missing":
            self._answer(404, b"no", {})
        else:
            self._answer(200, b"data", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[ThreadingHTTPServer]:
    Handler.hosts, Handler.over = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    Handler.over.set()
    server.shutdown()


def fetch(url: str, *, max_bytes: int = 1000, **access: Any) -> bytes:
    settings = {"domains": ("*",), "private_addresses": True, "fetch_seconds": 100.0, **access}
    return asyncio.run(RemoteMedia(MediaAccess(**settings)).fetch(url, max_bytes))


def test_it_fetches_and_follows_redirects_under_the_name_of_the_host(other: ThreadingHTTPServer) -> None:
    port = other.server_port
    Handler.hosts.clear()
    assert fetch(f"http://localhost:{port}/data") == b"data"
    assert fetch(f"http://localhost:{port}/to/to/data#part") == b"data"
    assert set(Handler.hosts) == {f"localhost:{port}"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "017700000001",
    ],
)
def test_private_addresses_are_refused_in_every_spelling(other: ThreadingHTTPServer, host: str) -> None:
    Handler.hosts.clear()
    with pytest.raises(InputError, match=r"private address|cannot be fetched"):
        fetch(f"http://{host}:{other.server_port}/data", private_addresses=False)
    assert not Handler.hosts  # nothing was asked


def test_a_public_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(addresses: list[str]) -> Any:
        async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        return getaddrinfo

    for addresses in (["10.0.0.5"], ["93.184.216.34", "169.254.169.254"]):
        monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve(addresses))
        with pytest.raises(InputError, match="private address"):
            fetch("http://images.example.org/a.png", private_addresses=False)


def test_a_redirect_is_checked_like_the_first_address(other: ThreadingHTTPServer) -> None:
    port = other.server_port
    with pytest.raises(InputError, match="allow-list"):
        fetch(f"http://localhost:{port}/to/http://127.0.0.1:{port}/data", domains=("localhost",))
    with pytest.raises(InputError, match="only http and https"):
        fetch(f"http://localhost:{port}/to/file:///etc/passwd")
    with pytest.raises(InputError, match="more than 3 redirects"):
        fetch(f"http://localhost:{port}/to/to/to/to/to/data")


@pytest.mark.parametrize(
    ("path", "message", "seconds"),
    [
        ("gzip", "compressed", 100.0),
        ("endless", "larger than the limit", 100.0),
        ("silent", "no answer within 1 seconds", 1.0),
        ("missing", "answered 404", 100.0),
    ],
)
def test_what_the_other_side_may_not_do(other: ThreadingHTTPServer, path: str, message: str, seconds: float) -> None:
    with pytest.raises(InputError, match=message):
        fetch(f"http://localhost:{other.server_port}/{path}", fetch_seconds=seconds)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://localhost/a", "only http"),
        ("http:///a", "only http|cannot be fetched"),
        ("http://user:secret@localhost/a", "user name"),
        ("http://localhost:99999/a", "no port"),
        ("http://\x00/", "cannot be fetched"),
        ("http://localhost:1/closed", "cannot be fetched"),
    ],
)
def test_urls_that_are_not_fetched(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fetch(url)


def test_the_allow_list() -> None:
    assert not host_allowed("example.org", ())
    assert host_allowed("Example.org.", ("example.org",))
    assert host_allowed("a.b.example.org", ("*.example.org",))
    assert not host_allowed("example.org", ("*.example.org",))
    assert not host_allowed("evilexample.org", ("*.example.org", "example.org"))
    assert not host_allowed("example.org.evil.net", ("example.org", "*.example.org"))
    with pytest.raises(InputError, match="allow-list"):
        fetch("http://example.org/", domains=())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("fec0::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public
