"""IFBench's constraints on kinds of words: with the dictionary of a package, with nltk's data, and without them."""

from __future__ import annotations

import json
from pathlib import Path

import nltk
import pytest

from s1pro.tasks.benchmarks.ifbench_words import odd_even_syllables
from s1pro.tasks.benchmarks.instruction_checks import CHECKS, unsupported
from tests.tasks.benchmarks.scoring import numbers

STOP, VERB = "ratio:stop_words", "words:start_verb"


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nltk looks for its data in, and no other."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("The water runs over", True),  # 1 2 1 2
        ("A table, a table!", True),
        ("Banana water", True),  # 3 2
        ("The cat", False),
        ("Water over the table", False),  # 2 2
        ("word", True),
        ("", True),
    ],
)
def test_syllables(text: str, held: bool) -> None:
    assert odd_even_syllables(text) == held


def test_stop_words(own_data: Path) -> None:
    assert unsupported(STOP)
    (own_data / "corpora" / "stopwords").mkdir(parents=True)
    (own_data / "corpora" / "stopwords" / "english").write_text("the\nof\na\n")
    assert not unsupported(STOP)
    check = CHECKS[STOP]
    assert check("The cat sat. Of course!", percentage=40)  # 2 of 5
    assert not check("The cat sat. Of course!", percentage=39)
    assert not check("...", percentage=100)


def test_start_verb(own_data: Path) -> None:
    assert unsupported(VERB)
    folder = own_data / "taggers" / "averaged_perceptron_tagger_eng"
    folder.mkdir(parents=True)
    name = "averaged_perceptron_tagger_eng"
    (folder / f"{name}.tagdict.json").write_text(json.dumps({"Go": "VB", "Dogs": "NNS", "Going": "VBG", ",": ","}))
    (folder / f"{name}.weights.json").write_text("{}")
    (folder / f"{name}.classes.json").write_text(json.dumps(["VB", "NNS", "VBG", ","]))
    assert not unsupported(VERB)
    check = CHECKS[VERB]
    assert check("Go, Dogs, Go") and check("Going, Dogs.")
    assert not check("Dogs, Go.") and not check("")


def test_what_cannot_be_checked_is_counted(own_data: Path) -> None:
    record = {
        "key": 1, "prompt": "p", "instruction_id_list": [STOP, "words:odd_even_syllables"],
        "kwargs": [{"percentage": 90}, None],
    }  # fmt: skip
    found = numbers("ifbench", "test", [record], ["The water"])
    assert found["strict.unsupported"] == 1 and found["strict.instruction_strict"] == 50
    (own_data / "corpora" / "stopwords").mkdir(parents=True)
    (own_data / "corpora" / "stopwords" / "english").write_text("the\n")
    assert numbers("ifbench", "test", [record], ["The water"])["strict"] == 100
