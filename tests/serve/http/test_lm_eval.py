"""The real lm-eval harness against a running server: choices by log-likelihood, and generation through chat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serve.http.running import WEB, post, processor, scripted

pytestmark = pytest.mark.slow

QUESTIONS = [("What is the answer?", ["42", "the dog"], 0), ("Is it lazy?", ["yes or no", "quick fox", "Ghent"], 2)]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
{rest}
metadata:
  version: 1.0
"""
CHOICES = 'doc_to_choice: "{{choices}}"\ndoc_to_target: "{{gold}}"\nmetric_list:\n  - metric: acc'
GENERATED = (
    'doc_to_target: "{{target}}"\ngeneration_kwargs:\n  until: ["\\n\\n"]\n  max_gen_toks: 16\n  temperature: 0.0\n'
    "metric_list:\n  - metric: exact_match"
)


def evaluate(folder: Path, task: str, model: str, arguments: str, *more: str) -> tuple[dict[str, Any], list[Any]]:
    """Results and samples of one run of the harness."""
    command = [
        sys.executable,
        "-m",
        "lm_eval",
        "--model",
        model,
        "--model_args",
        arguments,
        "--tasks",
        task,
        "--include_path",
        str(folder),
        "--output_path",
        str(folder / "out"),
        "--log_samples",
        *more,
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OPENAI_API_KEY": "none",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    [results] = (folder / "out").rglob("results_*.json")
    [samples] = (folder / "out").rglob("samples_*.jsonl")
    return json.loads(results.read_text())["results"][task], [
        json.loads(line) for line in samples.read_text().splitlines()
    ]


def write_task(folder: Path, name: str, kind: str, rows: list[dict[str, Any]], rest: str) -> None:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data, kind=kind, rest=rest))


def test_choices_by_log_likelihood(server: str, tmp_path: Path) -> None:
    rows = [{"question": q, "choices": choices, "gold": gold} for q, choices, gold in QUESTIONS]
    write_task(tmp_path, "choose", "multiple_choice", rows, CHOICES)
    arguments = f"model=tiny,base_url={server}/v1/completions,tokenizer_backend=remote,max_length=2048"
    result, samples = evaluate(tmp_path, "choose", "local-completions", arguments)
    tokenizer, right = processor().tokenizer, 0
    for sample in samples:
        question, choices, gold = QUESTIONS[sample["doc_id"]]
        scores = []
        for choice, answered in zip(choices, sample["filtered_resps"], strict=True):
            context, both = tokenizer.encode(question), tokenizer.encode(f"{question} {choice}")
            body = {"prompt": [both], "max_tokens": 0, "echo": True, "logprobs": 1}
            logprobs = post(f"{server}/v1/completions", body).json()["choices"][0]["logprobs"]["token_logprobs"]
            scores.append(sum(logprobs[len(context) :]))
            assert float(answered[0]) == pytest.approx(scores[-1], abs=1e-3)
        right += scores.index(max(scores)) == gold
    assert result["acc,none"] == right / len(QUESTIONS)


def test_generation_through_chat(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}?", "target": str(i % 3)} for i in range(4)]
    write_task(tmp_path, "tell", "generate_until", rows, GENERATED)

    def write(prompt: str) -> str:
        return str(int(prompt.partition("What is ")[2].partition("?")[0]) % 2)

    with scripted(write) as (url, engine):
        arguments = f"model=tiny,base_url={url}/v1/chat/completions,num_concurrent=2"
        result, samples = evaluate(tmp_path, "tell", "local-chat-completions", arguments, "--apply_chat_template")
        assert WEB.get(f"{url}/health").status_code == 200
    assert result["exact_match,none"] == 0.5  # 0 and 1 of 0, 1, 2, 0
    assert all(sampling.stop == ("\n\n",) and sampling.max_new_tokens == 16 for sampling in engine.samplings)
    assert len(samples) == 4
