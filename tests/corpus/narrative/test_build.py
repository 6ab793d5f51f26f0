from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.cli import corpus_narrative
from s1pro.corpus.general import documents, general_conversations
from s1pro.corpus.narrative.build import NarrativeCorpus, build_narratives, split_records
from s1pro.corpus.narrative.isolation import isolation_matrix
from s1pro.corpus.narrative.load import load
from s1pro.corpus.narrative.sources import Loaded
from s1pro.corpus.write import check_isolation, write_samples
from s1pro.data.samples import read_samples
from s1pro.science.facts.grammar import Grammar
from s1pro.science.facts.lint import lint_text
from s1pro.science.split import split_of
from tests.corpus.narrative.test_sources import write_table
from tests.science.facts.alloys import ALLOYS, alloy_records, alloy_schema

FORMS = ("qa", "mcq", "cloze", "comparison", "ranking", "inverse", "regression")
SMALL = NarrativeCorpus(tasks=dict.fromkeys(FORMS, 40))


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return Loaded(schema=alloy_schema(), records=tuple(alloy_records(300)), read=300)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> Path:
    folder = tmp_path_factory.mktemp("narratives")
    build_narratives(folder, loaded, SMALL)
    return folder


def test_no_entity_is_in_two_splits(built: Path) -> None:
    """Over everything that was written, whatever the form; test records are in no text."""
    splits: dict[str, set[str]] = defaultdict(set)
    for path in built.rglob("*.parquet"):
        for sample in read_samples(path):
            for entity in sample.meta["entities"]:
                splits[entity].add(path.stem)
            assert split_of(sample.entity) == path.stem
    assert set(map(frozenset, splits.values())) == {frozenset({"train"}), frozenset({"validation"})}
    lines = [json.loads(line) for line in (built / "records.jsonl").read_text().splitlines()]
    assert len(lines) == 300
    held_out = {line["entity"] for line in lines if line["split"] == "test"}
    assert held_out and not held_out & set(splits)
    groups = defaultdict(set)
    for line in lines:
        groups[line["group"]].add(line["split"])
    assert all(len(found) == 1 for found in groups.values()) and len(groups) == 97


def test_every_sample_is_right_and_isolated(built: Path, loaded: Loaded) -> None:
    grammar = Grammar(loaded.schema)
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["isolation"] == {"science/science": sum(f["samples"] for f in manifest["files"].values())}
    assert set(manifest["files"]) >= {f"{form}/train" for form in SMALL.tasks} | {"descriptions/train"}
    for path in built.rglob("*.parquet"):
        for sample in read_samples(path):
            check_isolation(sample)
            assert sample.prompt_group == "science" and sample.meta["domain"] == "materials"
            if sample.text is not None:
                assert grammar.parse(sample.text) is not None and lint_text(sample.text) == []
    diversity = manifest["diversity"]["descriptions/train"]
    assert diversity["different"] > 0.99 * diversity["texts"] and diversity["openings"] > 0.3 * diversity["texts"]


def test_building_again_makes_nothing(built: Path, loaded: Loaded, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in built.rglob("*.parquet")}
    again = build_narratives(built, loaded, SMALL)
    assert set(again.reused) == set(again.files)
    assert again.isolation == {"science/science": sum(w.samples for w in again.files.values())}
    fresh = build_narratives(tmp_path / "fresh", loaded, SMALL)
    assert {path.relative_to(built): data for path, data in before.items()} == {
        path.relative_to(tmp_path / "fresh"): path.read_bytes() for path in (tmp_path / "fresh").rglob("*.parquet")
    }
    assert fresh.diversity == again.diversity
    other = build_narratives(built.parent / "other", loaded, replace(SMALL, seed=1))
    assert other.files["qa/train"].sha256 != fresh.files["qa/train"].sha256


def test_an_entity_in_two_groups_of_different_splits_is_refused() -> None:
    records = alloy_records(60)
    groups = {split_of(f"F{i}"): f"F{i}" for i in range(400)}
    torn = [replace(records[0], group=groups["train"]), replace(records[0], group=groups["test"])]
    with pytest.raises(InputError, match="give all its rows one group"):
        split_records(torn)


def test_settings_without_effect_are_errors(loaded: Loaded, tmp_path: Path) -> None:
    for settings, message in (
        (replace(SMALL, tasks={"essay": 3}), "no such form: essay"),
        (replace(SMALL, tasks={"description": 3}), "see passes"),
        (replace(SMALL, passes=0, tasks={"qa": 0}), "nothing would be written"),
        (replace(SMALL, max_sentences=0), "max_sentences"),
    ):
        with pytest.raises(InputError, match=message):
            build_narratives(tmp_path, loaded, settings)


def test_isolation_matrix_is_diagonal_over_several_corpora(built: Path, tmp_path: Path) -> None:
    english = tmp_path / "english"
    written = write_samples(general_conversations(list(documents(max_documents=60))), english / "talk.parquet")
    manifest = {"files": {"talk": {"isolation": dict(written.isolation)}}}
    (english / "manifest.json").write_text(json.dumps(manifest))
    matrix = isolation_matrix([built, english])
    assert matrix["general"] == {"general": written.samples, "science": 0}
    assert matrix["science"]["science"] > 300 and matrix["science"]["general"] == 0
    (english / "manifest.json").write_text(json.dumps({"files": {"talk": {"isolation": {"general/science": 2}}}}))
    with pytest.raises(InputError, match="2 samples of general under the science prompt"):
        isolation_matrix([built, english])
    with pytest.raises(InputError, match="not the manifest"):
        isolation_matrix([tmp_path])


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    corpus_narrative.add(parser.add_subparsers())
    args = parser.parse_args(["narrative", *arguments])
    return int(args.run(args))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "alloys.csv", 120)
    schema = tmp_path / "alloys.json"
    schema.write_text(json.dumps(ALLOYS))
    few = [word for form in FORMS for word in ("--set", f"tasks.{form}={ {'mcq': 7, 'ranking': 0}.get(form, 3) }")]
    assert command(str(table), "--schema", str(schema), "--folder", str(tmp_path / "out"), "--json", *few) == 0
    report = json.loads(capsys.readouterr().out)
    assert (
        report["read"] == 120
        and report["files"]["mcq/train"]["samples"] == 7
        and "ranking/train" not in report["files"]
    )
    assert command(str(table), "--schema", str(schema), "--show") == 0
    assert json.loads(capsys.readouterr().out)["records"][0]["alloy"] == "X-0"
    with pytest.raises(InputError, match="--folder is missing"):
        command(str(table), "--schema", str(schema))
    schema.write_text("{")
    with pytest.raises(InputError, match="not a schema"):
        command(str(table), "--schema", str(schema), "--folder", str(tmp_path / "out"))
    assert len(load(str(table), alloy_schema()).records) == 120
