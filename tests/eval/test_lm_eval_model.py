"""The model class for lm-eval: log-probs against the transformers class, answers against our own evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.checkpoint.released import save_network
from s1pro.cli import main
from s1pro.cli.lm_eval_model import S1ProLM, sampling_of
from s1pro.model.network import Network
from tests.eval.test_lm_eval_tasks import questions
from tests.serve.http import running

PAIRS = (("The quick brown", " fox jumps"), ("", "Ghent?"), ("aspirin is ", "CC(=O)O"), ("yes", " or no"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_network(Network(running.config(), seed=3), folder)
    running.processor().save_pretrained(folder)
    return folder


class Request:
    def __init__(self, *args: Any) -> None:
        self.args = args


def hugging_face(folder: Path, ids: list[int]) -> torch.Tensor:
    """Log-probs of every next token, by the transformers class."""
    from s1pro import S1ProForConditionalGeneration

    model = S1ProForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits.double(), dim=-1)


def test_log_probs_are_those_of_the_transformers_class(folder: Path) -> None:
    lm = S1ProLM(str(folder), batch_size=1)
    tokenizer = running.processor().tokenizer
    greedy_text = lm.generate_until([Request("The quick", {"until": [], "max_gen_toks": 3})])[0]
    cases = [*PAIRS, ("The quick", greedy_text)] if tokenizer.encode(greedy_text) else list(PAIRS)
    found = lm.loglikelihood([Request(*pair) for pair in cases])
    for (context, continuation), (score, greedy) in zip(cases, found, strict=True):
        before = tokenizer.encode(context.rstrip()) or [tokenizer.eos_token_id]
        ids = [*before, *tokenizer.encode(context + continuation)[len(tokenizer.encode(context.rstrip())) :]]
        log_probs = hugging_face(folder, ids)
        places = range(len(before) - 1, len(ids) - 1)
        assert score == pytest.approx(sum(float(log_probs[i, ids[i + 1]]) for i in places), abs=1e-4)
        assert greedy == all(int(log_probs[i].argmax()) == ids[i + 1] for i in places)


def test_rolling_predicts_every_token_once(folder: Path) -> None:
    text = "What is the weather in Ghent? The answer is 42, yes or no. " * 3
    ids = running.processor().tokenizer.encode(text)
    start = running.processor().tokenizer.eos_token_id
    log_probs = hugging_face(folder, [start, *ids])
    whole = sum(float(log_probs[i, token]) for i, token in enumerate(ids))
    (found,) = S1ProLM(str(folder)).loglikelihood_rolling([Request(text)])
    assert found == pytest.approx(whole, abs=1e-3)
    short = S1ProLM(str(folder), max_length=17)
    (windows,) = short.loglikelihood_rolling([Request(text)])
    parts, expected = [ids[i : i + 16] for i in range(0, len(ids), 16)], 0.0
    for number, part in enumerate(parts):
        before = [start, *ids][number * 16 + len(part) - 16 : number * 16 + 1] if number else [start]
        log_probs = hugging_face(folder, [*before, *part][:-1])
        expected += sum(float(log_probs[len(before) - 1 + i, token]) for i, token in enumerate(part))
    assert windows == pytest.approx(expected, abs=1e-3)


def test_chat_templates_and_generation(folder: Path) -> None:
    lm = S1ProLM(str(folder))
    turns = [{"role": "user", "content": "Double 3"}]
    prompt = lm.apply_chat_template(turns)
    assert prompt == running.processor().render(turns, add_generation_prompt=True, enable_thinking=False)
    opened = lm.apply_chat_template([*turns, {"role": "assistant", "content": "It is"}], add_generation_prompt=False)
    assert opened.endswith("It is")
    longer, shorter = lm.generate_until(
        [Request(prompt, {"until": [], "max_gen_toks": n, "do_sample": False, "temperature": 0.7}) for n in (12, 4)]
    )
    assert longer.startswith(shorter) and longer != shorter
    (cut,) = lm.generate_until([Request(prompt, {"until": longer[3:5], "max_gen_toks": 12})])
    assert cut == longer[: longer.index(longer[3:5])]
    with pytest.raises(InputError, match="has one chat template"):
        lm.chat_template("other")
    with pytest.raises(InputError, match="generation_kwargs: num_beams not known here"):
        sampling_of({"num_beams": 4})
    with pytest.raises(InputError, match="there is no such folder"):
        S1ProLM(str(folder / "none"))


@pytest.mark.slow
def test_the_harness_gives_the_answers_of_our_evaluation(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = ["--file", str(questions(tmp_path)), "--metric", "contains", "--system", "Be short."]
    length = ["--max-new-tokens", "24"]
    assert main(["eval", *selection, *length, "--lm-eval", str(tmp_path / "tasks")]) == 0
    assert main(["eval", str(folder), *selection, *length, "--output", str(tmp_path / "run"), "--json"]) == 0
    ours = {
        row["id"]: row["response"]
        for line in (tmp_path / "run" / "answers" / "doubles.jsonl").read_text().splitlines()
        if (row := json.loads(line))
    }
    command = [
        sys.executable, "-m", "s1pro", "lm-eval", "--model", "s1pro", "--model_args", f"folder={folder}", "--tasks",
        "s1pro_doubles", "--include_path", str(tmp_path / "tasks"), "--output_path", str(tmp_path / "harness"),
        "--apply_chat_template", "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **offline}, timeout=250, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [samples] = (tmp_path / "harness").rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert {row["doc"]["item"]: row["resps"][0][0] for row in rows} == ours and len(ours) == 6
    assert len(set(ours.values())) > 1
