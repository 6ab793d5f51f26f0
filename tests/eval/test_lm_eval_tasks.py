"""Tasks for lm-eval: what is written, and that the real harness against our server gives the number of `s1pro eval`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s1pro.cli import main
from s1pro.cli.lm_eval_tasks import process_results
from tests.serve.http.running import scripted


def questions(folder: Path) -> Path:
    path = folder / "doubles.csv"
    path.write_text("id,question,answer\n" + "".join(f"q{i},Double {i},{2 * i}\n" for i in range(6)), encoding="utf-8")
    return path


def write(prompt: str) -> str:
    number = int(prompt.rpartition("Double ")[2].split("<")[0])
    return f"it is {2 * number}" if number % 3 else "no idea"


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = questions(tmp_path)
    out = tmp_path / "tasks"
    assert (
        main(["eval", "--file", str(file), "--metric", "number", "--system", "Be short.", "--lm-eval", str(out)]) == 0
    )
    assert "--tasks s1pro_doubles" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "s1pro_doubles.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == [f"Double {i}" for i in range(6)]
    assert 'description: "Be short."' in (out / "s1pro_doubles.yaml").read_text()
    assert process_results(rows[2], ["so it is 4"]) == {"score": 1.0}
    assert process_results(rows[2], ["5"]) == {"score": 0.0}


def test_media_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "q.csv").write_text("question,answer,image\nWhat?,x,a.png\n")
    arguments = ["eval", "--file", str(tmp_path / "q.csv"), "--metric", "exact", "--lm-eval", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "only tasks that ask in words" in capsys.readouterr().err


@pytest.mark.slow
def test_the_harness_against_our_server_gives_the_same_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = ["--file", str(questions(tmp_path)), "--metric", "number", "--system", "Be short."]
    out = tmp_path / "tasks"
    assert main(["eval", *selection, "--lm-eval", str(out)]) == 0
    capsys.readouterr()
    with scripted(write) as (url, engine):
        endpoint = ["--url", f"{url}/v1", "--model", "tiny", "--output", str(tmp_path / "run"), "--json"]
        assert main(["eval", *selection, *endpoint]) == 0
        [ours] = json.loads(capsys.readouterr().out)
        asked = sorted(engine.prompts)
        engine.prompts.clear()
        command = [
            sys.executable, "-m", "lm_eval", "--model", "local-chat-completions", "--model_args",
            f"model=tiny,base_url={url}/v1/chat/completions,num_concurrent=2", "--tasks", "s1pro_doubles",
            "--include_path", str(out), "--output_path", str(tmp_path / "harness"), "--apply_chat_template",
        ]  # fmt: skip
        offline = {
            "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none", "OMP_NUM_THREADS": "1",
            "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        root = Path(__file__).parents[2]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **offline}, timeout=250, cwd=root, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert sorted(engine.prompts) == asked  # system message and question, token for token
    [results] = (tmp_path / "harness").rglob("results_*.json")
    theirs = json.loads(results.read_text())["results"]["s1pro_doubles"]
    assert theirs["score,none"] == pytest.approx(ours["score"]["value"]) == pytest.approx(4 / 6)
