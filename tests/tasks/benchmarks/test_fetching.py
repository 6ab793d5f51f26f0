"""Data of benchmarks from a Hub, by command line against a server of the test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.cli import main
from s1pro.tasks.benchmarks import fetching
from s1pro.tasks.benchmarks.registry import BENCHMARKS
from tests.fake_hub import COMMIT, FakeHub

LINES = "".join(
    json.dumps({"key": n, "prompt": f"Say {n}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
    + "\n"
    for n in range(3)
).encode()


@pytest.fixture
def ifeval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark IFEval, from the data set of the test."""
    for name in ("ifeval", "gpqa", "mmlu-pro", "scits"):
        row = replace(fetching.FETCHABLE[name], repo="some/where")
        monkeypatch.setitem(fetching.FETCHABLE, name, row)  # type: ignore[arg-type]


def test_every_benchmark_is_fetched_or_has_a_reason() -> None:
    assert fetching.FETCHABLE.keys() | fetching.NOT_FETCHED.keys() == BENCHMARKS.keys()
    assert not fetching.FETCHABLE.keys() & fetching.NOT_FETCHED.keys()
    for name, row in fetching.FETCHABLE.items():
        benchmark = BENCHMARKS[name]
        assert row.repo in benchmark.source
        if row.licence and not row.terms:
            assert benchmark.licence.lower().startswith(row.licence)
        free = ("mit", "apache-2.0")
        assert row.terms or row.licence in free  # everything else must be accepted
        assert row.terms or "not verified" not in benchmark.licence


def test_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ifeval: None
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with FakeHub({"README.md": b"read me", "ifeval_input_data.jsonl": LINES}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        run = ["data", "fetch", "ifeval", "--to", str(tmp_path / "ifeval")]
        assert main(run) == 0
        out = capsys.readouterr().out
        assert f"1 files, 0.0 MB of some/where at {COMMIT[:12]} (apache-2.0)" in out and "ifeval/test 3" in out
        assert hub.asked("store") == ["/ifeval_input_data.jsonl"]  # nothing that nobody asked for
        assert all("Authorization" not in headers for _, _, headers in hub.requests)  # there is no gate
        assert main([*run, "--json"]) == 0
        assert len(hub.asked("store")) == 1
        said = json.loads(capsys.readouterr().out)
    assert said["items"] == {"ifeval/test": 3} and said["files"] == {"ifeval_input_data.jsonl": len(LINES)}
    note = json.loads((tmp_path / "ifeval" / "fetched.json").read_text())
    assert (note["repo"], note["commit"], note["licence"]) == ("some/where", COMMIT, "apache-2.0")
    assert {path.name for path in (tmp_path / "ifeval").iterdir()} == {"ifeval_input_data.jsonl", "fetched.json"}


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["data", "fetch", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_what_is_refused_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], ifeval: None) -> None:
    to = ("--to", tmp_path / "data")
    assert "name a benchmark; --list" in failing(capsys)
    assert "there is no benchmark 'ifevil'" in failing(capsys, "ifevil")
    assert "matbench is not fetched: the scorer reads the archive" in failing(capsys, "matbench", *to)
    assert "non-commercial use only" in failing(capsys, "scits", *to)
    assert "items are not to be published" in failing(capsys, "gpqa", *to)
    assert "behind a gate" in failing(capsys, "gpqa", *to, "--accept-licence", "--token-variable", "S1PRO_NO_SUCH")
    assert "--max-gb is 0.0" in failing(capsys, "ifeval", *to, "--max-gb", 0)
    with FakeHub({"other.txt": b"x"}, licence="odc-by") as hub:
        here = ("ifeval", *to, "--endpoint", hub.url)
        assert "the Hub states the licence odc-by, expected was apache-2.0" in failing(capsys, *here)
        said = failing(capsys, *here, "--accept-licence")
        assert "there is no ifeval*.jsonl or *.parquet; there is other.txt" in said
        hub.files["ifeval_input_data.jsonl"] = LINES
        assert "GB in 1 files are more than 1e-07" in failing(capsys, *here, "--accept-licence", "--max-gb", 1e-7)
        hub.files["ifeval_input_data.jsonl"] = LINES.replace(b"prompt", b"promt")
        assert "line 1: the field 'prompt' is missing" in failing(capsys, *here, "--accept-licence")
    assert "cannot be reached" in failing(capsys, *here)
    assert not (tmp_path / "data" / ".fetched.json.part").exists()


def test_folders_and_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ifeval: None
) -> None:
    record = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\nWhat?,a,b,c,d\n"
    with FakeHub({"gpqa_diamond.csv": record.encode()}, licence="cc-by-4.0", token="secret") as hub:
        monkeypatch.setenv("S1PRO_TEST_TOKEN", "secret")
        run = ["data", "fetch", "gpqa", "--to", str(tmp_path / "gpqa"), "--endpoint", hub.url, "--accept-licence"]
        assert main([*run, "--token-variable", "S1PRO_TEST_TOKEN"]) == 0
        assert "secret" not in capsys.readouterr().out + (tmp_path / "gpqa" / "fetched.json").read_text()
    listing_files = {"ETT/meta_data.jsonl": b"1", "ETH/meta_data.jsonl": b"2"}
    with FakeHub(listing_files, licence="cc-by-nc-sa-4.0") as hub:
        run = ["data", "fetch", "scits", "--to", str(tmp_path / "scits"), "--endpoint", hub.url, "--accept-licence"]
        assert main(run) == 2  # these are no records, and it says so
        assert "meta_data.jsonl" in capsys.readouterr().err
        assert (tmp_path / "scits" / "ETT" / "meta_data.jsonl").read_bytes() == b"1"
    with FakeHub({"data/test-0.parquet": b"1", "data/test-1.parquet": b"2"}, licence="mit") as hub:
        run = ["data", "fetch", "mmlu-pro", "--to", str(tmp_path / "mmlu"), "--endpoint", hub.url]
        assert main(run) == 2
        assert "not a Parquet file" in capsys.readouterr().err
        assert (tmp_path / "mmlu" / "test-1.parquet").read_bytes() == b"2"  # without its folder
    assert main(["data", "fetch", "--list"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == len(BENCHMARKS) and "mmlu-pro" in said and "no: it is on GitHub" in said
