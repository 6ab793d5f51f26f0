"""SciReasoner: group formulas by hand, the four groups that are scored here."""

from __future__ import annotations

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import scireasoner
from s1pro.tasks.benchmarks import scireasoner_groups as groups
from tests.tasks.benchmarks.scoring import numbers


def test_there_are_149_numbers_in_nine_groups() -> None:
    assert sum(count for count, _ in groups.GROUPS.values()) == 149
    assert len(groups.GROUPS) == 9


def test_simple_groups() -> None:
    assert groups.opi([0.5] * 16) == pytest.approx(50.0)
    assert groups.GROUPS["GUE"][1]([float("nan"), None, *[11.0] * 9]) == pytest.approx(9.0)
    assert groups.unconditional_generation([80, -200, 0.9, 0.5]) == pytest.approx((80 + 20 + 140) / 4)
    assert groups.unconditional_generation([0, -5000, 0, 0]) == 25.0
    assert groups.llm4mat([0.5] * 5 + [2.0] * 60) == pytest.approx((250 + 120) / 65)
    with pytest.raises(ValueError, match="expected 16"):
        groups.opi([1.0])


def test_smolinstruct_group() -> None:
    scores = [50.0] * 15
    scores[2], scores[8], scores[9] = 0.5, 1.0, 5.0
    assert groups.smolinstruct(scores) == pytest.approx((12 * 50 + 50 + 75 + 0) / 15)


def test_one_number_of_mol_instructions_is_never_added() -> None:
    scores = [0.0] * 17
    scores[2] = 1.0
    assert groups.mol_instructions(scores) == pytest.approx(100 / 17)  # of the property error, which is 0
    scores[6] = 20.0
    assert groups.mol_instructions(scores) == 0.0
    scores[3], scores[4], scores[7], scores[16] = 60.0, 0.5, 0.25, 90.0
    assert groups.mol_instructions(scores) == pytest.approx((60 + 50 + 25 + 90) / 17)


def test_perfection_scores_nothing() -> None:
    assert groups.deviation_over_error([1, 3], [1, 3]) is None
    assert groups.deviation_over_error([1, 3, 99], [2, 3, None]) == pytest.approx(1 / 0.5)
    assert groups.deviation_over_error([1], [None]) is None


def gue(label: str) -> dict[str, object]:
    return {"input": "q", "output": "x", "meta_data": {"label": label}}


def test_gue() -> None:
    records = [gue(label) for label in ("positive", "negative", "positive", "negative")]
    replies = ["The prediction result is positive.", "negative", "unsure", "nothing"]
    got = numbers("scireasoner", "GUE/tf-h-0", records, replies)
    assert got["compat"] == pytest.approx(100 * (1 * 2 - 0 * 1) / (1 * 2 * 2 * 3) ** 0.5)
    assert got["compat.n_valid"] == 2
    with pytest.raises(InputError, match="label"):
        scireasoner.gold_label(gue("both"))


def test_opi() -> None:
    records = [{"input": "q", "output": "A; B, C"}]
    assert numbers("scireasoner", "OPI/GO_UniProtSeq_go", records, ["t</think>B;C; D; D"])["compat"] == pytest.approx(
        2 / 3
    )
    name = "OPI/Fold_type_fold_type"
    assert numbers("scireasoner", name, [{"input": "q", "output": "12"}] * 2, [" 12 ", "it is 12"])["compat"] == 0.5


def test_peer() -> None:
    records = [{"input": "q", "output": "Yes"}] * 3
    got = numbers("scireasoner", "PEER/stability", records, ["The answer is yes, no doubt", "no", ""])
    assert got["compat"] == pytest.approx(100 / 3)


def test_smolinstruct_in_the_original_way() -> None:
    pytest.importorskip("rdkit")
    records = [{"input": "q", "output": "<SMILES> CCO.O </SMILES>"}] * 4
    replies = ["<SMILES>O;OCC</SMILES>", "<SMILES>C</SMILES><SMILES>O.OCC</SMILES>", "O.OCC", "<SMILES>C1</SMILES>"]
    got = numbers("scireasoner", "SmolInstruct/retrosynthesis", records, replies)
    assert (got["compat"], got["strict"]) == (25.0, 50.0)
    records = [{"input": "q", "output": f"<NUMBER>{g}</NUMBER>"} for g in (1, 2, 3)]
    got = numbers(
        "scireasoner",
        "SmolInstruct/property_prediction-esol",
        records,
        ["<NUMBER>1</NUMBER>", "<NUMBER>4</NUMBER>", "3"],
    )
    assert got["compat"] == pytest.approx((4 / 2) ** 0.5)
    assert got["strict"] == pytest.approx((4 / 3) ** 0.5)


def test_aggregate_is_the_mean_of_the_groups_that_are_here() -> None:
    scores = {subtask.name: 0.0 for subtask in scireasoner.SUBTASKS}
    scores |= {"SmolInstruct/property_prediction-esol": 9.0, "SmolInstruct/property_prediction-lipo": 9.0}
    scores |= {f"PEER/{name}": 80.0 for name in scireasoner.PEER}
    assert set(scireasoner.group_scores(scores)) == {"GUE", "OPI", "PEER", "SmolInstruct"}
    assert scireasoner.aggregate(scores) == pytest.approx(20.0)
