from __future__ import annotations

from collections.abc import Sequence

import pytest

from s1pro.serve.text import IncrementalText, StopWatcher


def decode_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain", "naïve Å 漢字 🧪", "", "🧪" * 5])
def test_pieces_join_to_the_whole_text(text: str) -> None:
    incremental, seen = IncrementalText(decode_bytes), []
    for byte in text.encode():
        incremental.push(byte)
        seen.append(incremental.text)
    incremental.flush()
    assert incremental.text == text
    assert all("\ufffd" not in piece and text.startswith(piece) for piece in seen)


def test_invalid_bytes_are_shown_and_do_not_block_the_rest() -> None:
    incremental = IncrementalText(decode_bytes)
    data = b"\xff" * 20 + b"ok"
    for byte in data:
        incremental.push(byte)
    incremental.flush()
    assert incremental.text.endswith("ok")


def test_stop_strings_are_found_across_pieces_and_the_earliest_wins() -> None:
    watcher, text, found = StopWatcher(["END", "\n\n"]), "", (-1, None)
    for piece in ["one E", "N", "D two\n", "\n"]:
        text += piece
        found = watcher.find(text)
        if found[1] is not None:
            break
    assert (text[: found[0]], found[1]) == ("one ", "END")
    assert StopWatcher(["b", "ab"]).find("xxab") == (2, "ab")
    assert StopWatcher(["ab", "abc"]).find("xxabc") == (2, "abc")
    assert StopWatcher(["x"]).find("none") == (-1, None)


def test_a_possible_beginning_of_a_stop_string_is_held_back() -> None:
    watcher = StopWatcher(["<stop>", "\n"])
    assert watcher.safe_length("answer <st") == len("answer ")
    assert watcher.safe_length("answer <sto!") == len("answer <sto!")
    assert StopWatcher([]).safe_length("abc") == 3


def test_an_empty_stop_string_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopWatcher([""])
