from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.inputs.sentencepiece_file import model_bytes, parse_model

PIECES = ["<unk>", "CC", "é", "C", "▁", "O)"]


def test_what_is_written_is_read() -> None:
    assert parse_model(model_bytes(PIECES), "x.model") == PIECES


def test_the_sentencepiece_package_reads_it(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "x.model").write_bytes(model_bytes(PIECES))
    model = sentencepiece.SentencePieceProcessor()
    model.Load(str(tmp_path / "x.model"))
    assert [model.id_to_piece(i) for i in range(len(model))] == PIECES
    assert model.encode(" CCC", out_type=str) == ["▁", "CC", "C"]


@pytest.mark.parametrize("name", ["SMILES", "PROT", "XNA"])
def test_released_models(released_dir: Path, name: str) -> None:
    data = (released_dir / f"tokenizer_{name}.model").read_bytes()
    pieces = parse_model(data, name)
    assert len(pieces) == 1024
    assert pieces[0] == "<unk>"
    assert parse_model(model_bytes(pieces), name) == pieces


def test_cut_off_files_are_named() -> None:
    data = model_bytes(PIECES)
    for length in range(1, len(data) - 24):
        with pytest.raises(InputError, match="cut\\.model"):
            parse_model(data[:length], "cut.model")


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_refused_politely(data: bytes) -> None:
    with pytest.raises(InputError, match="bad\\.model"):
        parse_model(data, "bad.model")


def test_flipped_bytes_never_crash() -> None:
    data, generator = bytearray(model_bytes(PIECES)), random.Random(0)
    for _ in range(500):
        broken = bytearray(data)
        broken[generator.randrange(len(broken))] = generator.randrange(256)
        try:
            parse_model(bytes(broken), "flipped.model")
        except InputError as error:
            assert "flipped.model" in str(error)


def test_other_kinds_of_models_are_refused() -> None:
    data = model_bytes(PIECES)
    unigram = data.replace(b"\x18\x02\x20", b"\x18\x01\x20")
    assert unigram != data
    with pytest.raises(InputError, match="only BPE"):
        parse_model(unigram, "x.model")
    with pytest.raises(InputError, match="appears twice"):
        parse_model(model_bytes(["<unk>", "C", "C"]), "x.model")
    with pytest.raises(ValueError, match="first piece"):
        model_bytes(["C"])
