from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.inputs import files
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.tokenizer_files import parse_tokenizer_files


def edit(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    change(value)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "tokenizer_PROT.model",
    ],
)
def test_missing_and_damaged_files_are_named(tiny_folder: Path, name: str) -> None:
    path = tiny_folder / name
    data = path.read_bytes()
    path.write_bytes(b"\xff\xfe" + data[: len(data) // 2])
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}"):  # of which folder, too
        Tokenizer.from_pretrained(tiny_folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}.*no such file"):
        Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("vocab.json", lambda v: v.update({"!": 5}), "id 0 belongs to no token"),
        ("vocab.json", lambda v: v.update({"!": "0"}), "whole number"),
        ("vocab.json", lambda v: v.update({"<|SMILES_C|>": 1}), "SMILES_C"),
        ("vocab.json", lambda v: v.update({"a b": 9999}), "neither a byte-level token"),
        ("added_tokens.json", lambda v: v.update({"<new>": 320}), "belongs to two tokens"),
        ("tokenizer_config.json", lambda v: v.update(offset_XNA=-1), "offset_XNA"),
        ("tokenizer_config.json", lambda v: v.update(offset_XNA=7), "XNA"),
        ("tokenizer_config.json", lambda v: v.pop("added_tokens_decoder"), "added_tokens_decoder"),
        ("tokenizer_config.json", lambda v: v["added_tokens_decoder"]["320"].update(lstrip=True), "320.lstrip"),
        ("tokenizer_config.json", lambda v: v["added_tokens_decoder"]["320"].update(content="<x>"), "disagree"),
        ("tokenizer_config.json", lambda v: v["added_tokens_decoder"].update({"320": 5}), "malformed"),
        ("special_tokens_map.json", lambda v: v.update(eos_token="nothing"), "eos_token"),
        ("special_tokens_map.json", lambda v: v.pop("pad_token"), "pad_token"),
        (
            "special_tokens_map.json",
            lambda v: v.update(additional_special_tokens=["nothing"]),
            "additional_special_tokens",
        ),
    ],
)
def test_inconsistent_fields_are_named(
    tiny_folder: Path, name: str, change: Callable[[dict], object], named: str
) -> None:
    edit(tiny_folder, name, change)
    with pytest.raises(InputError, match=named):
        Tokenizer.from_pretrained(tiny_folder)


def test_a_merge_line_with_three_words(tiny_folder: Path) -> None:
    with (tiny_folder / "merges.txt").open("a") as file:
        file.write("a b c\n")
    with pytest.raises(InputError, match=r"merges\.txt: line"):
        Tokenizer.from_pretrained(tiny_folder)


def test_duplicate_keys_and_wrong_kinds_of_json() -> None:
    with pytest.raises(InputError, match="'a' appears twice"):
        files.parse_json(b'{"a": 1, "a": 2}', "x.json")
    with pytest.raises(InputError, match="object"):
        files.parse_json(b"[]", "x.json")
    with pytest.raises(InputError, match="not valid JSON"):
        files.parse_json(b"[" * 100_000, "x.json")
    with pytest.raises(InputError, match="not valid JSON"):
        files.parse_json(b'{"a": ' + b"9" * 5000 + b"}", "x.json")


def test_lone_surrogates_in_token_names_are_refused(tiny_folder: Path) -> None:
    edit(tiny_folder, "added_tokens.json", lambda v: v.update({"<\ud800>": v.pop("<video>")}))
    edit(
        tiny_folder,
        "tokenizer_config.json",
        lambda v: [
            entry.update(content="<\ud800>")
            for entry in v["added_tokens_decoder"].values()
            if entry["content"] == "<video>"
        ],
    )
    with pytest.raises(InputError, match="lone surrogate"):
        Tokenizer.from_pretrained(tiny_folder)


def test_damaged_bytes_raise_nothing_but_input_errors(tiny: Tokenizer) -> None:
    generator, refused = random.Random(0), 0
    inserts = (b"{", b"]", b",", b'"', b"null", b"1e999", b"NaN", b"9" * 5000, b"\\ud800", b'"x":1,', b"\xff", b"\n")
    for _ in range(300):
        raw = dict(tiny.files.raw)
        name = generator.choice(sorted(raw))
        data = bytearray(raw[name])
        start = generator.randrange(len(data))
        data[start : start + generator.randrange(8)] = generator.choice(inserts)
        raw[name] = bytes(data)
        try:
            Tokenizer(parse_tokenizer_files(raw)).encode("the fox <SMILES>CCO</SMILES> é")
        except InputError:
            refused += 1
    assert refused > 200


def test_large_files_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="more than the limit of 10"):
        files.read_file(tmp_path, "big.json", max_bytes=10)
    with pytest.raises(InputError, match="no such folder"):
        Tokenizer.from_pretrained(tmp_path / "nowhere")


def test_an_interrupted_save_leaves_the_old_files(
    tiny: Tokenizer, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    calls = iter(range(100))

    def failing(_: int) -> None:
        if next(calls) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(OSError, match="disk full"):
        files.write_files(tiny_folder, dict.fromkeys(before, b"new"))
    assert {path.name: path.read_bytes() for path in tiny_folder.iterdir()} == before


def test_importing_the_room_is_light() -> None:
    heavy = "('torch', 'tokenizers', 'jinja2', 'rdkit')"
    code = f"import sys, s1pro.inputs.processor; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
