"""A machine on which a server can be started again: the test's command asks it to, as a process manager would be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.fake_endpoint import FakeEndpoint, Reply
from tests.rl.engine_servers import RecordingServer

_COMMAND = """
import json, sys, urllib.request
url, folder, version = sys.argv[1:]
print("starting version", version)
body = json.dumps({"folder": folder}).encode()
urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=60).read()
"""


@contextmanager
def restartable(
    server: RecordingServer, chosen: Callable[[str], str] = lambda folder: folder, *, named: bool = True
) -> Iterator[tuple[str, ...]]:
    """Gives the command that starts `server` again.

    Args:
        chosen: which folder is loaded when one is asked for.
        named: the server calls its model by the folder, as without `--model-name`.
    """

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        folder = chosen(body["folder"])
        server.load(folder)
        server.model = folder if named else "tiny"
        server.starting = 2
        return Reply(body={})

    with FakeEndpoint(behave) as machine:
        yield (sys.executable, "-c", _COMMAND, machine.url, "{folder}", "{version}")
