from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.own import OwnTask, word_f1


def task(folder: Path, metric: str, answer: Any, **fields: Any) -> OwnTask:
    path = folder / "mine.jsonl"
    path.write_text(json.dumps({"question": "What?", "answer": answer, **fields}) + "\n", encoding="utf-8")
    return OwnTask(path, metric)


def value(folder: Path, metric: str, answer: Any, response: str, **fields: Any) -> tuple[float, bool]:
    made = task(folder, metric, answer, **fields)
    score = asyncio.run(made.score(made.items()[0], response))
    return score.value, score.valid


OPTIONS = {"A": "iron", "B": "gold", "C": "zinc"}


@pytest.mark.parametrize(
    ("metric", "answer", "response", "expected"),
    [
        ("exact", "Paris", "<think>Rome?</think> Paris. ", (1, True)),
        ("exact", "Paris", "paris", (0, True)),
        ("exact", "Paris", "<think>Paris", (0, False)),
        ("exact", ["Paris", "Lutetia"], "Lutetia", (1, True)),
        ("exact", "é", "e\u0301", (1, True)),
        ("number", 100, "about 1.005e2 g", (1, True)),
        ("number", 100, "102", (0, True)),
        ("number", "1,200", "so it is \\boxed{1200} of 7", (1, True)),
        ("number", 0, "0.001", (1, True)),
        ("number", 3, "no idea", (0, False)),
        ("contains", "iron", "It is Iron, of course", (1, True)),
        ("contains", "iron", "environment", (0, True)),
        ("yes_no", True, "I think not... Yes.", (1, True)),
        ("yes_no", "no", "yes or no", (0, False)),
        ("smiles", "OCC", "<SMILES> CCO </SMILES>", (1, True)),
        ("smiles", "OCC", "I cannot tell", (0, False)),
        ("f1", "the red fox", "a red fox", (2 / 3, True)),
    ],
)
def test_metrics(tmp_path: Path, metric: str, answer: Any, response: str, expected: tuple[float, bool]) -> None:
    if metric == "smiles":
        pytest.importorskip("rdkit")
    found = value(tmp_path, metric, answer, response)
    assert found == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(("response", "expected"), [("Answer: B", 1), ("gold", 1), ("C", 0), ("D", 0), ("", 0)])
def test_options_are_shown_and_read(tmp_path: Path, response: str, expected: int) -> None:
    made = task(tmp_path, "letter", "b", **OPTIONS)
    assert made.prompt(made.items()[0]).messages[0].content == "What?\nA. iron\nB. gold\nC. zinc"
    assert value(tmp_path, "letter", "b", response, **OPTIONS)[0] == expected


def test_csv_with_pictures_ids_and_other_names_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    path = tmp_path / "my.csv"
    path.write_text('id,Frage,Antwort,image\nq1,"How many, here?",3,a.png\nq2,And now?,4,\n', encoding="utf-8")
    made = OwnTask(path, "number", question="Frage", answer="Antwort", system="Be short.")
    assert [item.id for item in made.items()] == ["q1", "q2"]
    system, user = made.prompt(made.items()[0]).messages
    assert system.content == "Be short."
    assert user.content == [
        {"type": "image", "image": str((tmp_path / "a.png").resolve())},
        {"type": "text", "text": "How many, here?"},
    ]
    assert made.prompt(made.items()[1]).messages[1].content == "And now?"


@pytest.mark.parametrize(
    ("metric", "answer", "fields", "message"),
    [
        ("number", "many", {}, "record 1, field 'answer': 'many' is no number"),
        ("letter", "D", OPTIONS, "none of the letters A, B, C"),
        ("yes_no", "maybe", {}, "neither yes nor no"),
        ("exact", "", {}, "no expected answer"),
        ("exact", "x", {"image": "none.png"}, "field 'image': there is no file 'none.png'"),
        ("taste", "x", {}, "no such metric: 'taste'; known: exact, letter"),
    ],
)
def test_what_can_never_be_right_is_refused(
    tmp_path: Path, metric: str, answer: Any, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        task(tmp_path, metric, answer, **fields)


def test_ids_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("id,question,answer\n1,a,b\n1,c,d\n", encoding="utf-8")
    with pytest.raises(InputError, match="the id '1' is empty or not unique"):
        OwnTask(path, "exact")


def test_f1_counts_words_as_often_as_they_stand() -> None:
    assert word_f1("no no yes", "no") == pytest.approx(0.5)
    assert word_f1("a", "b") == 0
