"""SciReasoner: group formulas by hand, the four groups that are scored here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import scireasoner
from s1pro.tasks.benchmarks import scireasoner_biology as biology
from s1pro.tasks.benchmarks import scireasoner_groups as groups
from s1pro.tasks.benchmarks import scireasoner_materials as materials
from s1pro.tasks.benchmarks import scireasoner_molecules as molecules
from s1pro.tasks.benchmarks import scireasoner_smol as smol
from s1pro.tasks.benchmarks import scireasoner_words as words
from s1pro.tasks.benchmarks.registry import load
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
    got = numbers("scireasoner", "PEER/solubility", records, ["The answer is yes, no doubt", "no", ""])
    assert got["compat"] == pytest.approx(100 / 3)
    got = numbers("scireasoner", "PEER/human_ppi", records, ["It is incorrect.", "They dissolve easily", "I know"])
    assert got["compat"] == pytest.approx(100 / 3) and got["compat.n_valid"] == 2 and got["strict"] == 0.0


@pytest.mark.parametrize(
    ("reply", "compat", "strict"),
    [
        ("It is 1.2", True, True),
        ("0.9 or 2", False, True),
        ("-2", True, False),
        ("1e3", False, True),
        ("yes", None, True),
    ],
)
def test_stability_is_a_number(reply: str, compat: bool | None, strict: bool | None) -> None:
    assert words.peer_stability(reply, {}) is compat and words.strict_stability(reply, {}) is strict
    assert words.gold_yes({"output": 1.3}) is True and words.gold_yes({"output": "No"}) is False


@pytest.mark.parametrize(
    ("reply", "gue", "biology_class"),
    [
        ("The motif was detected", True, None),
        ("It contains a site", True, True),
        ("It contains sites, but not here", False, True),
        ("not found", False, False),
        ("Nothing", None, None),
        ("It is likely", None, True),
        ("Indeed plausible", None, True),
        ("<think>positive", None, True),
        ("I cannot confirm that", False, False),
    ],
)
def test_words_of_classes(reply: str, gue: bool | None, biology_class: bool | None) -> None:
    """As OpenCompass' functions say."""
    assert words.gue_label(reply, {}) is gue and words.keyword_class(reply, {}) is biology_class


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
        ["<NUMBER>1</NUMBER>", "<NUMBER>4</NUMBER>", "<SMILES>C7</SMILES> has 3"],
    )
    assert got["compat"] == pytest.approx((4 / 3) ** 0.5)
    assert got["strict"] == pytest.approx((4 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("It is 1.23456789.", [1.23457]),
        ("at the 5' end: -2", [-2.0]),
        ("K3 is 7", [7.0]),
        ("<think>1", []),
        ("<think>1</think>2", [2.0]),
        ("<think>1<summary>2", [2.0]),
        ("<summary>1</think>2", [2.0]),
        ("1e-3", [1.0, 3.0]),
        ("2,000", [2.0, 0.0]),
        ("", []),
    ],
)
def test_free_numbers(reply: str, found: list[float]) -> None:
    assert biology.free_numbers(reply) == found


def test_several_numbers_are_also_read_in_reasoning_that_never_ended() -> None:
    """In compat, as upstream; strict takes nothing from there."""
    read, strict = biology.several_numbers(("hk", "dev")), biology.strict_numbers(("hk", "dev"))
    assert read("<think>1 and 2", {}) == {"hk": 1.0, "dev": 2.0} and strict("<think>1 and 2", {}) is None
    assert read("9<summary>1", {}) == {"hk": 9.0, "dev": 1.0}
    assert read("<think>9</think>1, 2", {}) == strict("<think>9</think>1, 2", {}) == {"hk": 1.0, "dev": 2.0}


def bio(*labels: object) -> list[dict[str, object]]:
    return [{"input": "q", "output": "x", "label": label, "task": "t"} for label in labels]


def test_biology() -> None:
    labels = [1.0, 2.0, 3.0, 4.0]
    got = numbers("scireasoner", "Bio_Instruction/CRISPROnTarget", bio(*labels), ["1", "3", "400", "4 or 5"])
    assert got["compat"] == pytest.approx(100 * 1.0 * 3 / 4)
    got = numbers("scireasoner", "Bio_Instruction/Isoform", bio(*labels), ["1", "2", "81", "4 (of 5)"])
    assert got["compat"] == pytest.approx(100 * 2 / 4)
    replies = ["no doubt: yes", "negative", "Yes", "perhaps"]
    got = numbers("scireasoner", "Bio_Instruction/emp", bio("positive", "negative", "positive", "negative"), replies)
    assert got["compat.unclassified"] == 1.0
    assert got["compat"] == pytest.approx(0.0)
    assert got["compat.n_valid"] == 3
    labels_of_two = [{"hk": float(i), "dev": -float(i)} for i in range(3)]
    replies = ["0 and 0", "hk: 1, dev: -1", "hk: 2, dev: -2 (2 numbers)"]
    got = numbers("scireasoner", "Bio_Instruction/enhancer_activity", bio(*labels_of_two), replies)
    assert got["compat"] == pytest.approx(100 * 2 / 3)
    assert got["strict"] == pytest.approx(100.0)
    got = numbers("scireasoner", "Bio_Instruction/Modification", bio("m6A", "none", "AtoI"), ["m6A here", "no", ""])
    assert got["compat"] == pytest.approx(100 * (1 + 1 + 0.5) / 3)
    with pytest.raises(InputError, match="hk"):
        biology.gold_numbers(("hk", "dev"))({"label": "{'hk': 1}"})
    with pytest.raises(InputError, match="label"):
        biology.gold_class({"label": "yes"})


def test_materials() -> None:
    assert len(materials.ORDER) == 65
    records = [{"input": "q", "output": gold} for gold in (1.0, 3.0, 5.0)]
    replies = ['```json\n{"gap": 2}\n```', "so {gap: '3.5'} eV", "about 4 eV"]
    got = numbers("scireasoner", "LLM4Mat/MP_Bandgap", records, replies)
    assert got["compat"] == pytest.approx(1.0 / 0.75)
    assert got["strict"] == pytest.approx((4 / 3) / (2.5 / 3))
    perfect = ['{"gap": 1}', '{"gap": 3}', '{"gap": 5.0}']
    got = numbers("scireasoner", "LLM4Mat/MP_Bandgap", records, perfect)
    assert (got["compat"], got["strict"]) == (0.0, materials.PERFECT)
    records = [{"input": "q", "output": gold} for gold in (True, "Indirect", "Direct", False)]
    replies = ['{"x": true}', '{"x": "no"}', '{"x": "Indirect"}', "no"]
    got = numbers("scireasoner", "LLM4Mat/SNUMAT_SOC", records, replies)
    assert (got["compat"], got["strict"]) == (0.75, 0.5)


def test_biomedical_texts() -> None:
    assert molecules.bracket_f1("(a, b) (c, d)", "(A, b), (x)") == pytest.approx(0.5)
    assert molecules.bracket_f1("(a)", "a") == 1.0
    assert molecules.item_f1("a, b", "B, c, d") == pytest.approx(2 / 5)
    assert molecules.upstream_option("It is B) because of (A", {}) == "A"
    assert molecules.strict_option("The answer is (B), not A", {}) == "B"
    assert molecules.upstream_truth("I know it may be", {}) == "no"
    assert molecules.strict_truth("Maybe. No one can tell", {}) == "maybe"
    assert molecules.upstream_option("", {}) is None
    with pytest.raises(InputError, match="bracket"):
        molecules.gold_option({"output": "A"})
    with pytest.raises(InputError, match="yes, no"):
        molecules.gold_truth({"output": "Perhaps, yes"})


def test_proteins() -> None:
    pytest.importorskip("Bio")
    assert molecules.smith_waterman("MKV*LA", "mkvla") == pytest.approx(1.0)
    assert molecules.smith_waterman("MKVLA", "123") == 0.0
    records = [{"input": "q", "output": gold} for gold in ("MKVLA", "GGGGG")]
    got = numbers("scireasoner", "Mol_Instructions/protein_design", records, ["<protein>MKVLA</protein>", ""])
    assert (got["compat"], got["compat.mean"], got["strict"]) == (
        pytest.approx(100),
        pytest.approx(50),
        pytest.approx(50),
    )


def test_molecules_in_either_notation() -> None:
    pytest.importorskip("selfies")
    records = [{"input": "q", "output": "[C][C][O]"}] * 3
    got = numbers(
        "scireasoner", "Mol_Instructions/retrosynthesis", records, ["OCC", "<SELFIES>[O][C][C]</SELFIES>", "no idea"]
    )
    assert (got["compat"], got["compat.n_valid"], got["strict"]) == (0.0, 0, pytest.approx(2 / 3))  # no SMILES tag
    records = [{"input": "q", "output": "<SMILES> C[C@H](N)O </SMILES>"}] * 4
    replies = ["<SMILES>C[C@@H](N)O</SMILES> or <SMILES>C</SMILES>", "<SMILES>CCO</SMILES>", "<SMILES>C1</SMILES>", ""]
    got = numbers("scireasoner", "Mol_Instructions/retrosynthesis", records, replies)
    assert (got["compat"], got["compat.n_valid"], got["strict"]) == (0.5, 2, 0.0)
    records = [{"input": "q", "output": "-0.25"}, {"input": "q", "output": "0.05"}]
    got = numbers("scireasoner", "Mol_Instructions/property_prediction_str", records, ["-0.249", ""])
    assert got["compat"] == pytest.approx(1000 * (0.001 + 0.05) / 2)
    assert got["strict"] == pytest.approx(1000 * (0.001 + 0.15) / 2)


def test_aggregate_is_the_mean_of_the_groups() -> None:
    scores = {subtask.name: 0.0 for subtask in scireasoner.SUBTASKS}
    scores |= {"SmolInstruct/property_prediction-esol": 9.0, "SmolInstruct/property_prediction-lipo": 9.0}
    scores |= {f"PEER/{name}": 80.0 for name in scireasoner.PEER}
    scores |= {"Mol_Instructions/property_prediction_str": 20.0}
    got = scireasoner.group_scores(scores)
    assert {name: value for name, value in got.items() if value} == {"PEER": 80.0}
    assert len(got) == 9
    assert scireasoner.aggregate(scores) == pytest.approx(80 / 9)
    for group, tasks in scireasoner.ORDER.items():
        assert len(tasks) == groups.GROUPS[group][0]


@pytest.mark.parametrize(
    ("reply", "number"),
    [("-0.5 or 1", -0.5), ("-2", 2.0), ("0. 12", 0.12), ("1 2", 12.0), ("t</think>.5", 0.5), ("none", None)],
)
def test_the_first_number_of_a_property(reply: str, number: float | None) -> None:
    """As OpenCompass' post-processor reads it."""
    assert molecules.upstream_property(reply, {}) == number


def test_texts_of_molecules_in_the_upstream_way() -> None:
    assert molecules.tagged_smiles("<SMILES>[Na+].[Cl-]</SMILES>") == "[Na+].[Cl-]"  # no SELFIES, though it looks so
    assert molecules.description("It is an acid. It is sol", {}) == "It is an acid."
    assert molecules.description("It is an acid", {}) == "It is an acid."
    assert molecules.text_answer("Answer: I would say that (a, b)", {}) == "(a, b)"
    assert molecules.upstream_option("Apple", {}) == "Apple" and molecules.upstream_option("B", {}) == "B"
    assert molecules.upstream_protein("<protein>MKxv L</protein><protein>AA</protein>", {}) == "MKL"
    assert molecules.upstream_protein("MKVL", {}) is None
    assert molecules.gold_protein({"output": "It is <protein>MKV</protein>"}) == "MKV"


@pytest.mark.parametrize(
    ("tag", "reply", "found"),
    [
        ("BOOLEAN", "Yes or no", "no"),
        ("BOOLEAN", "<BOOLEAN> Yes </BOOLEAN> no", "Yes"),
        ("BOOLEAN", "It is true", "yes"),
        ("BOOLEAN", "nothing", None),
        ("NUMBER", "about -1.5", "-1.5"),
        ("NUMBER", "<NUMBER></NUMBER> 2", "2"),
        ("MOLFORMULA", "It is C2H6O or (NH4)2SO4", "SO4"),
        ("IUPAC", "ethanol", None),
        ("SMILES", "<SMILES> C;O </SMILES>", "C.O"),
        ("SMILES", "</SMILES>C<SMILES>", None),
    ],
)
def test_tags_and_what_stands_in_for_them(tag: str, reply: str, found: str | None) -> None:
    """As OpenCompass' post-processor reads them."""
    assert smol.first_tag(tag)(reply, {}) == found


def test_retrosynthesis_by_canonical_smiles() -> None:
    pytest.importorskip("rdkit")
    records = [{"input": "q", "output": "<SMILES>CCO.O</SMILES>"}] * 4
    replies = [
        "<SMILES>C</SMILES><SMILES>O.[CH3:1]CO</SMILES>",
        "<SMILES>CCO;O</SMILES>",
        "O.CCO",
        "<SMILES>CCO</SMILES>",
    ]
    assert numbers("scireasoner", "SmolInstruct/USPTO_50K", records, replies)["compat"] == 25.0
    assert smol.split_match("a;b", "b;a") == 1.0 and smol.split_match("a;b", "b; a") == 0.0
    assert [smol.python_number(text) for text in ("1e-3", "2 g", "nan", None)] == [0.001, None, None, None]


def test_materials_in_the_layout_of_upstream(tmp_path: Path) -> None:
    """One file for all properties of a source; the output says which one it is of."""
    outputs = ["{band_gap : 1.0}", "{volume : 9}", "{band_gap : 3.0}", "{is_stable : True}", "{is_stable : False}",
               "{band_gap : Null}", "{is_gap_direct : True}"]  # fmt: skip
    folder = tmp_path / "LLM4Mat" / "mp" / "test"
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps([{"input": f"q{n}", "output": o} for n, o in enumerate(outputs)]))
    [gaps, stable] = load("scireasoner", tmp_path, subtasks=["LLM4Mat/MP_Bandgap", "LLM4Mat/MP_IsStable"])
    assert [gaps.record(item)["input"] for item in gaps.items()] == ["q0", "q2"]
    replies = ['{"band_gap": 2, "volume": 7}', '{"gap": 3.0}']
    scores = [gaps.grade(item, reply) for item, reply in zip(gaps.items(), replies, strict=True)]
    assert [score.extraction["compat"] for score in scores] == [2.0, None]
    replies = ["so {is_stable: yes}", '```json\n{"is_stable": 0}\n```']
    scores = [stable.grade(item, reply) for item, reply in zip(stable.items(), replies, strict=True)]
    assert [score.extraction["compat"] for score in scores] == [True, False]
    assert materials.label("SOC")('{"SOC": "direct"}', {"output": "{SOC : True}"}) is None
