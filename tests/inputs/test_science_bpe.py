from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from s1pro.inputs.science_bpe import ScienceBPE
from s1pro.inputs.sentencepiece_file import parse_model


def slow_merge(text: str, pieces: list[str]) -> list[str]:
    """The definition: merge the adjacent pair of highest priority, leftmost first, until there is none."""
    rank = {piece: index for index, piece in enumerate(pieces) if index}
    symbols = list(text)
    while True:
        pairs = [(rank[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in rank]
        if not pairs:
            return symbols
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


PIECES = ["<unk>", "CC", "AA", "AAA", "CCC", "AAAA", "CA", "ACA", "CACA", "CCA", "A", "C", "N"]


def test_merging_follows_the_definition() -> None:
    bpe, generator = ScienceBPE(PIECES), random.Random(0)
    for _ in range(2000):
        text = "".join(generator.choices("ACN", k=generator.randrange(14)))
        assert [PIECES[i] for i in bpe.encode(text)] == slow_merge(text, PIECES)


def test_unknown_characters_form_runs() -> None:
    bpe = ScienceBPE(PIECES)
    assert bpe.encode("CC xé A") == (1, " xé ", 10)
    assert bpe.encode("") == ()
    assert bpe.encode("<unk>") == ("<unk>",)


def test_long_sequences_are_fast() -> None:
    generator = random.Random(0)
    text = "".join(generator.choices("ACN", k=100_000))
    start = time.process_time()
    found = ScienceBPE(PIECES).encode(text)
    assert "".join(PIECES[i] for i in found if isinstance(i, int)) == text
    assert time.process_time() - start < 30  # a square of the length, not a speed


@pytest.mark.parametrize("name", ["SMILES", "PROT", "XNA"])
def test_the_sentencepiece_package_agrees(released_dir: Path, name: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = released_dir / f"tokenizer_{name}.model"
    oracle = sentencepiece.SentencePieceProcessor()
    oracle.Load(str(path))
    bpe = ScienceBPE(parse_model(path.read_bytes(), path.name))
    generator = random.Random(1)
    letters = [piece for piece in bpe.pieces if len(piece) == 1] + ["é", " ", "ü", "@@"]
    for _ in range(300):
        text = "".join(generator.choices(letters, k=generator.randrange(1, 60)))
        expected = [i if i else 0 for i in oracle.encode(text, out_type=int)]
        assert [i if isinstance(i, int) else 0 for i in bpe.encode(text)] == expected
