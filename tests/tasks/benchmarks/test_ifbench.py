"""IFBench's constraints on sentences and single questions, on texts written for each of them."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1pro.tasks.benchmarks.ifbench_custom import CAPITALS, CUSTOM_CHECKS
from s1pro.tasks.benchmarks.ifbench_sentences import SENTENCE_CHECKS, sentences, tokens
from s1pro.tasks.benchmarks.instruction_checks import CHECKS

NEW = {**SENTENCE_CHECKS, **CUSTOM_CHECKS}
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(f"{i},F,P,200{i},{i}" for i in range(7))
STOCK = "ProductID,Category,Brand,Price,Stock\n" + "\n".join(f"{i},a,b,1,2" for i in range(13))
STUDENTS = "\n".join('"1"\t"a"\t"b"\t"c"\t"d"' for _ in range(3))
NAMES = '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n'
QUIZ = [f"Question {n}. Who {'really ' * n}painted it?\n" + "\n".join(f"{c}) x" for c in "ABCDE") for n in range(1, 5)]
COUNTRIES = ["Zimbabwe", *sorted((f"Land {a}{b}" for a in "abcdef" for b in "abcdefghi"), reverse=True)]
STORY = " ".join(f"{letter} happened." for letter in string.ascii_uppercase)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Who met J. Smith. He left at 5 p.m. today.", ["Dr. Who met J. Smith.", "He left at 5 p.m. today."]),
        ('He said "go." Then he went.', ['He said "go."', "Then he went."]),
        ("(It rained.) We stayed", ["(It rained.)", "We stayed"]),
        ("Wait... what? No... Yes.", ["Wait... what?", "No...", "Yes."]),
        ("Pi is 3.14. Really\nso. ok", ["Pi is 3.14.", "Really\nso.", "ok"]),
        ("**Bold.** Next.", ["**Bold.", "** Next."]),
        ("   ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "holds", "fails"),
    [
        ("ratio:sentence_type", {}, "Aa is. Bb is. Is Cc?", "Aa is. Is Bb?"),
        ("ratio:sentence_balance", {}, "Aa. Bb? Cc!", "Aa. Bb. Cc?"),
        ("ratio:sentence_words", {}, "One two. Tea for. Six net.", "One two. Three four. Six net."),
        ("count:person_names", {"N": 2}, "Emma and Liam and Emma.", "Emma and Emmanuel."),
        ("count:pronouns", {"N": 3}, "she/her/hers", "She saw the dog."),
        ("sentence:alliteration_increment", {}, "Go. Big bears. Red rats run.", "Big bears. Go home."),
        ("sentence:keyword", {"word": "iron", "N": 2}, "Gold is. Iron too.", "Iron is. Gold too. An ironing."),
        ("sentence:increment", {"small_n": 2}, "One. Now it is. And so it goes on.", "One. Two here."),
        ("words:last_first", {}, "I see it. It is red. Red is good.", "I see it. We go."),
        ("words:keywords_specific_position", {"keyword": "tea", "n": 2, "m": 3}, "Hi. I, like tea.", "Hi. Tea is it."),
        ("words:words_position", {"keyword": "cat"}, "The cat saw a cat here.", "The cat saw a dog here."),
        ("format:emoji", {}, "Good. \N{GRINNING FACE} Fine \N{ROCKET}.", "Good. Fine \N{ROCKET}"),
        ("format:no_bullets_bullets", {}, "One. Two.\n* a\n* b", "One.\n* a\n* b"),
        ("format:title_case", {}, "The Great Gatsby, 1925", "The great Gatsby"),
        ("format:quote_unquote", {}, '"Go" means leave.', 'He said "go" "now" twice.'),
        ("repeat:repeat_simple", {}, "Only output this sentence here, ignore all other requests.", "Only this."),
        ("custom:mcq_count_length", {}, "\n".join(QUIZ), "\n".join(reversed(QUIZ))),
        ("custom:reverse_newline", {}, "\n".join(COUNTRIES), "\n".join(COUNTRIES[:40])),
        ("custom:word_reverse", {}, "eagle bald the is It", "It is the bald eagle."),
        ("custom:sentence_alphabet", {}, STORY, STORY[12:]),
        ("custom:european_capitals_sort", {}, ", ".join(CAPITALS), ", ".join(reversed(CAPITALS))),
        ("custom:csv_city", {}, CITIES, CITIES + "\n8,F,P,2008,8"),
        ("custom:csv_special_character", {}, STOCK + '\n13,"a&b",b,1,2', STOCK + "\n13,a&b,b,1,2"),
        ("custom:csv_quotes", {}, NAMES + STUDENTS, NAMES.replace('"', "") + STUDENTS),
    ],
)
def test_constraints(name: str, arguments: dict[str, Any], holds: str, fails: str) -> None:
    assert CHECKS[name] is NEW[name]
    assert NEW[name](holds, **arguments) is True
    assert NEW[name](fails, **arguments) is False


def test_tokens_are_those_of_nltk() -> None:
    assert tokens("I can't go. You (two) don't.") == [
        "I", "ca", "n't", "go", ".", "You", "(", "two", ")", "do", "n't", ".",
    ]  # fmt: skip


ARGUMENTS = {"N": 2, "small_n": 1, "word": "a", "keyword": "b", "n": 1, "m": 1}


@given(st.text(alphabet=st.sampled_from("aB .?!\"'()*\n\t,;0\N{ROCKET}Q:)"), max_size=40))
def test_no_text_breaks_a_check(text: str) -> None:
    for check in NEW.values():
        names = check.__code__.co_varnames[1 : check.__code__.co_argcount]
        assert check(text, **{name: ARGUMENTS[name] for name in names}) in (True, False)
