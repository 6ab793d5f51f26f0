"""The whole way: papers with known content, through all stages, to samples that training reads and a gallery."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.corpus.executors import Inline, Processes, run_stage
from s1pro.corpus.export import ExportSettings, domain_of, export, split_of
from s1pro.corpus.ledger import register
from s1pro.corpus.records import CaptionRow, DuplicateRow, RouteRow
from s1pro.corpus.settings import IngestSettings, PipelineSettings
from s1pro.corpus.stages.base import CorpusFolder
from s1pro.corpus.stages.registry import STAGES, stage_named
from s1pro.corpus.status import folder_status
from s1pro.corpus.view.page import GallerySettings, write_gallery
from s1pro.data.samples import read_samples
from s1pro.science.contamination import ContaminationIndex, ContaminationSettings
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain
from tests.corpus.corpus_runs import result
from tests.corpus.plots import plotted


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six papers with a plot each; the plot of the last is that of the first."""
    folder = tmp_path_factory.mktemp("papers")
    for n in range(6):
        (folder / f"paper{n}.pdf").write_bytes(plotted(n, figure=n % 5))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    return folder


@pytest.fixture(scope="module")
def done(papers: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusFolder:
    folder = CorpusFolder(tmp_path_factory.mktemp("done"))
    register(folder.root, [papers], licence="CC0")
    folder.save_settings(PipelineSettings(ingest=IngestSettings(documents_per_unit=2)))
    for stage in STAGES:
        run_stage(folder, stage, Inline())
    return folder


def test_every_stage_gives_every_element_one_status(done: CorpusFolder) -> None:
    status = folder_status(done)
    assert status.finished, status.problems
    assert dict(status.statuses) == {"corrupt": 1, "ok": 6}
    elements = sum(status.elements.values()) + status.panels
    assert elements >= 6
    assert list(status.stages) == ["deduplicate", "route", "caption", "judge"]
    for stage in status.stages.values():
        assert sum(stage.statuses.values()) == elements and stage.pending == 0
    assert status.stages["deduplicate"].statuses["duplicate"] >= 1
    assert status.stages["caption"].statuses["captioned"] >= 4
    assert status.stages["caption"].statuses["duplicate"] == status.stages["deduplicate"].statuses["duplicate"]


def test_captions_say_what_is_drawn(done: CorpusFolder) -> None:
    elements = {row.element_id: row for part in done.parts() for row in done.elements(part)}
    captions = list(done.rows("caption", "captions", CaptionRow))
    assert len({row.request_id for row in captions}) == len(captions)
    figures = [row for row in captions if elements[row.element_id].type in ("figure", "chart")]
    assert figures and all("Time (s)" in elements[row.element_id].description for row in figures)
    assert all(row.text and row.model == "embedded" and not row.flags for row in figures)
    assert any(elements[row.element_id].mentions for row in figures)


def test_stages_are_byte_identical_in_processes(done: CorpusFolder, papers: Path, tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path)
    register(folder.root, [papers])
    folder.save_settings(done.settings())
    for stage in STAGES:
        run_stage(folder, stage, Processes(workers=2) if stage in ("ingest", "caption") else Inline())
    assert result(tmp_path) == result(done.root)


def test_later_stages_are_done_again_only_where_something_changed(done: CorpusFolder, tmp_path: Path) -> None:
    before = {stage: [unit.key for unit in done.plan(stage)] for stage in STAGES}
    for stage in STAGES:
        run_stage(done, stage, Inline())
    assert {stage: [unit.key for unit in done.plan(stage)] for stage in STAGES} == before
    with pytest.raises(
        InputError, match=r"deduplicate is not finished .it was never started.; run `s1pro corpus caption"
    ):
        folder = CorpusFolder(tmp_path)
        register(folder.root, [next(Path(row.source_uri) for row in _ledger(done))])
        run_stage(folder, "ingest", Inline())
        run_stage(folder, "route", Inline())
    with pytest.raises(InputError, match="no such stage: 'fly'"):
        stage_named("fly")


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_training_reads_what_is_exported(done: CorpusFolder, tmp_path: Path, format: str) -> None:
    report = export(done, tmp_path, ExportSettings(format=format, validation=0.3))  # type: ignore[arg-type]
    assert report.captions == report.samples + sum(report.left_out.values())
    splits: dict[str, set[str]] = {}
    for name, file in report.files.items():
        samples = list(read_samples(tmp_path / name))
        assert len(samples) == file.samples > 0
        for sample in samples:
            splits.setdefault(name, set()).add(sample.entity)
            system, user, assistant = sample.messages or ()
            group = group_of_domain(str(sample.meta["domain"]))
            assert (sample.prompt_group, system.content) == (group, SYSTEM_PROMPTS[group])
            picture = Path(user.content[0]["image"])  # type: ignore[index, call-overload]
            assert picture.read_bytes()[:3] in (b"\x89PN", b"\xff\xd8\xff") and assistant.text
            assert sample.meta["licence"] == "CC0"
    names = list(splits.values())
    assert not any(a & b for i, a in enumerate(names) for b in names[:i])
    assert json.loads((tmp_path / "manifest.json").read_text())["captions"] == report.captions


def test_what_stands_in_a_question_of_an_evaluation_is_not_exported(done: CorpusFolder, tmp_path: Path) -> None:
    everything = export(done, tmp_path / "all", ExportSettings(validation=0))
    samples = list(read_samples(tmp_path / "all" / "train.parquet"))
    words = " ".join((samples[0].messages or ())[-1].text.split()[:20])
    alike = sum(words in " ".join((sample.messages or ())[-1].text.split()) for sample in samples)
    ContaminationIndex.of_questions({"t#1": f"Is it true? {words}"}).write(tmp_path / "index.json")
    guard = ContaminationSettings(index=tmp_path / "index.json")
    clean = export(done, tmp_path / "clean", ExportSettings(validation=0, contamination=guard))
    assert clean.left_out["in a question of an evaluation"] == clean.contamination["dropped"] >= alike >= 1
    assert clean.samples == everything.samples - clean.contamination["dropped"]
    assert clean.captions == clean.samples + sum(clean.left_out.values())
    marking = replace(guard, found="mark")
    marked = export(done, tmp_path / "marked", ExportSettings(validation=0, contamination=marking))
    named = [sample.meta.get("contamination") for sample in read_samples(tmp_path / "marked" / "train.parquet")]
    assert len(named) == everything.samples and named.count(["t#1"]) == marked.contamination["marked"]
    assert marked.contamination["marked"] == clean.contamination["dropped"]


def test_webdataset_shards_are_whole_and_repeatable(done: CorpusFolder, tmp_path: Path) -> None:
    reports = [
        export(done, tmp_path / name, ExportSettings(format="webdataset", shard_mb=1, validation=0)) for name in "ab"
    ]
    assert reports[0].files == reports[1].files
    members: Counter[str] = Counter()
    for name in reports[0].files:
        assert re.fullmatch(r"train-\d{6}\.tar", name)
        with tarfile.open(tmp_path / "a" / name) as tar:
            for entry in tar:
                key, _, ending = entry.name.partition(".")
                members[key] += 1
                if ending == "json":
                    content = tar.extractfile(entry)
                    assert content is not None and json.load(content)["messages"][1]["content"][0]["image"].startswith(
                        key
                    )
    assert set(members.values()) == {3} and len(members) == reports[0].samples


def test_samples_of_an_earlier_export_are_not_read_beside_new_ones(done: CorpusFolder, tmp_path: Path) -> None:
    """A folder of samples is read whole."""
    target = tmp_path / "samples"
    both = export(done, target, ExportSettings(validation=0.5))
    assert set(both.files) == {"train.parquet", "validation.parquet"}
    export(done, target, ExportSettings(validation=0.0))
    assert {path.name for path in target.glob("*.parquet")} == {"train.parquet"}
    with pytest.raises(InputError, match="holds samples as parquet"):
        export(done, target, ExportSettings(format="jsonl"))
    with pytest.raises(InputError, match="a corpus, a model or a run lies there"):
        export(done, done.root)
    (target / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json: not of an export"):
        export(done, target)
    assert {path.name for path in target.glob("*.parquet")} == {"train.parquet"}


def test_domains_and_splits() -> None:
    def row(route: str, topic: str) -> RouteRow:
        return RouteRow(element_id="e", topic=topic, topic_probability=1, scientific_probability=1, route=route)

    assert domain_of(row("scientific", "biology")) == "life"
    assert domain_of(row("scientific", "unknown")) == "papers"
    assert domain_of(row("general", "chemistry")) == "pictures"
    counts = Counter(split_of(str(n), 0.1) for n in range(4000))
    assert 300 < counts["validation"] < 500
    with pytest.raises(InputError, match="validation must be"):
        ExportSettings(validation=1.0)


def test_the_gallery_reconciles_and_needs_nothing_else(done: CorpusFolder, tmp_path: Path) -> None:
    status = write_gallery(done, tmp_path / "view.html", GallerySettings(documents=4))
    page = (tmp_path / "view.html").read_text(encoding="utf-8")
    assert "<script" not in page and not re.search(r'(?:href|src)="(?!#|data:image/)', page)
    assert f"{status.inputs} inputs, statuses of {status.inputs}" in page and "Passed." in page
    assert "broken.pdf" in page and "corrupt" in page
    assert page.count("data:image/jpeg") >= 3 and page.count('class="exhibit"') >= 3
    assert "Time (s)" in page and "Figure 1" in page and "duplicate" in page


def test_the_gallery_works_without_the_sources(papers: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").write_bytes((papers / "paper1.pdf").read_bytes())
    folder = CorpusFolder(tmp_path / "out")
    register(folder.root, [tmp_path / "in"])
    run_stage(folder, "ingest", Inline())
    (tmp_path / "in" / "a.pdf").unlink()
    write_gallery(folder, tmp_path / "view.html")
    assert "drawn without its source" in (tmp_path / "view.html").read_text(encoding="utf-8")


def test_the_commands_do_the_whole_way(papers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    inputs = [str(papers / "paper1.pdf"), str(papers / "broken.pdf")]
    one = ("--executor", "inline")
    assert main(["corpus", "ingest", *inputs, "--folder", out, *one]) == 0
    assert main(["corpus", "status", out]) == 0
    assert main(["corpus", "caption", out, *one, "--json"]) == 0
    assert main(["corpus", "view", out, "--documents", "1"]) == 0
    capsys.readouterr()
    assert main(["corpus", "export", out, str(tmp_path / "samples"), "--validation", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["captions"] == told["samples"] + sum(told["left_out"].values())
    assert main(["corpus", "retry", out, "--status", "corrupt", *one]) == 0
    assert "corrupt 1, ok 1" in capsys.readouterr().out
    assert main(["corpus", "ingest", str(papers), "--folder", out, *one]) == 0
    assert main(["corpus", "status", out, "--json"]) == 1  # captions of the new papers are pending
    assert json.loads(capsys.readouterr().out.split("reconcile; something is pending")[-1])["reconciled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "DIR"], "no corpus folder (it has no inputs.parquet)"),
        (["ingest", "--folder", "DIR"], "there are no inputs; give PDF files or folders of them"),
        (["ingest", "DIR/none.pdf", "--folder", "DIR/out"], "none.pdf: there is no such file or folder"),
        (["ingest", "DIR", "--folder", "DIR/out"], "no .pdf file in this folder"),
        (["ingest", "--folder", "DIR/x", "--set", "ingest.limits.page_seconds=0"], "page_seconds must be positive"),
        (["ingest", "--folder", "DIR/x", "--set", "ingest.limits.page_seconds=nan"], "page_seconds must be positive"),
        (["ingest", "DIR/a.pdf", "--folder", "DIR/model"], "holds a model or a run (config.json)"),
        (
            ["ingest", "--folder", "DIR/x", "--set", "caption.endpoints.0.name=a"],
            "endpoints.0: the list has no entries",
        ),
        (["caption", "DIR/corpus", "--api-key-variable", "KEY"], "--api-key-variable belongs to --endpoint"),
        (["ingest", "--folder", "DIR/x", "--licence", "CC0"], "--licence has no effect without inputs"),
        (["ingest", "--folder", "DIR/x", "--executor", "inline", "--workers", "3"], "--workers has no effect"),
        (["ingest", "--folder", "DIR/x", "--executor", "slurm", "--slurm-set", "account"], "write it as NAME=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model/config.json", "corpus/inputs.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert main(["corpus", *(text.replace("DIR", str(tmp_path)) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _ledger(folder: CorpusFolder) -> list:  # type: ignore[type-arg]
    from s1pro.corpus.ledger import read_ledger

    return read_ledger(folder.root)


def test_rows_of_copies_name_their_representative(done: CorpusFolder) -> None:
    rows = {row.element_id: row for row in done.rows("deduplicate", "duplicates", DuplicateRow)}
    elements = {row.element_id: row for part in done.parts() for row in done.elements(part, without=())}
    assert set(rows) == set(elements)
    for row in rows.values():
        if row.decision == "duplicate":
            assert rows[row.representative].decision == "representative"
            assert elements[row.element_id].doc_id != elements[row.representative].doc_id
