"""General text benchmarks, GAIA, instructions, results of programs, METEOR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import general_text, instruction_following
from s1pro.tasks.benchmarks.execution import execution_scores, pass_at_k
from s1pro.tasks.benchmarks.gaia import final_answer, question_accuracy
from s1pro.tasks.benchmarks.instruction_checks import CHECKS
from s1pro.tasks.benchmarks.mathematical_text import same_text
from s1pro.tasks.benchmarks.text_metrics import meteor, rouge_l
from tests.tasks.benchmarks.scoring import numbers


def test_mmlu_pro() -> None:
    records = [
        {"question": "q", "options": ["x", "y", "z"], "answer": a, "category": c}
        for a, c in (("A", "math"), ("B", "math"), ("C", "law"))
    ]
    replies = ["the answer is (A)", "I think the answer is (A)</think> the answer is (B)", "Answer: C"]
    got = numbers("mmlu-pro", "test", records, replies)
    assert (got["compat"], got["compat.category_mean"]) == (pytest.approx(100 / 3), pytest.approx(25.0))
    assert (got["strict"], got["strict.law"]) == (100.0, 100.0)


def test_gpqa_options_are_turned() -> None:
    record = {"Question": "q", "Correct Answer": "right", **{f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}}
    golds = [general_text.gpqa_gold({**record, "_row": row}) for row in (1, 2, 3, 4)]
    assert golds == ["D", "C", "B", "A"]
    assert list(general_text.gpqa_options({**record, "_row": 1}).values()) == ["w1", "w2", "w3", "right"]
    replies = ["Answer: D", "**D**", "ANSWER: A\nANSWER: D", "answer: d"]
    got = numbers("gpqa", "test", [{**record, "_row": 1}] * 4, replies)
    assert (got["compat"], got["strict"]) == (25.0, pytest.approx(75.0))


@pytest.mark.parametrize(
    ("reply", "compat", "strict"),
    [
        ("\\boxed{42}", 100, 100),
        ("\\boxed{042}", 0, 100),
        ("thus $42$", 100, 0),
        ("\\boxed{41}", 0, 0),
        ("\\boxed{\\frac{84}{2}}", 0, 100),
        ("\\boxed{}", 0, 0),
        ("\\boxed{41}</think>\\boxed{42}", 100, 100),
        ("", 0, 0),
        ("42", 100, 0),  # without a box the whole reply is the answer
        ("It is 42", 0, 0),
        ("\\boxed{x=42}", 100, 100),
        ("\\boxed{42.}", 0, 100),
        ("\\boxed{42\\text{ cm}}", 100, 100),
        ("\\boxed{42^\\circ}", 100, 100),
        ("$42$ or \\boxed{41", 100, 0),  # what opens but does not close is no box
        ("\\boxed 42$", 100, 0),
        ("\\fbox{42}", 0, 0),
    ],
)
def test_aime(reply: str, compat: float, strict: float) -> None:
    pytest.importorskip("math_verify")
    got = numbers("aime-2025", "test", [{"question": "q", "answer": "42"}], [reply])
    assert (got["compat"], got["strict"]) == (compat, strict)


@pytest.mark.parametrize(
    ("gold", "said", "right"),
    [
        ("17", "$17", True),
        ("17", "17.0%", True),
        ("1234", "1,234", True),
        ("17", "17 apples", False),
        ("17", None, False),
        ("St. Petersburg", "st petersburg", True),
        ("None", None, True),
        ("a, b;3", "A,b; 3.0", True),
        ("a, b", "b, a", False),
        ("a, b", "a", False),
        ("a., b", "a, b", False),
        ("nan", "nan", False),
        ("Straße", "straße", True),
        ("x", "", False),
    ],
)
def test_gaia(gold: str, said: str | None, right: bool) -> None:
    assert question_accuracy(gold, said) is right


def test_gaia_answers() -> None:
    assert final_answer("so\nFINAL ANSWER: **3**\nbye") == "3"
    assert final_answer("none") is None
    records = [{"Question": "q", "Final answer": "3"}]
    assert numbers("gaia", "test", records, ["3"])["compat"] == 100.0
    assert numbers("gaia", "test", records, ["3"])["strict"] == 0.0


def instructions(*some: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    names, arguments = [name for name, _ in some], [args for _, args in some]
    return {"key": 1, "prompt": "Say it.", "instruction_id_list": names, "kwargs": arguments}


def test_four_numbers() -> None:
    records = [
        instructions(("punctuation:no_comma", {}), ("startend:end_checker", {"end_phrase": "Bye", "x": None})),
        instructions(("keywords:letter_frequency", {"letter": "z", "let_frequency": 0, "let_relation": "at least"})),
        instructions(("language:rhyme", {})),
    ]
    got = numbers("ifeval", "test", records, ["Sure, here:\nHello *bye*", "x", "Ja"])
    assert got["strict.prompt_strict"] == pytest.approx(100 / 3)
    assert got["strict.prompt_loose"] == pytest.approx(200 / 3)
    assert got["strict.instruction_strict"] == pytest.approx(100 / 4)
    assert got["strict.instruction_loose"] == pytest.approx(300 / 4)
    assert got["strict"] == pytest.approx((100 / 3 + 200 / 3 + 25 + 75) / 4)
    assert got["strict.unsupported"] == 1.0
    with pytest.raises(InputError, match="kwargs"):
        instruction_following.gold({**records[0], "kwargs": []})


@pytest.mark.parametrize(
    ("name", "arguments", "good", "bad"),
    [
        ("keywords:existence", {"keywords": ["A.b"]}, "xa.bx", "aXb"),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "the Cat"),
        ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "less than"}, "ha", "haHa"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "a b c", "a b"),
        ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "Aa. Bb!", "Aa. Bb? Cc"),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
            'a\n\n"So, b',
            "so\n\nb",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x\nP. S. y", "x"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n** b"),
        ("detectable_format:constrained_response", {}, "My answer is no.", "no"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a*", "* a"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Part", "num_sections": 2},
            "Part 1\na\nPart 2\nb",
            "Part 1",
        ),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a}"),
        ("detectable_format:title", {}, "<<A>>", "<< >>"),
        ("combination:two_responses", {}, "a******b", "a******a"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say"}, "say it", "it"),
        ("startend:quotation", {}, '"a"', '"'),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            "AB CD e",
            "Ab CD",
        ),
        ("change_case:english_capital", {}, "ABC 1", "ABc"),
        ("count:word_count_range", {"min_words": 2.0, "max_words": 3.0}, "a b.", "a b c d"),
        ("count:unique_word_count", {"N": 2.0}, "a, b a", "a A."),
        ("count:conjunctions", {"small_n": 2.0}, "a and b, or c", "and and"),
        ("count:numbers", {"N": 2.0}, "1,000 and 2", "1 000 2"),
        ("count:punctuation", {}, "a, b; c: d. e! f? g?!", "a, b; c: d. e?!"),
        ("count:words_japanese", {"N": 2.0}, "a \N{HIRAGANA LETTER KA} b 7", "a b"),
        (
            "count:keywords_multiple",
            {f"keyword{i}": letter for i, letter in enumerate("abcde", start=1)},
            "a" + "b" * 2 + "c" * 3 + "D" * 5 + "e" * 7,
            "abcde",
        ),
        ("ratio:overlap", {"reference_text": "abcdef", "percentage": 100.0}, "bcde", "xyz"),
        ("words:alphabet", {}, "yes Zoe, a bee", "a c"),
        ("words:vowel", {}, "a e i", "a e i o"),
        ("words:consonants", {}, "strong words", "strong tea"),
        ("words:palindrome", {}, "level " * 10, "level " * 9 + "noon"),
        ("words:prime_lengths", {}, "it was", "it is a"),
        ("words:repeats", {"small_n": 1.0}, "a b", "a A"),
        ("words:paragraph_last_first", {}, "So it is so.\n\nyes", "so it is"),
        ("words:no_consecutive", {}, "a big cat", "a big bear"),
        ("format:parentheses", {}, "([{([x])}])", "(((())))"),
        ("format:quotes", {}, '"a \'b "c" d\' e"', "\"a 'b' c\""),
        ("format:options", {"options": "yes/no/maybe"}, "Maybe.", "yes or no"),
        ("format:options", {"options": "a), b), c), d)"}, "b)", "b"),
        ("format:options", {"options": "I know or I don't know"}, "I don't know!", "I do"),
        ("format:newline", {}, "one\ntwo", "one two"),
        ("format:line_indent", {}, "a\n b\n  c", "a\nb"),
        ("format:list", {"sep": "!?"}, "!? a !? b", "!? a"),
        ("format:thesis", {}, "<i>so</i> it is", "<i> </i> it is"),
        ("format:sub-bullets", {}, "* a\n - b", "* a\n* b - c"),
        ("format:output_template", {}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
        ("format:no_whitespace", {}, "ab", "a\tb"),
        ("repeat:repeat_change", {"prompt_to_repeat": "Say it"}, "Tell it", "Say it"),
        ("repeat:repeat_span", {"prompt_to_repeat": "abcdef", "n_start": 1.0, "n_end": 3.0}, "BCD", "bc"),
        ("custom:multiples", {}, "14, 21,28 35 42 49", "7 14 21 28 35 42 49"),
        ("custom:character_reverse", {}, "elgae dlab", "bald eagle"),
        ("custom:date_format_list", {}, "1769-08-15, 1821-05-05", "1800-02-30"),
        ("change_case:english_lowercase", {}, "abc 1", "aBc"),
    ],
)
def test_checks(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    assert CHECKS[name](good, **arguments)
    assert not CHECKS[name](bad, **arguments)


def test_pass_at_k(tmp_path: Path) -> None:
    assert pass_at_k([True, False, False, False], 2) == pytest.approx(1 - 3 / 6)
    path = tmp_path / "results.jsonl"
    lines = [{"question_id": 1, "passed": [True, False]}, {"question_id": "b", "passed": [False, False]}]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert execution_scores(path) == {"score": 25.0, "n_total": 2.0}
    for wrong, message in (
        ({"question_id": 1, "passed": [True]}, "line 2: question_id"),
        ({"question_id": 2, "passed": [1]}, "true and false"),
        ({"question_id": 2, "passed": []}, "not enough"),
        ({"question_id": 2}, "line 2: the field 'passed' is missing"),
    ):
        path.write_text(json.dumps(lines[0]) + "\n" + json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            execution_scores(path)


class NoSynonyms:
    """Stands for WordNet."""

    def synsets(self, word: str) -> list[Any]:
        return []


def test_meteor_is_that_of_nltk_without_synonyms() -> None:
    translate = pytest.importorskip("nltk.translate.meteor_score")
    sentences = [
        ("the cat sat on the mat", "on the mat sat the cat"),
        ("dogs are running fast", "the dog runs the fastest run"),
        ("A molecule of ethanol .", "a MOLECULE of methanol ."),
        ("one two", "three"),
        ("a a b", "a b a a"),
    ]
    for gold, said in sentences:
        expected = translate.meteor_score([gold.split()], said.split(), wordnet=NoSynonyms())
        assert meteor(gold.split(), said.split()) == pytest.approx(expected)
    assert meteor(["a"], []) == meteor([], ["a"]) == 0.0


def test_other_text_metrics() -> None:
    pytest.importorskip("rouge_score")
    assert rouge_l("a b c d", "a c x") == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert rouge_l("running", "runs", stem=True) == 1.0


GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund, und niemand weiß, warum er das tut."


def test_the_language_of_a_reply_is_that_of_langdetect() -> None:
    """Against the package with the same seed, and twice, since without one it draws at random."""
    langdetect = pytest.importorskip("langdetect")
    langdetect.DetectorFactory.seed = 0
    check = CHECKS["language:response_language"]
    texts = [
        GERMAN,
        "The quick brown fox jumps over the lazy dog.",
        "Быстрая бурая лисица прыгает.",
        "ok danke",
        "hello",
    ]
    for text in texts:
        expected = langdetect.detect(text)
        assert [check(text, language=expected) for _ in range(3)] == [True] * 3
        assert not check(text, language="ta")
    assert check(GERMAN, language="de") and check("12 345", language="de")  # no letters: followed, as upstream
    got = numbers("ifeval", "test", [instructions(("language:response_language", {"language": "de"}))], [GERMAN])
    assert got["strict"] == 100.0 and got["strict.unsupported"] == 0.0


def test_capital_letters_are_english_to_upstream() -> None:
    langdetect = pytest.importorskip("langdetect")
    langdetect.DetectorFactory.seed = 0
    for text in (GERMAN.upper(), "HELLO WORLD", "THIS IS ALL IN CAPITAL LETTERS.", "1 + 1 = A"):
        got = numbers("ifeval", "test", [instructions(("change_case:english_capital", {}))], [text])
        assert got["compat.prompt_strict"] == (100.0 if langdetect.detect(text) == "en" else 0.0)
        assert got["strict.prompt_strict"] == 100.0


@pytest.mark.parametrize(
    ("name", "arguments", "text", "compat", "strict"),
    [
        ("keywords:existence", {"keywords": ["a.b"]}, "a-b", True, False),
        ("keywords:existence", {"keywords": ["(x"]}, "f(x)", True, True),  # no regular expression
        ("keywords:forbidden_words", {"forbidden_words": ["ye."]}, "yes", False, True),
        ("keywords:frequency", {"keyword": "o|i", "frequency": 2, "relation": "at least"}, "io", True, False),
        ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "IT'S", True,
         False),
    ],
)  # fmt: skip
def test_upstream_has_other_words(name: str, arguments: dict[str, Any], text: str, compat: bool, strict: bool) -> None:
    """As lm-eval's checkers say."""
    got = numbers("ifeval", "test", [instructions((name, arguments))], [text])
    assert (got["compat.prompt_strict"], got["strict.prompt_strict"]) == (100.0 * compat, 100.0 * strict)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("\\dfrac12", "\\frac{1}{2}", True),
        ("0.5", "\\frac{1}{2}", True),
        (".5", "0.5", True),
        ("3/4", "\\frac{3}{4}", True),
        ("03/4", "\\frac{3}{4}", False),
        ("a/b", "a / b", False),  # no numbers: compared as they are
        ("\\sqrt3", "\\sqrt{3}", True),
        ("\\left( 1, 2 \\right)", "(1,2)", True),
        ("50\\%", "50", True),
        ("abc=5", "5", False),
        ("\\frac", "\\frac ", False),
    ],
)
def test_normal_forms_of_mathematics(first: str, second: str, same: bool) -> None:
    """As lm-eval's `is_equiv` says."""
    assert same_text(first, second) == same_text(second, first) == float(same)
