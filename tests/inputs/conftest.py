from __future__ import annotations

from pathlib import Path

import pytest

from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.tokenizer_training import train_tokenizer

MOLECULES = (
    "CC(=O)OC1=CC=CC=C1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "C[C@@H](N)C(=O)O",
    "[Na+].[Cl-]",
)
PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"
DNA = "ATGCGTACGTTAGCCGATCGATTACGGCATGCAAATTTCCCGGG"
TEXTS = (
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox does not.",
    "Aspirin has the formula C9H8O4 and a molar mass of 180.16 g/mol.\n\nWhat is its mass?",
    "<SMILES>CCO</SMILES> is ethanol, and CN1C=NC2=C1C(=O)N(C(=O)N2C)C is caffeine.",
)


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    """A small tokenizer with all three science vocabularies."""
    return train_tokenizer(
        TEXTS * 3,
        smiles=MOLECULES * 3,
        proteins=[PROTEIN] * 3,
        nucleic=[DNA] * 3,
        vocab_size=320,
        science_sizes={"SMILES": 48, "PROT": 30, "XNA": 24},
    )


@pytest.fixture
def tiny_folder(tiny: Tokenizer, tmp_path: Path) -> Path:
    tiny.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def released(released_dir: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(released_dir)


@pytest.fixture(scope="session")
def released_rdkit(released_dir: Path) -> Tokenizer:
    pytest.importorskip("rdkit")
    return Tokenizer.from_pretrained(released_dir, detector="rdkit")
