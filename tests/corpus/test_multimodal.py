from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus import manifest, multimodal
from s1pro.corpus.multimodal import COUNTS, MultimodalCorpus, build_multimodal
from s1pro.data.samples import read_samples
from s1pro.science.media_families import media_families
from s1pro.science.molecules import Molecule
from s1pro.science.split import split_of
from s1pro.science.system_prompts import SYSTEM_PROMPTS

SMALL = MultimodalCorpus(counts=dict.fromkeys(COUNTS, 7), validation=3)


def digests(folder: Path) -> dict[str, str]:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, molecules: tuple[Molecule, ...]) -> Path:
    folder = tmp_path_factory.mktemp("multimodal")
    build_multimodal(folder, SMALL, molecules)
    return folder


def test_every_family_has_conversations_whose_media_are_there(built: Path, molecules: tuple[Molecule, ...]) -> None:
    assert set(COUNTS) == set(media_families()) - {"trend_in_recording"}
    clusters = {m.cluster for m in molecules}
    named: set[Path] = set()
    for name in COUNTS:
        family, entities = media_families()[name], {}
        for split, count in (("train", 7), ("validation", 3)):
            file = built / name / f"{split}.parquet"
            samples = list(read_samples(file))
            assert len(samples) == count
            entities[split] = {sample.entity for sample in samples}
            for sample in samples:
                assert sample.source == name and sample.messages is not None
                system, user, assistant = sample.messages
                assert system.content == SYSTEM_PROMPTS[sample.prompt_group]
                assert sample.prompt_group == ("general" if family.domain == "pictures" else "science")
                medium, text = user.content
                path = file.parent / medium[medium["type"]]  # type: ignore[index]
                assert path.is_file() and text["type"] == "text" and assistant.content
                named.add(path.resolve())
                assert any(t.parse(user.text) is not None for t in family.questions.training)
                assert dict(sample.meta) == {"domain": family.domain, "modality": family.modality}
                if name.endswith("_in_depiction"):
                    assert sample.entity in clusters and split_of(sample.entity) == split
        assert not entities["train"] & entities["validation"]
    files = {path.resolve() for path in (built / "media").rglob("*") if path.is_file()}
    assert files == named
    entry = json.loads((built / "manifest.json").read_text())["files"]["chirp_in_signal/train"]
    assert entry["isolation"] == {"science/science": 7} and 7 * 20 < entry["characters"] < 7 * 120


def test_an_interrupted_build_goes_on(
    built: Path, tmp_path: Path, molecules: tuple[Molecule, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = manifest.write_samples, []

    def breaks(samples: object, path: Path) -> object:
        calls.append(path.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(samples, path)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "write_samples", breaks)
    with pytest.raises(KeyboardInterrupt):
        build_multimodal(tmp_path, SMALL, molecules)
    lines: list[str] = []
    report = build_multimodal(tmp_path, SMALL, molecules, lines.append)
    assert len(report.reused) == 3 and len(lines) == len(report.files) - 3
    assert digests(tmp_path) == digests(built) and not list(tmp_path.rglob("*.tmp"))
    # a medium that is gone is made again, with the file that names it, and nothing else
    sample = next(iter(read_samples(tmp_path / "chirp_in_signal" / "train.parquet")))
    assert sample.messages is not None
    lost = tmp_path / "chirp_in_signal" / sample.messages[1].content[0]["time_series"]  # type: ignore[index]
    lost.unlink()
    report = build_multimodal(tmp_path, SMALL, molecules)
    assert set(report.files) - set(report.reused) == {"chirp_in_signal/train"}
    assert np.load(lost, allow_pickle=False).dtype == np.float32
    assert build_multimodal(tmp_path, replace(SMALL, seed=1), molecules).reused == ()
    assert build_multimodal(tmp_path, replace(SMALL, seed=1), molecules[1:]).reused == ()


def test_molecules_are_loaded_only_where_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*unused: object, **also_unused: object) -> None:
        raise AssertionError("molecules are not needed")

    monkeypatch.setattr(multimodal, "load_molecules", unexpected)
    settings = MultimodalCorpus(counts={"digit_in_scan": 4, "chirp_in_signal": 0}, validation=500)
    report = build_multimodal(tmp_path, settings)
    assert {name: written.samples for name, written in report.files.items()} == {
        "digit_in_scan/train": 4,
        "digit_in_scan/validation": 90,
    }


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such family: smell; known: formula_in_depiction"):
        build_multimodal(tmp_path, MultimodalCorpus(counts={"smell": 3}))
    with pytest.raises(InputError, match="give at least one of them"):
        build_multimodal(tmp_path, MultimodalCorpus(counts={"digit_in_scan": 0}))
    with pytest.raises(InputError, match="must not be negative"):
        MultimodalCorpus(counts={"digit_in_scan": -1})
    assert not (tmp_path / "manifest.json").exists()
