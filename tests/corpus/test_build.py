from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus import manifest
from s1pro.corpus.build import ChemistryCorpus, build_chemistry
from s1pro.corpus.write import read_molecules
from s1pro.data.samples import read_samples
from s1pro.science.compounds import Compound
from s1pro.science.split import split_of

SETTINGS = ChemistryCorpus(questions=300, general_documents=60)


def digests(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def test_a_corpus_has_no_test_molecule_in_any_text(tmp_path: Path, compounds: list[Compound]) -> None:
    lines: list[str] = []
    report = build_chemistry(tmp_path, SETTINGS, compounds=compounds, progress=lines.append)
    molecules = read_molecules(tmp_path / "molecules.parquet")
    assert report.read == len(compounds) == len(molecules) + sum(report.dropped.values())
    assert len(report.files) == 8 and len(lines) == 9 and report.reused == ()
    test_smiles = {f"<SMILES>{m.smiles}</SMILES>" for m in molecules if split_of(m.cluster) == "test"}
    train_smiles = {f"<SMILES>{m.smiles}</SMILES>" for m in molecules if split_of(m.cluster) == "train"}
    assert test_smiles
    for name, written in report.files.items():
        texts = []
        for sample in read_samples(tmp_path / f"{name}.parquet"):
            texts.append(sample.text or "")
            texts += [str(message.content) for message in sample.messages or ()]
        words = {word.strip(".,:;?") for text in texts for word in text.split()}
        assert not words & test_smiles
        assert not (name.endswith("validation") and words & train_smiles)
        expected = "general/general" if name.startswith("english") else "science/science"
        assert set(written.isolation) == {expected}


def test_an_interrupted_build_goes_on(
    tmp_path: Path, compounds: list[Compound], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_chemistry(tmp_path / "whole", SETTINGS, compounds=compounds)
    monkeypatch.setattr("s1pro.science.molecules.read_compounds", lambda: iter(compounds))
    real, calls = manifest.write_samples, []

    def breaks(samples: object, path: Path) -> object:
        calls.append(path.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(samples, path)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "write_samples", breaks)
    with pytest.raises(KeyboardInterrupt):
        build_chemistry(tmp_path / "cut", SETTINGS)
    report = build_chemistry(tmp_path / "cut", SETTINGS)
    assert report.reused == ("molecules", "descriptions/train", "descriptions/validation", "questions/train")
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob("*.tmp"))
    # a file that was changed is made again, and other settings begin anew
    (tmp_path / "cut" / "english" / "train.parquet").write_bytes(b"")
    assert "english/train" not in build_chemistry(tmp_path / "cut", SETTINGS).reused
    assert build_chemistry(tmp_path / "cut", replace(SETTINGS, seed=1)).reused == ()


def test_bad_settings_are_named(tmp_path: Path, compounds: list[Compound]) -> None:
    with pytest.raises(InputError, match="no such family: colour"):
        build_chemistry(tmp_path, ChemistryCorpus(shares={"colour": 1}), compounds=compounds)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not a manifest"):
        build_chemistry(tmp_path, SETTINGS, compounds=compounds)
