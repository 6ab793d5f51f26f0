from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.serve.http.media import MediaReader
from s1pro.serve.http.settings import MediaAccess


def read(content: Any, *, max_media: int = 4, **access: Any) -> Any:
    reader = MediaReader(MediaAccess(**access), max_media=max_media)
    [message] = asyncio.run(reader.read([{"role": "user", "content": content}]))
    return message["content"]


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values))
    return stream.getvalue()


def data_url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_text_parts_are_joined_and_text_stays() -> None:
    assert read("hello") == "hello"
    assert read([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]) == "a\nb"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": data_url(b"png"), "detail": "auto"}},
        {"type": "image_url", "image_url": data_url(b"png")},
        {"type": "input_image", "image_url": data_url(b"png"), "detail": "low"},
        {"type": "image", "image": data_url(b"png")},
        {"image_url": {"url": data_url(b"png")}},
    ],
)
def test_the_spellings_of_an_image(part: dict[str, Any]) -> None:
    assert read([part]) == [{"type": "image", "image": b"png"}]


def test_pictures_of_numbers() -> None:
    grey, coloured = [[0, 128, 255], [1, 2, 3]], [[[0, 128, 255], [1, 2, 3]]]
    for pixels in (grey, coloured):
        for part in ({"type": "image", "image": pixels}, {"type": "image_url", "image_url": {"data": pixels}}):
            [found] = read([part])
            assert found["image"].dtype == np.uint8 and found["image"].tolist() == pixels
    [video] = read([{"type": "video", "video": [coloured, data_url(b"png")], "fps": 2}])
    assert video["video"][0].tolist() == coloured and video["video"][1] == b"png" and video["fps"] == 2


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([[0, 1], [2]], "rows of one length"),
        ([[0.5, 1.0]], "whole numbers"),
        ([[True, False]], "whole numbers"),
        ([[1] * 1000, ["a" * 10**6] * 1000], "whole numbers"),
        ([[None, 1]], "whole numbers"),
        ([[2**80]], "got object"),
        ([0, 1], "rows of"),
        ([[[[1]]]], "rows of"),
        ([[[0, 1, 2], 3]], "rows of"),
        ([["a", [1]]], "rows of"),
        ([[]], "rows of"),
        ([], "of shape"),
        ([[0, 256]], "from 0 to 255, got 0 to 256"),
        ([[-1, 3]], "got -1 to 3"),
    ],
)
def test_numbers_that_are_no_picture(pixels: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"messages\[0\].content\[0\]: .*{message}"):
        read([{"type": "image", "image": pixels}])


def test_signals_carry_rate_unit_and_missing_values() -> None:
    values = npy([[1.0, 2.0], [3.0, 4.0]])
    expected = {"type": "time_series", "time_series": values, "sampling_rate": 50.0, "unit": "mV"}
    inside = {"url": data_url(values), "sampling_rate": 50.0, "unit": "mV"}
    assert read([{"type": "time_series_url", "time_series_url": inside}]) == [expected]
    beside = {"type": "time_series", "time_series": data_url(values), "sampling_rate": 50.0, "unit": "mV"}
    assert read([beside]) == [expected]
    [part] = read([{"type": "time_series", "time_series": [[1, None], [3, 4.5]], "missing": "mask"}])
    assert np.array_equal(part["time_series"], [[1, np.nan], [3, 4.5]], equal_nan=True) and part["missing"] == "mask"


def test_foreign_signals_are_npy_unless_the_format_is_named() -> None:
    def part(data: bytes, **options: Any) -> list[dict[str, Any]]:
        return [{"type": "time_series", "time_series": data_url(data), **options}]

    with pytest.raises(InputError, match="no NPY file; name another format"):
        read(part(b"1,2\n3,4\n"))
    assert read(part(b"1,2\n3,4\n", format="csv"))[0]["time_series"] == b"1,2\n3,4\n"
    assert "format" not in read(part(b"RIFF....", format="wav"))[0]
    by_type = [{"type": "time_series_url", "time_series_url": {"url": data_url(b"1,2\n3,4\n", "text/csv")}}]
    assert read(by_type)[0]["time_series"] == b"1,2\n3,4\n"
    for data, kind in ((b"1,2", "wav"), (b"RIFF", "csv"), (b"abc", "mseed"), (npy([1]), "csv")):
        with pytest.raises(InputError, match=f"no {kind.upper()} file"):
            read(part(data, format=kind))
    with pytest.raises(InputError, match="format must be one of"):
        read(part(b"x", format="pickle"))


@pytest.mark.parametrize(
    "url", ["/etc/passwd", "etc/passwd", "", "gopher://x/", "javascript:alert(1)", "data:text/plain,x", 7, None, {}]
)
@pytest.mark.parametrize("kind", ["image", "video", "time_series"])
def test_sources_that_are_no_urls(url: Any, kind: str) -> None:
    with pytest.raises(InputError, match=r"messages\[0\]\.content\[0\]"):
        read([{"type": kind, kind: url}])


@pytest.mark.parametrize(
    "part", ["x", 3, None, {"type": "input_audio"}, {"type": 5}, {}, {"type": "text"}, {"type": "text", "text": 1}]
)
def test_parts_that_are_none(part: Any) -> None:
    with pytest.raises(InputError, match=r"messages\[0\]\.content\[0\]"):
        read([part])


def test_the_number_of_media_is_bounded() -> None:
    parts = [{"type": "image_url", "image_url": data_url(b"x")}] * 4
    assert len(read(parts)) == 4
    with pytest.raises(InputError, match="more than 4 images"):
        read([*parts, parts[0]])
    with pytest.raises(InputError, match="1 to 512"):
        read([{"type": "video", "video": [data_url(b"x")] * 513}])


def test_files_are_read_below_one_folder_only(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "media", tmp_path / "secret.npy"
    allowed.mkdir()
    secret.write_bytes(b"secret")
    (allowed / "a b.png").write_bytes(b"png")
    (allowed / "link.png").symlink_to(secret)
    (allowed / "rec.csv").write_bytes(b"1\n2\n")

    def image(url: str, **access: Any) -> Any:
        return read([{"type": "image_url", "image_url": url}], **access)

    assert image(f"file://{allowed}/a%20b.png", folder=allowed) == [{"type": "image", "image": b"png"}]
    signal = [{"type": "time_series", "time_series": f"file://{allowed}/rec.csv"}]
    assert read(signal, folder=allowed)[0]["time_series"] == b"1\n2\n"
    with pytest.raises(InputError, match="reads no files"):
        image(f"file://{allowed}/a%20b.png")
    for url in (
        f"file://{secret}",
        f"file://{allowed}/../secret.npy",
        f"file://{allowed}/%2e%2e/secret.npy",
        f"file://{allowed}/link.png",
        f"file://otherhost{allowed}/a%20b.png",
        "file:///etc/passwd",
        "file:///dev/zero",
        "file:///proc/self/environ",
        f"file://{allowed}/%00",
        f"file://{allowed}",
        "file:relative.png",
    ):
        with pytest.raises(InputError, match=r"not below|not a path|not a regular|no such"):
            image(url, folder=allowed)
