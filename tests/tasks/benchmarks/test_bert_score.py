"""BERTScore by hand on vectors of two numbers, and through a tiny random encoder against a loop over its tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.cli.bert_score import BertScore
from s1pro.tasks.benchmarks.bert_score import greedy_f
from s1pro.tasks.benchmarks.registry import load
from tests.fake_endpoint import FakeEndpoint

TEXTS = {"Why is ice light?": "the water is cold", "What is it?": "a small cat"}


def vectors(rows: list[tuple[float, float]], counted: list[bool] | None = None) -> tuple[Any, Any]:
    return np.array(rows, dtype=float).reshape(-1, 2), np.array(counted or [True] * len(rows), dtype=bool)


def test_by_hand() -> None:
    """Directions at 0 and 90 degrees against one at 60: cosines 1/2 and sqrt(3)/2. Lengths do not matter."""
    two, one = vectors([(2, 0), (0, 5)]), vectors([(0.5, math.sqrt(3) / 2)])
    recall, precision = (0.5 + math.sqrt(3) / 2) / 2, math.sqrt(3) / 2
    assert greedy_f(two, one) == pytest.approx(2 * precision * recall / (precision + recall))
    assert greedy_f(one, two) == pytest.approx(greedy_f(two, one))
    assert greedy_f(two, two) == pytest.approx(1)


def test_marks_are_matched_and_not_counted() -> None:
    """Only the first token of each is in the means; that of the reference finds its like in a mark."""
    reference = vectors([(1, 0), (0, 1)], [True, False])
    hypothesis = vectors([(0, 1), (1, 0)], [True, False])
    assert greedy_f(reference, hypothesis) == pytest.approx(1)
    assert greedy_f(vectors([(1, 0)], [False]), hypothesis) == 0
    assert greedy_f(vectors([]), hypothesis) == 0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny RoBERTa, drawn, with a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "water", "is", "cold", "a", "small", "cat", "ice"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]",
        model_max_length=12,
    )  # fmt: skip
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=20,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_an_encoder_against_a_loop(encoder: Path) -> None:
    import torch
    from transformers import BertModel

    score, model = BertScore(encoder, layer=2), BertModel.from_pretrained(encoder)

    def states(ids: list[int]) -> Any:
        with torch.no_grad():
            return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0].double().numpy()

    gold, said = states([1, 4, 5, 6, 7, 2]), states([1, 8, 5, 3, 2])  # the water is cold; a water <unknown>

    def best(vector: Any, others: Any) -> float:
        return max(float(vector @ o / math.sqrt(vector @ vector) / math.sqrt(o @ o)) for o in others)

    recall = sum(best(v, said) for v in gold[1:-1]) / 4
    precision = sum(best(v, gold) for v in said[1:-1]) / 3
    expected = 2 * precision * recall / (precision + recall)
    assert score(" the water is cold", "a water xyz ") == pytest.approx(expected, abs=1e-5)
    assert score("the water is cold", "the water is cold") == pytest.approx(1)
    assert score("the water", "") == 0
    assert len(score.vectors("cat " * 50)[0]) == 12


def test_open_questions(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "Mol_Instructions/open_question"
    folder = tmp_path / "data" / name / "test"
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps([{"input": q, "output": a} for q, a in TEXTS.items()]))
    with pytest.raises(InputError, match=r"open_question is not computed: it needs weights .*--bert-score"):
        load("scireasoner", tmp_path / "data", subtasks=[name])
    run = ["eval", "--benchmark", f"scireasoner/{name}", "--data", str(tmp_path / "data")]
    replies = {"Why is ice light?": "Answer: the water is cold", "What is it?": "<think>a small cat"}
    with FakeEndpoint(lambda number, path, body: replies[body["messages"][-1]["content"]]) as server:
        run += ["--url", server.url, "--model", "m", "--output", str(tmp_path / "run")]
        assert main(run) == 2
        assert main([*run, "--bert-score", str(encoder), "--bert-score-layer", "4"]) == 2
        assert "has the layers 1 to 3" in capsys.readouterr().err
        assert main([*run, "--bert-score", str(encoder), "--bert-score-layer", "2"]) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())["tasks"][0]["metrics"]
    other = BertScore(encoder, layer=2)("a small cat", "<think>a small cat")
    same = BertScore(encoder, layer=2)("the water is cold", "the water is cold")
    assert found["compat"] == pytest.approx((same + other) / 2) and found["strict"] == pytest.approx(same / 2)
    assert found["strict.n_valid"] == 1
    assert main(["eval", "--bert-score", str(encoder), "--url", "http://x", "--model", "m"]) == 2
    capsys.readouterr()
