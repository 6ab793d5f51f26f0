"""References to media: what they mean, and what is refused."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.inputs.media_source import media_name, read_media


def test_the_same_bytes_by_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 3
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a b.bin").write_bytes(data)
    encoded = base64.b64encode(data).decode()
    assert read_media(data) == data
    assert read_media(str(tmp_path / "inner" / "a b.bin")) == data
    assert read_media("inner/a b.bin", base=tmp_path) == read_media(Path("inner/a b.bin"), base=tmp_path) == data
    assert read_media(str(tmp_path / "inner" / "a b.bin"), base=Path("elsewhere")) == data
    monkeypatch.chdir(tmp_path)
    assert read_media("inner/a b.bin") == data
    assert read_media(f"data:image/png;base64,{encoded}") == data
    assert read_media(f"DATA:;Base64,{encoded[:100]}\n{encoded[100:]}", allow_paths=False) == data


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing.png", r"missing.png: there is no such file \("),
        ("folder", "folder: not a regular file"),
        ("pipe", "pipe: not a regular file"),
        ("empty.png", "empty.png: empty"),
        ("large.png", "large.png: 101 bytes, more than the limit of 100"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "there is no such file"),
        ("", "a media reference is empty"),
        ("https://example.org/a.png", "https://example.org/a.png: https URLs are not read here; download it first"),
        ("HTTP://example.org/a.png", "HTTP URLs are not read here; download it first"),
        ("file:///etc/hosts", "file URLs are not read here; give the path of a local file"),
        ("data:image/png;base64", "expected data:<type>;base64,<data>"),
        ("data:text/plain,hello", "expected data:<type>;base64,<data>"),
        ("data:image/png;base64,a$b=", "no valid base64"),
        ("data:image/png;base64,abc", "no valid base64"),
        ("data:image/png;base64,ä", "no valid base64"),
        ("data:image/png;base64,", "data:image/png;base64,… .22 characters.: empty"),
        ("data:image/png;base64," + "A" * 136, "larger than the limit of 100 bytes"),
        ("data:image/png;base64," + "A" * 400, "larger than the limit of 100 bytes"),
        (b"", "media of 0 bytes: empty"),
        (b"x" * 101, "media of 101 bytes: larger than the limit of 100 bytes"),
        (17, "a media reference is a path, a data: URL or bytes, got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_refused(tmp_path: Path, reference: object, message: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(b"x" * 101)
    with pytest.raises(InputError, match=message):
        read_media(reference, base=tmp_path, max_bytes=100)  # type: ignore[arg-type]


def test_paths_of_strangers(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    for reference in ("a.png", tmp_path / "a.png"):
        with pytest.raises(InputError, match=r"a.png: paths are not accepted here"):
            read_media(reference, base=tmp_path, allow_paths=False)


def test_names_in_messages_are_short() -> None:
    assert media_name("data:image/png;base64," + "A" * 10_000) == "data:image/png;base64,… (10022 characters)"
    assert media_name("a" * 100 + "b" * 100 + "c" * 40) == "a" * 100 + "…" + "c" * 40
    assert media_name(b"abc") == "media of 3 bytes" and media_name(Path("a") / "b.png") == "a/b.png"
