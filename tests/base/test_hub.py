"""Files from a Hub: whole or not there, resumed, and only what was announced."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.base.hub import Hub, HubFile, fitting
from tests.fake_hub import COMMIT, FakeHub

DATA = os.urandom(3_000_000)


def quick(hub: FakeHub, token: str | None = None) -> Hub:
    return Hub(hub.url, token=token, timeout_s=10, sleep=lambda seconds: None)


@pytest.mark.parametrize("large", [True, False])
def test_a_file_comes_whole_and_once(tmp_path: Path, large: bool) -> None:
    with FakeHub({"data/a b.bin": DATA}, large=large) as hub:
        listing = quick(hub).look("some/where")
        [file] = listing.files
        assert (listing.commit, listing.licence, file.size, file.is_large) == (COMMIT, "apache-2.0", len(DATA), large)
        if large:
            hub.files["data/a%20b.bin"] = DATA  # as it is asked for
        else:
            hub.files["data/a%20b.bin"] = hub.files.pop("data/a b.bin")
        told: list[int] = []
        assert quick(hub).fetch(listing, file, tmp_path / "x" / "a.bin", told.append) is True
        assert (tmp_path / "x" / "a.bin").read_bytes() == DATA and told[-1] == len(DATA) and told == sorted(told)
        number = len(hub.requests)
        assert quick(hub).fetch(listing, file, tmp_path / "x" / "a.bin") is False
        assert len(hub.requests) == number
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.bin"]


def test_what_broke_off_goes_on(tmp_path: Path) -> None:
    with FakeHub({"a.bin": DATA}) as hub:
        listing = quick(hub).look("some/where")
        [file] = listing.files
        hub.breaks, hub.busy = 2, 1
        quick(hub).fetch(listing, file, tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == DATA
        ranges = [headers.get("Range") for server, _, headers in hub.requests if server == "store"]
        assert ranges == [None, "bytes=1500000-", "bytes=2250000-"]
        hub.breaks = 1
        impatient = Hub(hub.url, attempts=1, timeout_s=10)
        with pytest.raises(InputError, match=r"cannot be reached .* what came is kept"):
            impatient.fetch(listing, file, tmp_path / "b.bin")
        assert not (tmp_path / "b.bin").exists()
        impatient.fetch(listing, file, tmp_path / "b.bin")  # a later run
        assert (tmp_path / "b.bin").read_bytes() == DATA and hub.requests[-1][2]["Range"] == "bytes=1500000-"


def test_wrong_bytes_are_not_kept(tmp_path: Path) -> None:
    with FakeHub({"a.bin": DATA}) as hub:
        listing = quick(hub).look("some/where")
        [file] = listing.files
        hub.lie.add("a.bin")
        with pytest.raises(InputError, match="not those of the digest"):
            quick(hub).fetch(listing, file, tmp_path / "a.bin")
        with pytest.raises(InputError, match="more than the 10 bytes it announced"):
            quick(hub).fetch(listing, replace(file, size=10), tmp_path / "a.bin")
        assert not (tmp_path / "a.bin").exists()
        hub.lie.clear()
        (tmp_path / "a.bin").write_bytes(b"y" * len(DATA))  # of the same size, but something else
        assert quick(hub).fetch(listing, file, tmp_path / "a.bin") is True
        assert (tmp_path / "a.bin").read_bytes() == DATA


def test_the_token_stays_with_the_hub(tmp_path: Path) -> None:
    with FakeHub({"a.bin": DATA}, token="secret") as hub:
        with pytest.raises(InputError, match=r"some/where: no access \(status 401\)"):
            quick(hub).look("some/where")
        listing = quick(hub, "secret").look("some/where")
        quick(hub, "secret").fetch(listing, listing.files[0], tmp_path / "a.bin")
        sent = {server: headers.get("Authorization") for server, _, headers in hub.requests}
    assert sent == {"hub": "Bearer secret", "store": None}


def test_what_is_no_hub() -> None:
    with FakeHub({"../evil": b"x"}) as hub, pytest.raises(InputError, match=r"'\.\./evil' is no name of a file"):
        quick(hub).look("some/where")
    with FakeHub({}) as hub, pytest.raises(InputError, match="there is no such data set"):
        quick(hub).look("some/where-else")
    with pytest.raises(InputError, match="cannot be reached"):
        Hub(hub.url).look("some/where")  # it is gone
    with pytest.raises(InputError, match="is no address"):
        Hub("huggingface.co")


def test_licences_are_named_as_the_card_does() -> None:
    for given, said in ((["mit", "cc0-1.0"], "mit, cc0-1.0"), (None, "")):
        with FakeHub({"a": b"x"}, licence=given) as hub:
            assert quick(hub).look("some/where").licence == said
            assert json.loads(json.dumps(hub.listing()))["siblings"][0]["rfilename"] == "a"


def test_patterns() -> None:
    files = [HubFile(name=name, size=1, digest="", is_large=False) for name in ("a.jsonl", "d/a.jsonl", "d/e/b.txt")]
    assert [file.name for file in fitting(files, "*.jsonl")] == ["a.jsonl"]
    assert [file.name for file in fitting(files, "**.jsonl")] == ["a.jsonl", "d/a.jsonl"]
    assert [file.name for file in fitting(files, "**")] == ["a.jsonl", "d/a.jsonl", "d/e/b.txt"]
    assert [file.name for file in fitting(files, "d/*")] == ["d/a.jsonl"]
