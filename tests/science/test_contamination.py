from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.cli import main
from s1pro.science.contamination import ContaminationIndex, ContaminationSettings, Decontaminator
from s1pro.tasks.contamination import index_of_tasks
from s1pro.tasks.own import OwnTask

LONG = "A train leaves Ghent at noon and travels at ninety kilometres per hour for two hours; how far is it then?"
SHORT = "Which metal melts in the hand?"


def index() -> ContaminationIndex:
    return ContaminationIndex.of_questions({"t#long": LONG, "t#short": SHORT, "t#tiny": "How many?"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Chapter 3. {LONG} Solve.", ("t#long",)),
        (LONG.upper().replace(";", " --"), ("t#long",)),
        ("It leaves Ghent at noon and travels at ninety kilometres per hour.", ()),  # 12 words in a row
        ("It leaves Ghent at noon and travels at ninety kilometres per hour for two days.", ("t#long",)),
        (f"Riddle: {SHORT} Gallium.", ("t#short",)),
        ("Which metal melts in the sun?", ()),
        ("How many?", ()),  # too short to mean anything
        ("", ()),
    ],
)
def test_runs_of_words(text: str, expected: tuple[str, ...]) -> None:
    assert index().check(text).words == expected


def test_the_wording_of_a_task_is_no_content() -> None:
    wording = "How many grams does one mole of the following molecule weigh, if you please, rounded to one decimal: "
    made = ContaminationIndex.of_questions({f"t#{i}": f"{wording} number {i}" for i in range(40)})
    assert made.check(f"{wording} something else").words == ()
    exact = made.check(f"{wording} number 7")
    assert exact.words == ("t#7",)


NITRO = "Does <SMILES>{}</SMILES> contain a nitro group? Reply yes or no."
TOLD = " Think about every functional group of the molecule first, one after the other, and only then reply."


@pytest.mark.parametrize("told", ["", TOLD])
def test_a_template_is_no_content_and_its_molecule_is(told: str) -> None:
    pytest.importorskip("rdkit")
    others = {f"other#{i}": f"Here stands question number {i}, which is about something else" for i in range(20)}
    asked = {"nitro#0": NITRO.format("CCO") + told, "nitro#1": NITRO.format("c1ccccc1O") + told}
    made = ContaminationIndex.of_questions({**others, **asked})
    assert made.check(NITRO.format("CCCCCCF") + told).words == ()
    assert made.check(NITRO.format("") + told).words == ()
    for same in ("CCO", "OCC", " C(C)O "):
        assert made.check("Well: " + NITRO.format(same) + told).words == ("nitro#0",)


def test_a_question_that_two_tasks_share_is_no_template() -> None:
    pytest.importorskip("rdkit")
    made = ContaminationIndex.of_questions({"a#0": NITRO.format("CCO") + TOLD, "b#0": NITRO.format("OCC") + TOLD})
    assert made.check(TOLD).words == ("a#0", "b#0")


def test_the_template_of_one_question_about_another_molecule_is_no_content() -> None:
    """Nothing in the index says that its words are a template, but the text says them of something else."""
    pytest.importorskip("rdkit")
    made = ContaminationIndex.of_questions({"one#0": NITRO.format("CCO") + TOLD})
    assert made.check(NITRO.format("CCCCCCF") + TOLD).words == ()
    for text in (NITRO.format("OCC") + TOLD, TOLD, f"<SMILES>OCC</SMILES> <SMILES>CF</SMILES> {TOLD}"):
        assert made.check(text).words == ("one#0",)
    plain = ContaminationIndex.of_questions({"plain#0": TOLD})  # a question without a molecule has no template for it
    assert plain.check(NITRO.format("CF") + TOLD).words == ("plain#0",)


def test_what_rdkit_cannot_read_is_a_word_as_it_stands() -> None:
    pytest.importorskip("rdkit")
    made = ContaminationIndex.of_questions({"t#0": NITRO.format("C(C")})
    assert made.check(NITRO.format("C(C")).words == ("t#0",)
    assert made.check(NITRO.format("C(N")).words == made.check(NITRO.format("C(C")).molecules == ()


def test_chinese_and_japanese_are_read_by_characters() -> None:
    train = "一列火车中午离开根特，以每小时九十公里的速度行驶两小时，它走了多远？"
    made = ContaminationIndex.of_questions(
        {"zh#long": train, "zh#short": "哪种金属会在手中熔化？", "ja#0": "どの金属が手の中で溶けますか。"}
    )
    assert made.check(f"题目：{train}答案：180公里。").words == ("zh#long",)
    assert made.check(f"{train[:11]}……").words == ()
    assert made.check("请问哪种金属会在手中熔化？镓。").words == ("zh#short",)
    assert made.check("哪种金属会在水中熔化？").words == ()
    assert made.check("どの金属が手の中で溶けますか").words == ("ja#0",)


def test_molecules_in_any_spelling() -> None:
    pytest.importorskip("rdkit")
    made = ContaminationIndex.of_questions({"t#1": "Mass of <SMILES>OCC</SMILES>?", "t#2": "And <SMILES>C</SMILES>?"})
    assert made.check("Ethanol is <SMILES> C(C)O </SMILES>.").molecules == ("t#1",)
    assert made.check("Broken: <SMILES>C(C</SMILES>, untagged: OCC").molecules == ()


def test_an_index_is_written_and_read(tmp_path: Path) -> None:
    index().write(tmp_path / "index.json")
    assert ContaminationIndex.read(tmp_path / "index.json") == index()
    assert index().lengths == (6, 13)
    older = json.loads((tmp_path / "index.json").read_text()) | {"format": "s1pro contamination index 1"}
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert "Ghent" not in (tmp_path / "index.json").read_text()
    (tmp_path / "other.json").write_text("{}")
    for name, message in (
        ("other.json", "no index"),
        ("none.json", "cannot be read"),
        ("older.json", "write it again"),  # other words: it would find less, and not say so
    ):
        with pytest.raises(InputError, match=message):
            ContaminationIndex.read(tmp_path / name)


def test_training_files_are_searched_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, training = tmp_path / "q.jsonl", tmp_path / "train.jsonl"
    questions.write_text(json.dumps({"question": LONG, "answer": "180"}) + "\n")
    clean = {"messages": [{"role": "user", "content": "Hello."}]}
    copied = {"messages": [{"role": "user", "content": f"Well: {LONG}"}]}
    training.write_text(json.dumps(clean) + "\n")
    command = ["eval", "--file", str(questions), "--metric", "number", "--contamination", str(training)]
    assert main(command) == 0
    training.write_text(json.dumps(clean) + "\n" + json.dumps(copied) + "\n")
    assert main(command) == 1
    assert "q#0: shares 13 words in a row" in capsys.readouterr().out


def test_tasks_are_indexed_without_their_system_messages(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": LONG, "answer": "180"}) + "\n")
    made = index_of_tasks([OwnTask(path, "number", system=SHORT)])
    assert made.check(LONG).words == ("q#0",)
    assert made.check(SHORT).words == ()


def samples() -> list[Sample]:
    turns = (Message(role="user", content=f"Please: {LONG}"), Message(role="assistant", content="180 km."))
    return [
        Sample(source="a", prompt_group="general", text="Nothing of the kind."),
        Sample(source="a", prompt_group="general", messages=turns, meta={"domain": "pictures"}),
        Sample(source="a", prompt_group="science", text="Ethanol, <SMILES>C(C)O</SMILES>, boils."),
    ]


@pytest.mark.parametrize(
    ("found", "molecules", "left", "counts"),
    [
        ("drop", False, [0, 2], {"dropped": 1, "marked": 0}),
        ("drop", True, [0], {"dropped": 2, "marked": 0}),
        ("mark", False, [0, 1, 2], {"dropped": 0, "marked": 1}),
    ],
)
def test_samples_are_dropped_or_marked_and_counted(
    tmp_path: Path, found: Literal["drop", "mark"], molecules: bool, left: list[int], counts: dict[str, int]
) -> None:
    pytest.importorskip("rdkit")
    questions = {"t#long": LONG, "t#ethanol": "Boiling point of <SMILES>OCC</SMILES>?"}
    ContaminationIndex.of_questions(questions).write(tmp_path / "index.json")
    guard = Decontaminator(ContaminationSettings(index=tmp_path / "index.json", found=found, molecules=molecules))
    kept = list(guard.filter(samples()))
    assert [(s.text, s.messages) for s in kept] == [(s.text, s.messages) for i, s in enumerate(samples()) if i in left]
    assert guard.counts == {"checked": 3, "words": 1, "molecules": 1, **counts}
    marks = [s.meta.get("contamination") for s in kept]
    assert marks == ([None, ["t#long"], None] if found == "mark" else [None] * len(left))
