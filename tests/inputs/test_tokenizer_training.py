from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.inputs.special_tokens import ADDED_TOKENS, ADDITIONAL_SPECIAL_TOKENS
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.tokenizer_training import train_tokenizer

TEXTS = ["the fox and the dog", "the dog and the hen", "a fox, a hen; a dog."] * 5
SMILES = ["CC(=O)OC1=CC=CC=C1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O"] * 5


def small(**changes: object) -> Tokenizer:
    options = {"smiles": SMILES, "vocab_size": 266, "science_sizes": {"SMILES": 20}, **changes}
    return train_tokenizer(options.pop("texts", TEXTS), **options)  # type: ignore[arg-type]


def test_ids_are_contiguous_in_released_order() -> None:
    tokenizer = small()
    assert tokenizer.vocab_size == 266 + 51 + 20
    assert [tokenizer.token_to_id(token) for token in ADDED_TOKENS] == list(range(266, 317))
    assert tokenizer.id_to_token(317) == "<|SMILES_<unk>|>"
    assert tokenizer.eos_token_id == 268
    assert tokenizer.pad_token_id == 266
    assert tokenizer.id_to_token(0) == "!"


def test_the_released_list_of_tokens(released_dir: Path) -> None:
    config = json.loads((released_dir / "tokenizer_config.json").read_text())
    ours = json.loads(small().files.raw["tokenizer_config.json"])
    assert list(config["added_tokens_decoder"].values()) == list(ours["added_tokens_decoder"].values())
    assert set(ours) <= set(config)
    assert set(config) - set(ours) == {"auto_map", "offset_PROT", "offset_XNA"}
    special = json.loads((released_dir / "special_tokens_map.json").read_text())
    assert special == json.loads(small().files.raw["special_tokens_map.json"])
    assert tuple(special["additional_special_tokens"]) == ADDITIONAL_SPECIAL_TOKENS


def test_science_pieces_shorten_molecules() -> None:
    tokenizer = small()
    text = SMILES[0]
    tagged = tokenizer.encode(f"<SMILES>{text}</SMILES>")
    assert len(tagged) < len(text)
    assert all(i > 317 for i in tagged[1:-1])
    assert tokenizer.decode(tagged) == f"<SMILES>{text}</SMILES>"


def test_digits_are_never_merged() -> None:
    pieces = small(science_sizes={"SMILES": 40}).files.pieces["SMILES"]
    assert not [piece for piece in pieces if len(piece) > 1 and any(map(str.isdigit, piece))]


def test_no_science_at_all() -> None:
    tokenizer = small(smiles=(), science_sizes={})
    assert tokenizer.vocab_size == 266 + 51
    assert sorted(tokenizer.files.raw) == [
        "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    text = f"<SMILES>{SMILES[0]}</SMILES> {SMILES[0]} {'M' * 30}"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert small(science_sizes={"SMILES": 0, "PROT": 0, "XNA": 0}).vocab_size == 266 + 51


def test_order_and_repetition_do_not_matter() -> None:
    shuffled = list(TEXTS)
    random.Random(0).shuffle(shuffled)
    assert small(texts=shuffled, smiles=SMILES[::-1]).files.raw == small().files.raw


def test_molecules_in_texts_train_no_byte_tokens() -> None:
    with_molecules = [*TEXTS, *(f"<SMILES>{s}</SMILES>" for s in SMILES), *SMILES]
    assert small(texts=with_molecules).files.raw == small().files.raw


def test_too_little_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = small(texts=["ab ab"], vocab_size=1000)
    assert tokenizer.vocab_size < 300 + 51 + 20
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocab_size": 100}, "vocab_size"),
        ({"science_sizes": {"DNA": 4}}, "DNA"),
        ({"science_sizes": {"SMILES": 5}}, "at least 8"),
        ({"science_sizes": {"PROT": 30}}, "PROT"),
        ({"science_sizes": {"SMILES": -1}}, "SMILES"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        small(**changes)


def test_saved_and_loaded(tmp_path: Path) -> None:
    tokenizer = small()
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    text = f"the fox <SMILES>{SMILES[0]}</SMILES> {SMILES[1]}"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.files.raw == tokenizer.files.raw
