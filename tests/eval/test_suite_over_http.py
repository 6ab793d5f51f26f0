"""The same model in this process and through its own HTTP server: identical answers, identical scores."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1pro.checkpoint.released import load_network, save_network
from s1pro.cli import main
from s1pro.corpus.write import write_molecules
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.recipes import demo_training
from s1pro.recipes.demo_training import DemoSettings
from s1pro.science.compounds import read_compounds
from s1pro.science.molecules import SMALL_MOLECULES, load_molecules
from s1pro.serve.async_engine import AsyncEngine
from s1pro.serve.client import build_engine
from s1pro.serve.http.service import Service
from tests.serve.http import running

LIMIT = 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the demo leaves it: a (random) model that takes media, and the molecules."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    compounds = [compound for i, compound in enumerate(read_compounds()) if i % 12 == 0]
    (folder / "data").mkdir(parents=True)
    write_molecules(load_molecules(SMALL_MOLECULES, compounds=compounds).molecules, folder / "data/molecules.parquet")
    save_network(Network(running.config(), seed=3), folder / "model")
    running.processor().save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def url(demo: Path) -> Iterator[str]:
    """`s1pro serve` of that model."""
    processor = Processor.from_pretrained(demo / "model")
    engine = AsyncEngine(build_engine(load_network(demo / "model").eval(), processor, max_batch=8))
    settings = replace(running.SETTINGS, control=False)
    with running.running(Service(engine, processor, settings, max_batch=8)) as address:
        yield f"{address}/v1"


def evaluate(*arguments: object) -> int:
    return main(["eval", *map(str, arguments)])


def outcome(folder: Path) -> dict[str, Any]:
    """Everything but the time and the requests of the session."""
    found = json.loads((folder / "results.json").read_text())
    return {task["task"]: {key: value for key, value in task.items() if key != "cost"} for task in found["tasks"]}


def responses(folder: Path, task: str) -> dict[str, str]:
    with (folder / "answers" / f"{task}.jsonl").open(encoding="utf-8") as file:
        return {line["id"]: line["response"] for line in map(json.loads, file)}


def test_the_suite_of_the_demo_scores_the_same_in_process_and_over_http(
    demo: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_training, "DemoSettings", functools.partial(DemoSettings, items=8))
    shared = ("--suite", "demo", "--limit", LIMIT, "--media", tmp_path / "media")
    assert evaluate(demo / "model", *shared) == 0  # finds the molecules beside the model
    assert (
        evaluate(
            "--url", url, "--model", "tiny", *shared, "--data", demo, "--no-thinking", "--output", tmp_path / "http"
        )
        == 0
    )
    local, remote = outcome(demo / "model" / "eval-demo"), outcome(tmp_path / "http")
    assert tuple(local) == DemoSettings().tasks
    assert local == remote
    for name in local:
        here, there = (responses(place, name) for place in (demo / "model" / "eval-demo", tmp_path / "http"))
        assert here == there and len(here) == LIMIT
    settings = json.loads((tmp_path / "http" / "settings.json").read_text())
    assert settings["sampling"]["max_new_tokens"] == DemoSettings().max_new_tokens
    capsys.readouterr()


def test_sampled_answers_are_the_same_too(
    demo: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "atoms.csv"
    lines = ("id,question,answer", *(f"{i},How many atoms has {'C' * i}?,{i}" for i in range(1, 7)))
    file.write_text("\n".join(lines), encoding="utf-8")
    shared = ("--file", file, "--metric", "number", "--temperature", 1.0, "--top-k", 20, "--seed", 11)
    assert evaluate(demo / "model", *shared, "--repeats", 2, "--output", tmp_path / "local") == 0
    endpoint = ("--url", url, "--model", "tiny", "--no-thinking")
    assert evaluate(*endpoint, *shared, "--repeats", 2, "--output", tmp_path / "http") == 0
    assert outcome(tmp_path / "local") == outcome(tmp_path / "http")
    capsys.readouterr()
    assert evaluate("--compare", tmp_path / "local", tmp_path / "http", "--json") == 0
    [comparison] = json.loads(capsys.readouterr().out)
    assert (comparison["num_items"], comparison["difference"]["ties"], comparison["p"]) == (6, 6, 1.0)
    first, second = (responses(tmp_path / name, "atoms") for name in ("local", "http"))
    assert first == second
    assert len(set(first.values())) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://localhost:1/v1"], "--url needs --model"),
        (["DIR", "--url", "http://localhost:1/v1", "--model", "m"], "not both"),
        (["--url", "nonsense", "--model", "m", "--tasks", "count_in_smiles"], "--url must be like"),
        (["--url", "http://localhost:1/v1", "--model", "m", "--file", "q.csv"], "--file needs --metric"),
        (["--url", "http://localhost:1/v1", "--model", "m", "--benchmark", "smolinstruct"], "needs --data"),
        (["--url", "http://localhost:1/v1", "--model", "m", "--suite", "demo", "--data", "DIR"], "run `s1pro demo`"),
        (["--url", "http://localhost:1/v1", "--model", "m", "--suite", "demo", "--tasks", "x"], "give one of"),
        (["--compare", "DIR", "DIR"], "is no evaluation"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *(argument.replace("DIR", str(tmp_path)) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
