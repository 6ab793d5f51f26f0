"""A renderer of pages that dies and hangs, for the tests of the parent; runs in the child."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from s1pro.corpus.engines.render import PagePicture
from s1pro.corpus.frames import Frame
from s1pro.corpus.tables import to_plain

NAME = "tests.corpus.engines.moody:pages"


def pages(data: bytes, settings: Mapping[str, Any], first_page: int) -> Iterator[Frame]:
    """Page 1 is fatal, page 3 never ends, page 5 comes under another number."""
    for plain in settings["pages"]:
        number = plain["page"]
        if number == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 3:
            time.sleep(1000)
        parts: list[bytes] = []
        row = PagePicture(page=number + (number == 5), width=6.0, height=8.0, mime="image/png", image=b"picture")
        yield Frame(header={"op": "picture", "row": to_plain(row, parts)}, parts=parts)
