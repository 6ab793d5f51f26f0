from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.tasks.contamination import ContaminationIndex
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


def test_molecules_in_any_spelling() -> None:
    pytest.importorskip("rdkit")
    made = ContaminationIndex.of_questions({"t#1": "Mass of <SMILES>OCC</SMILES>?", "t#2": "And <SMILES>C</SMILES>?"})
    assert made.check("Ethanol is <SMILES> C(C)O </SMILES>.").molecules == ("t#1",)
    assert made.check("Broken: <SMILES>C(C</SMILES>, untagged: OCC").molecules == ()


def test_an_index_is_written_and_read(tmp_path: Path) -> None:
    index().write(tmp_path / "index.json")
    assert ContaminationIndex.read(tmp_path / "index.json") == index()
    assert "Ghent" not in (tmp_path / "index.json").read_text()
    (tmp_path / "other.json").write_text("{}")
    for name, message in (("other.json", "no index"), ("none.json", "cannot be read")):
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
    made = ContaminationIndex.of_tasks([OwnTask(path, "number", system=SHORT)])
    assert made.check(LONG).words == ("q#0",)
    assert made.check(SHORT).words == ()
