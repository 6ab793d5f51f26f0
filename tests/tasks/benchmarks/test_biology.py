"""Biology-Instructions: every metric by hand, unreadable replies as upstream takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import biology_instructions, biology_reading
from s1pro.tasks.benchmarks.biology_metrics import MODIFICATIONS, classes_of, f1_max, listed_classes, mixed
from s1pro.tasks.benchmarks.spec import Pair
from tests.tasks.benchmarks.scoring import numbers

NAME = "biology-instructions"


def records(*golds: Any) -> list[dict[str, Any]]:
    kinds = {str: "cls", float: "number", dict: "dict"}
    return [{"prompt": "q", "ground_truth": g, "meta_data": {"ans_type": kinds[type(g)], "task": "t"}} for g in golds]


def box(*values: object) -> list[str]:
    return [f"\\boxed{{{value}}}" for value in values]


def test_matthews_takes_the_unreadable_for_the_opposite() -> None:
    golds = records("positive", "negative", "positive", "negative")
    got = numbers(NAME, "DNA-cpd", golds, ["\\boxed{Yes}", "\\boxed{no}", "hm", "\\boxed{\\text{negative}}"])
    assert got["compat"] == pytest.approx(100 * matthews_corrcoef([1, 0, 1, 0], [1, 0, 0, 0]))
    assert got["strict"] == pytest.approx(100 * matthews_corrcoef(list("1010"), ["1", "0", "x", "0"]))
    assert got["compat.of_valid"] == pytest.approx(100.0)
    assert numbers(NAME, "DNA-cpd", golds, ["\\boxed{yes}"] * 4)["compat"] == 0.0


def test_a_sentence_is_a_class_for_strict_only() -> None:
    assert biology_reading.upstream_class("Yes, it is", {}) is None
    assert biology_reading.strict_class("Yes, it is", {}) is True
    assert biology_reading.upstream_class("\\boxed{true}", {}) is None
    assert biology_reading.upstream_class("\\boxed{yes}</think> no idea", {}) is None


def test_correlations() -> None:
    golds, said = [1.0, 2.0, 4.0, 8.0], [1.0, 3.0, 2.0]
    replies = [*box(*said), "unknown"]
    got = numbers(NAME, "RNA-CRISPROnTarget", records(*golds), replies)
    assert got["compat"] == pytest.approx(100 * spearmanr(golds[:3], said)[0] * 3 / 4)
    got = numbers(NAME, "RNA-Isoform", records(*golds), replies)
    assert got["compat"] == pytest.approx(100 * pearsonr(golds[:3], said)[0] ** 2 * 3 / 4)
    total = sum((g - np.mean(golds[:3])) ** 2 for g in golds[:3])
    assert got["strict"] == pytest.approx(100 * (1 - (0 + 1 + 4) / total) * 3 / 4)


@pytest.mark.parametrize("replies", [box(1, 1, 1), ["", "", ""], [*box(1), "", ""]])
def test_undefined_correlations_are_zero(replies: list[str]) -> None:
    for name in ("Protein-Stability", "RNA-MeanRibosomeLoading"):
        got = numbers(NAME, name, records(1.0, 2.0, 3.0), replies)
        assert got["compat"] == 0.0


def test_objects_of_numbers() -> None:
    golds = records(*({"hk": float(i), "dev": float(-i)} for i in range(4)))
    replies = [
        'thus \\boxed{{"hk": 0, "dev": 1}}',
        "{'hk': 2, 'dev': 0.5}",
        '{"hk": "high", "dev": -2}',
        '{"hk": 1, "other": 2}',
    ]
    got = numbers(NAME, "DNA-enhancer_activity", golds, replies)
    hk = pearsonr([0, 1], [0, 2])[0] * 2 / 4
    dev = pearsonr([0, -1, -2], [1, 0.5, -2])[0] * 3 / 4
    assert got["compat"] == pytest.approx(100 * (hk + dev) / 2)
    assert biology_reading.upstream_dict('{"hk": 1, "dev": 2} or {...}', golds[0]) is None
    assert biology_reading.strict_dict('{"hk": 1, "dev": 2} or {...}', golds[0]) == {"hk": 1.0, "dev": 2.0}


def test_modifications() -> None:
    assert listed_classes(" m6a, AtoI,nothing") == {"m6A", "AtoI"}
    assert classes_of("m6Am and m6A; not the 5m6A9") == {"m6Am", "m6A"}
    golds, said = ["m6A", "AtoI,m6A", "none", "Psi"], ["m6A", "m6A", "AtoI"]
    got = numbers(NAME, "RNA-Modification", records(*golds), [*box(*said), "no box"])
    truth = np.array([[name in listed_classes(g) for name in MODIFICATIONS] for g in golds])
    guess = np.array([[name in listed_classes(s) for name in MODIFICATIONS] for s in said] + [[True] * 13])
    areas = [roc_auc_score(truth[:, c], guess[:, c]) for c in range(13) if 0 < truth[:, c].sum() < 4]
    assert got["compat"] == pytest.approx(100 * np.mean(areas))


def test_names() -> None:
    got = numbers(
        NAME, "RNA-NoncodingRNAFamily", records("HACA-box", "tRNA", "tRNA"), box("haca-box", "tRNA.", "miRNA")
    )
    assert got["compat"] == pytest.approx(100 / 3)
    assert got["strict"] == pytest.approx(200 / 3)
    got = numbers(NAME, "Protein-Solubility", records("positive", "negative"), ["\\boxed{Yes}", "negative"])
    assert (got["compat"], got["strict"]) == (50.0, 100.0)


def naive_f1_max(said: np.ndarray, truth: np.ndarray) -> float:
    """Every cut of the common ranking, counted from scratch."""
    cells = sorted((-said[i, j], i, j) for i in range(len(said)) for j in range(said.shape[1]))
    best = 0.0
    for stop in range(1, len(cells) + 1):
        chosen: dict[int, list[int]] = {}
        for _, i, j in cells[:stop]:
            chosen.setdefault(i, []).append(j)
        precision = np.mean([truth[i, js].mean() for i, js in chosen.items()])
        recall = sum(truth[i, js].sum() / truth[i].sum() for i, js in chosen.items()) / len(said)
        best = max(best, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return best


def test_fmax() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        truth = (random.random((4, 5)) < 0.5).astype(float)
        truth[:, 0] = 1.0
        said = random.choice([0.0, 0.5, 1.0], (4, 5))
        assert f1_max(said, truth) == pytest.approx(naive_f1_max(said, truth), abs=1e-6)
    assert f1_max([], []) == 0.0
    golds, replies = records("EC1.1.1.1,EC2.7.11.-", "EC3.4.21.4"), [*box("EC1.1.1.1"), "none"]
    got = numbers(NAME, "Protein-FunctionEC", golds, replies)
    assert got["strict"] == pytest.approx(200 * 1 * 0.25 / 1.25)
    assert got["compat"] >= got["strict"] - 1e-6


def pairs(*values: tuple[float, float | None]) -> list[Pair]:
    return [Pair(gold=gold, prediction=said) for gold, said in values]


def test_mixed_score() -> None:
    got = mixed(unread=0.0)(pairs((10, 20), (50, 60), (80, None), (20, 5000)))
    mae, range_mae = (10 + 10 + 80) / 3, (10 + 80) / 2
    f1 = 2 * 1 / (2 * 1 + 1)
    assert got["score"] == pytest.approx(100 * (0.5 * (1 - mae / 100) + 0.5 * f1 * (1 - range_mae / 100)) * 3 / 4)
    assert mixed(unread=0.0)(pairs((1, 5000)))["score"] == 0.0
    assert mixed(unread=0.0)(pairs((90, 50)))["range_mae"] == 100
    silent = mixed(unread=None)(pairs((10, None), (20, None)))
    assert silent["score"] == 0.0
    assert mixed(unread=0.0)(pairs((10, None), (20, None)))["score"] > 50


def test_prompts() -> None:
    text = biology_instructions.prompt(records({"hk": 1.0, "dev": 2.0})[0]).messages[-1].content
    assert '"hk": xx, "dev": xx' in str(text)
    with pytest.raises(InputError, match="ans_type"):
        biology_instructions.prompt({"prompt": "q", "ground_truth": 1, "meta_data": {"ans_type": "list"}})
    with pytest.raises(InputError, match=r"meta_data\.task"):
        biology_instructions.prompt({"prompt": "q", "ground_truth": "x", "meta_data": {"ans_type": "string"}})
    for gold in ("maybe", "yes, no"):
        with pytest.raises(InputError, match="ground_truth"):
            biology_reading.gold_class({"ground_truth": gold})


def test_aggregate() -> None:
    scores = {subtask.name: float(i) for i, subtask in enumerate(biology_instructions.SUBTASKS)}
    assert len(scores) == 21
    assert biology_instructions.aggregate(scores) == pytest.approx(10.0)
