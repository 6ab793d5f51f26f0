from __future__ import annotations

import pytest

from s1pro.corpus.captioning.checks import (
    CONTEXT_MARK,
    check_caption,
    flag_counts,
    foreign_labels,
    foreign_numbers,
    longest_common,
    repeats,
)

LAYER = "Time (s)\n0 20 40 60\nVoltage (mV)\n−20 1,000 103 alpha beta 0.847 14.0% 2×10−3 H2O"


@pytest.mark.parametrize(
    "text",
    [
        "It runs from 0 to 60 and from -20 upwards.", "A thousand is written as 1000.", "The top is 10^3.",
        "Rounded, it is 0.85.", "About 14 percent.", "A share of 0.14.", "There are 3 curves in 2 panels.",
        "It is 3 times larger: 60 against 20.", "They differ by 40.", "Panel 2 shows water, H2O.", "2×10^-3 is small.",
        "A 3D view with 12 bars.", "Twenty-one points.",
    ],
)  # fmt: skip
def test_numbers_that_are_printed_or_follow_from_printed_ones(text: str) -> None:
    assert list(foreign_numbers(text, LAYER)) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("It reaches 73 mV.", ["73"]), ("The value is 0.9.", ["0.9"]), ("It is 57% at 37 °C.", ["57%", "37"]),
        ("From 0 to 80.", ["80"]), ("It is 4711, again 4711.", ["4711"]), ("In 2019 it was 60.", ["2019"]),
        ("12.5 and 1.25e-7", ["12.5", "1.25e-7"]), ("There are 300 curves.", ["300"]),
    ],
)  # fmt: skip
def test_invented_numbers_are_found(text: str, wrong: list[str]) -> None:
    assert list(foreign_numbers(text, LAYER)) == wrong


def test_labels_in_quotes_must_be_printed() -> None:
    text = 'The axis “time (S)” and the curve "alpha", but not “gamma” or “Frequency”, nor “alpha and beta”.'
    assert list(foreign_labels(text, LAYER)) == [
        "gamma", "Frequency", "alpha and beta",
    ]  # fmt: skip


def test_an_ungrounded_caption_must_not_quote_the_authors() -> None:
    authors = "The membrane was heated in vacuum for two hours before the potential was measured against silver."
    quoting = "One curve. The membrane was heated in vacuum for two hours before the potential was measured."
    found = check_caption(quoting, LAYER, authors_caption=authors)
    assert [flag.partition(":")[0] for flag in found.flags] == ["quotes_caption"]
    assert check_caption(quoting, LAYER, authors_caption=authors, grounded=True).is_clean
    assert check_caption("One curve that rises.", LAYER, authors_caption=authors).is_clean
    assert check_caption(quoting, LAYER + authors, authors_caption=authors).is_clean  # it is printed in the figure


def test_context_is_not_checked_and_numbers_of_a_grounded_caption_are() -> None:
    context = f"The curve rises to 60.\n\n{CONTEXT_MARK} the authors' caption says “Heated to 815 K.”"
    assert check_caption(context, LAYER, authors_caption="Heated to 815 K.", grounded=True).is_clean
    assert check_caption("Heated to 815 K.", LAYER, authors_caption="Heated to 815 K.", grounded=True).is_clean
    assert check_caption("Heated to 815 K.", LAYER).flags == ("number:815",)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("", "empty"), ("I'm sorry, I cannot view the image.", "refusal"), ("As an AI I see.", "refusal"),
        ("The curve rises. " + "and so on and " * 8, "repetition"),
        ("The line for alpha rises slowly. " * 5 + "End.", "repetition"),
    ],
)  # fmt: skip
def test_form(text: str, flag: str) -> None:
    assert flag in check_caption(text, LAYER).flags


def test_form_of_good_texts() -> None:
    table = "\n".join(f"Row “{name}”: low: 20; high: 60." for name in ("alpha", "beta"))
    assert check_caption(table, LAYER).is_clean
    assert not repeats("The first line rises from 0 to 60. The second line rises from 0 to 40. The third falls.")
    assert check_caption("Cut in the mid", LAYER, finish_reason="length").flags == ("truncated",)
    prompt = "Describe everything that is visible in it in flowing text. Use 120 to 220 words."
    assert "prompt_echo" in check_caption(f"Sure. {prompt}", LAYER, prompt=prompt).flags


def test_without_text_layer_nothing_can_be_flagged_as_invented() -> None:
    found = check_caption("It shows 4711 cells.", "  ")
    assert found.flags == ("no_text_layer",) and found.is_clean


def test_longest_common_run_agrees_with_trying_all() -> None:
    pairs = [("abcde", "xbcdy"), ("", "a"), ("aaa", "aa"), ("The Quick  brown", "quick brown fox"), ("abc", "def")]
    for a, b in pairs:
        x, y = (" ".join(text.lower().split()) for text in (a, b))
        runs = {x[i:j] for i in range(len(x)) for j in range(i + 1, len(x) + 1)}
        expected = max((len(run) for run in runs if run in y), default=0)
        assert len(longest_common(a, b)) == expected


def test_long_texts_are_checked() -> None:
    """Quadratic code would take hours here, and the test would time out."""
    found = check_caption("(1" * 2000 + "word " * 2000, "1 2 3 " * 2000, authors_caption="word " * 2000)
    assert "repetition" in found.flags


def test_counts_of_flags() -> None:
    assert flag_counts([("number:3", "number:4"), ("label:x",), ()]) == {"number": 1, "label": 1}
