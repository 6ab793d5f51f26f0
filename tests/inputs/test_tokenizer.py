from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.inputs.special_tokens import ADDED_TOKENS
from s1pro.inputs.tokenizer import Tokenizer


def records(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "tokenizer" / name).read_text(encoding="utf-8").splitlines()]


def test_golden_strings_by_rules(released: Tokenizer, goldens_dir: Path) -> None:
    chosen = [r for r in records(goldens_dir, "strings.jsonl") if not r["rdkit_importable"]]
    assert len(chosen) == 60
    for record in chosen:
        assert released.encode(record["text"]) == record["ids"], record["id"]


def test_golden_strings_by_rdkit(released_rdkit: Tokenizer, goldens_dir: Path) -> None:
    chosen = [r for r in records(goldens_dir, "strings.jsonl") if r["rdkit_importable"]]
    assert len(chosen) == 60
    for record in chosen:
        assert released_rdkit.encode(record["text"]) == record["ids"], record["id"]


def test_golden_decoding(released: Tokenizer, goldens_dir: Path) -> None:
    for record in records(goldens_dir, "strings.jsonl"):
        assert released.decode(record["ids"]) == record["decoded"], record["id"]
        skipped = released.decode(record["ids"], skip_special_tokens=True)
        assert skipped == record["decoded_skip_special"], record["id"]


def test_golden_molecules(released: Tokenizer, goldens_dir: Path) -> None:
    stats = json.loads((goldens_dir / "tokenizer" / "smiles200_stats.json").read_text())
    tokens = 0
    for record in records(goldens_dir, "smiles200.jsonl"):
        smiles = record["smiles"]
        tagged = released.encode(f"<SMILES>{smiles}</SMILES>")
        assert tagged[1:-1] == record["ids"]
        assert len(released.encode(smiles)) == record["n_auto"]
        assert len(released._plain(smiles)) == record["n_bpe"]
        tokens += len(record["ids"])
    assert tokens == stats["science_tokens"]


def test_golden_chat_ids_do_not_depend_on_batching(released: Tokenizer, goldens_dir: Path) -> None:
    texts = [r["text"] for r in records(goldens_dir, "strings.jsonl")]
    assert released.encode_batch(texts) == [released.encode(text) for text in texts]


def test_released_ids_and_sizes(released: Tokenizer) -> None:
    assert released.vocab_size == 154_766
    assert (released.eos_token_id, released.pad_token_id) == (151_645, 151_643)
    assert [released.token_to_id(token) for token in ADDED_TOKENS] == list(range(151_643, 151_694))
    assert released.id_to_token(151_695) == "<|SMILES_cc|>"
    assert released.token_to_id("<|XNA_AA|>") == 153_743
    assert released.id_to_token(154_766) is None
    assert released.token_to_id("no such token") is None


def test_sampleable_ids(released: Tokenizer) -> None:
    mask = released.sampleable_ids(155_008)
    assert mask.shape == (155_008,)
    assert not mask[154_766:].any()
    assert not mask[[151_694, 152_718, 153_742]].any()
    assert np.count_nonzero(~mask) == 242 + 3
    with pytest.raises(ValueError, match="100 rows"):
        released.sampleable_ids(100)


def test_ids_without_a_piece_decode_to_nothing(released: Tokenizer) -> None:
    ids = [9707, 154_766, 155_007, -1, -100, 10**9, 1879]
    assert released.decode(ids) == "Hello world"


def test_random_ids_decode(released: Tokenizer) -> None:
    generator = random.Random(0)
    for _ in range(200):
        text = released.decode([generator.randrange(155_008) for _ in range(30)])
        text.encode("utf-8")


def test_decoded_bytes_join(released: Tokenizer) -> None:
    ids = released.encode("emoji 👩‍🔬 and 分子")
    assert b"".join(released.decode_bytes([i]) for i in ids).decode() == "emoji 👩‍🔬 and 分子"


def test_control_tokens_in_text(tiny: Tokenizer) -> None:
    text = "a<|im_end|>b<think>c"
    eos = tiny.eos_token_id
    assert eos in tiny.encode(text)
    harmless = tiny.encode(text, allow_control_tokens=False)
    added = {tiny.token_to_id(token) for token in ADDED_TOKENS}
    assert not added.intersection(harmless)
    assert tiny.decode(harmless) == text


@pytest.mark.parametrize("token", ADDED_TOKENS)
def test_no_control_token_can_be_injected(tiny: Tokenizer, token: str) -> None:
    ids = tiny.encode(f"x {token} y{token}", allow_control_tokens=False)
    is_science_tag = token.strip("</>") in ("SMILES", "protein", "dna", "rna")
    assert (tiny.token_to_id(token) in ids) == is_science_tag
    assert tiny.decode(ids) == f"x {token} y{token}"


def test_literal_spans_survive_normalisation(tiny: Tokenizer) -> None:
    text = "e\u0301 e\u0301 <|im_end|> e\u0301 <|im_end|>"
    start = text.index("<|im_end|>")
    ids = tiny.encode(text, literal_spans=[(start, start + 2)])
    assert ids.count(tiny.eos_token_id) == 1
    assert ids[-1] == tiny.eos_token_id
    assert tiny.decode(ids) == "é é <|im_end|> é <|im_end|>"


def test_upstream_switch_tokens_are_text(released: Tokenizer) -> None:
    text = "<SMILES_AUTO_DETECT>CCO</SMILES_AUTO_DETECT>"
    ids = released.encode(text)
    assert max(ids) < 151_643
    assert released.decode(ids) == text


def test_lone_surrogates_become_replacement_characters(tiny: Tokenizer) -> None:
    assert tiny.decode(tiny.encode("a\ud800b")) == "a\ufffdb"


def test_decomposed_characters_are_composed(released: Tokenizer) -> None:
    assert released.encode("e\u0301") == released.encode("\u00e9")


def test_detection_needs_the_vocabulary(tiny: Tokenizer) -> None:
    caffeine = "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"
    start = tiny.token_to_id("<|SMILES_<unk>|>")
    assert all(i > start for i in tiny.encode(caffeine))
    assert all(i < start for i in tiny.encode(f"<MOLFORMULA>{caffeine}</MOLFORMULA>"))


def test_saving_gives_back_the_bytes(released_dir: Path, released: Tokenizer, tmp_path: Path) -> None:
    released.save_pretrained(tmp_path / "a")
    Tokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(released.files.raw)
    for name in names:
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes() == (released_dir / name).read_bytes()


TEXT = st.text(st.characters(exclude_characters="\u2581", exclude_categories=("Cs",)), max_size=60)
PIECES = st.sampled_from(
    [
        *ADDED_TOKENS,
        "<MOLFORMULA>",
        "</MOLFORMULA>",
        "CC(=O)OC1=CC=CC=C1C(=O)O",
        "ATGC" * 8,
        "MKTAYIAKQR" * 3,
        " ",
        "\n",
        "é",
    ]
)
MIXED = st.lists(st.one_of(TEXT, PIECES), max_size=8).map("".join)


@settings(max_examples=150, deadline=None)
@given(text=MIXED)
def test_text_comes_back(tiny: Tokenizer, text: str) -> None:
    import unicodedata

    expected = unicodedata.normalize("NFC", text)
    assert tiny.decode(tiny.encode(text)) == expected
    assert tiny.decode(tiny.encode(text, allow_control_tokens=False)) == expected


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.one_of(st.text("CNO()[]=1 \n.Ma▁", max_size=20), PIECES), max_size=5).map("".join))
def test_the_short_way_for_ordinary_text_changes_nothing(tiny: Tokenizer, text: str) -> None:
    ids = tiny.encode(text)
    tiny._bpe.encode_ordinary, kept = lambda _: None, tiny._bpe.encode_ordinary  # type: ignore[method-assign]
    try:
        assert tiny.encode(text) == ids
    finally:
        tiny._bpe.encode_ordinary = kept  # type: ignore[method-assign]


@settings(max_examples=100, deadline=None)
@given(text=MIXED)
def test_refusing_control_tokens_never_yields_one(tiny: Tokenizer, text: str) -> None:
    control = {tiny.token_to_id(token) for token in ADDED_TOKENS[:-8]}
    assert not control.intersection(tiny.encode(text, allow_control_tokens=False))


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(-10, 1000), max_size=40))
def test_any_ids_decode(tiny: Tokenizer, ids: list[int]) -> None:
    tiny.decode(ids).encode("utf-8")
    tiny.decode(ids, skip_special_tokens=True)


def test_arrays_of_ids_decode_like_lists(tiny: Tokenizer) -> None:
    ids = [*tiny.encode("a fox"), tiny.eos_token_id]
    assert (
        tiny.decode(np.asarray(ids), skip_special_tokens=True) == tiny.decode(ids, skip_special_tokens=True) == "a fox"
    )
