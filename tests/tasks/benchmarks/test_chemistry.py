"""SmolInstruct, Mol-Instructions, MatBench: both profiles on replies that are hard to read, aggregates by hand."""

from __future__ import annotations

from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import matbench, mol_instructions, smolinstruct
from s1pro.tasks.benchmarks.formulas import formula_counts, upstream_element_counts
from s1pro.tasks.benchmarks.matbench import MATBENCH
from s1pro.tasks.benchmarks.mol_instructions import MOL_INSTRUCTIONS
from s1pro.tasks.benchmarks.smolinstruct import SMOLINSTRUCT
from s1pro.tasks.benchmarks.spec import Benchmark, BenchmarkTask

pytest.importorskip("rdkit")


def numbers(benchmark: Benchmark, name: str, records: list[dict[str, Any]], replies: list[str]) -> dict[str, float]:
    task = BenchmarkTask(benchmark, benchmark.subtask(name), records)
    return dict(task.aggregate([task.grade(item, reply) for item, reply in zip(task.items(), replies, strict=True)]))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C6H6", {"C": 6, "H": 6}),
        ("CH3CH3", {"C": 2, "H": 6}),
        ("Na+", {"Na": 1, "+": 1}),
        ("SO4-2", {"S": 1, "O": 4, "-": 2}),
        ("c6h6", {}),
        ("C2h6", {"C": 2}),
        ("Ca(OH)2", None),
        ("C6 H6", None),
        ("", None),
    ],
)
def test_formulas_upstream(text: str, counts: dict[str, int] | None) -> None:
    assert upstream_element_counts(text) == counts


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}),
        ("C_6H_{12}", {"C": 6, "H": 12}),
        ("CuSO4\N{MIDDLE DOT}5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("SO4-2", {"S": 1, "O": 4, "charge": -2}),
        ("NH4+", {"N": 1, "H": 4, "charge": 1}),
        ("(C", None),
        ("hello", None),
    ],
)
def test_formulas_strict(text: str, counts: dict[str, int] | None) -> None:
    assert formula_counts(text) == counts


def test_element_match() -> None:
    gold = "<MOLFORMULA> CaH2O2 </MOLFORMULA>"
    replies = [
        "<MOLFORMULA>H2O2Ca</MOLFORMULA>",
        "<MOLFORMULA>Ca(OH)2</MOLFORMULA>",
        "<MOLFORMULA>CaH2O2</MOLFORMULA> or <MOLFORMULA>CaO</MOLFORMULA>",
        "",
    ]
    got = smol_named("name_conversion-i2f", "i2f", gold, replies)
    assert (got["compat"], got["compat.valid_score"]) == (25.0, 75.0)
    assert got["strict"] == 50.0
    assert (got["n_total"], got["strict.n_valid"]) == (4, 3)


def smol_named(task: str, name: str, gold: str, replies: list[str]) -> dict[str, float]:
    records = [{"input": "q", "output": gold, "task": task} for _ in replies]
    return numbers(SMOLINSTRUCT, name, records, replies)


def test_strings_are_compared_upstream_molecules_here() -> None:
    got = smol_named("name_conversion-i2s", "i2s", "<SMILES> CCO </SMILES>", ["<SMILES>OCC</SMILES>", "CCO"])
    assert (got["compat"], got["strict"]) == (50.0, 100.0)


def test_lead_ins_and_whole_texts() -> None:
    read = smolinstruct.upstream_tag
    assert read("The reactants and reagents are:\n```\nCCO.O\n```\nDone", {}) == "CCO.O"
    assert read("I cannot tell", {}) == "I cannot tell"
    assert read("<SMILES>C</SMILES>x<SMILES> N </SMILES>", {}) == "N"
    assert smolinstruct.strict_tag("I cannot tell", {}) is None


def test_words_behind_a_blank_are_a_name() -> None:
    got = smol_named("molecule_generation", "molecule_generation", "<SMILES>I</SMILES>", ["I cannot tell", "C1CC"])
    assert got["compat"] == 50.0
    assert got["compat.valid_score"] == 50.0
    assert got["strict"] == 0.0
    assert got["strict.n_valid"] == 1


def test_rmse_is_an_absolute_error() -> None:
    records = [
        {"input": "q", "output": f"<NUMBER> {g} </NUMBER>", "task": "property_prediction-esol"} for g in (-2, 0, 4)
    ]
    got = numbers(SMOLINSTRUCT, "esol", records, ["\\boxed{-1} \\boxed{-2}", "none", "<NUMBER>1e0</NUMBER>"])
    assert got["compat"] == pytest.approx((1 + 0 + 4) / 3)
    worst = 4 - 2 / 3
    assert got["strict"] == pytest.approx(((0 + worst**2 + 9) / 3) ** 0.5)
    assert got["strict.rmse_of_read"] == pytest.approx((9 / 2) ** 0.5)


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        ("Yes", True),
        ("note that it may", False),
        ("it is a casino", False),
        ("perhaps", None),
        ("The answer is: no, because yes", False),
        ("thinking no</think> Yes.", True),
        ("**Answer:** yes indeed, but it ends in no", True),
        ("\\boxed{ No } ... yes", False),
        ("<|begin_of_box|>yes<|end_of_box|>", True),
        ("", None),
    ],
)
def test_booleans_upstream(reply: str, meant: bool | None) -> None:
    assert smolinstruct.upstream_boolean(reply, {}) is meant


def test_smolinstruct_aggregate() -> None:
    scores = {subtask.name: 50.0 for subtask in SMOLINSTRUCT.subtasks}
    scores |= {"molecule_captioning": 0.5, "esol": 1.0, "lipo": 5.0}
    assert SMOLINSTRUCT.aggregate["compat"](scores) == pytest.approx((12 * 50 + 50 + 0) / 14)


def test_wrong_golds_are_refused() -> None:
    with pytest.raises(InputError, match="NUMBER"):
        smolinstruct.gold_number({"output": "high"})
    with pytest.raises(InputError, match="BOOLEAN"):
        smolinstruct.gold_boolean({"output": "maybe"})


def dialogs(gold: str) -> dict[str, Any]:
    return {"id_ddm": "1", "dialogs": [{"content": "q"}, {"content": gold}]}


@pytest.mark.parametrize(
    ("gold", "reply", "compat", "strict"),
    [
        ("[C][C][O]", "<SELFIES>[C][C][O]</SELFIES>", 100.0, 100.0),
        ("[C][C][O]", "[C][C][O]", 100.0, 100.0),
        ("[C][=C]", "[C][=C]", 0.0, 100.0),
        ("[C][=C]", "thought <SELFIES>[C]</SELFIES></think><SELFIES>[C][=C]</SELFIES>", 100.0, 100.0),
        ("[C][C][O]", "<SELFIES></SELFIES>", 0.0, 0.0),
        ("[C][C][O]", "<SELFIES>[Nonsense]</SELFIES>", 0.0, 0.0),
        ("[C][C][O]", "", 0.0, 0.0),
    ],
)
def test_selfies(gold: str, reply: str, compat: float, strict: float) -> None:
    pytest.importorskip("selfies")
    got = numbers(MOL_INSTRUCTIONS, "retrosynthesis", [dialogs(gold)], [reply])
    assert (got["compat"], got["strict"]) == (compat, strict)


def test_property() -> None:
    records = [dialogs(gold) for gold in ("-0.25", "0.1", "0.3")]
    got = numbers(
        MOL_INSTRUCTIONS, "property_prediction", records, ["\\boxed{1} \\boxed{-0.25}", "0.1", "\\boxed{3e-1}"]
    )
    assert got["compat"] == pytest.approx((0 + 0.1 + 0.3) / 3)
    assert got["strict"] == pytest.approx(0.0)


def test_mol_instructions_aggregates() -> None:
    scores = {subtask.name: 60.0 for subtask in MOL_INSTRUCTIONS.subtasks}
    scores |= {"property_prediction": 0.3, "molecular_description_generation": 0.4}
    assert MOL_INSTRUCTIONS.aggregate["compat"](scores) == pytest.approx((240 + 90 + 0.4) / 6)
    assert MOL_INSTRUCTIONS.aggregate["strict"](scores) == pytest.approx((240 + 90 + 40) / 6)
    with pytest.raises(InputError, match=r"dialogs\[1\]"):
        mol_instructions.turn({"dialogs": [{"content": "q"}]}, 1)


@pytest.mark.parametrize(
    ("reply", "number"),
    [("-5", 5.0), ("-5.5", -5.5), ("2e3", 2.0), ("about 1,400", 1.0), ("none", 0.0), (".5", 0.5), ("7.", 7.0)],
)
def test_numbers_of_judges(reply: str, number: float) -> None:
    assert matbench.judged_number(reply) == number


def test_verdicts_of_judges() -> None:
    assert matbench.judged_choice("CORRECT") is None
    assert matbench.judged_choice("the answer is B, not A") == "B"
    assert matbench.judged_choice("An A") == "A"


def test_matbench() -> None:
    records = [{"problem": "q", "answer": gold} for gold in (-2, 1500.0)]
    got = numbers(MATBENCH, "matbench_steels", records, ["It is -2", "x</think>\\boxed{1.5e3\\,\\text{MPa}}"])
    assert got["compat"] == pytest.approx((4 + 1498.5) / 2)
    assert got["strict"] == 0.0
    got = numbers(MATBENCH, "matbench_glass", [{"problem": "q", "answer": True}] * 3, ["Yes.", "", "yes or no"])
    assert got["compat"] == got["strict"] == pytest.approx(100 / 3)
    scores = {
        "matbench_steels": 4000.0,
        "matbench_expt_gap": 0.5,
        "matbench_expt_is_metal": 80.0,
        "matbench_glass": 60.0,
    }
    assert MATBENCH.aggregate["compat"](scores) == pytest.approx((-100 + 75 + 80 + 60) / 4)
    assert MATBENCH.aggregate["strict"](scores) == pytest.approx((0 + 75 + 80 + 60) / 4)
