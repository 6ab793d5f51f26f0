from __future__ import annotations

import pytest

from s1pro.corpus.quality.hard_texts import KINDS, hard_text
from s1pro.corpus.quality.rules import broken_rules, math_closes

GOOD = (
    "The left panel shows the absorption of the film between 400 and 800 nm. Two peaks are visible, at 450 nm and at "
    "620 nm, and the second one grows with temperature. The inset gives the ratio of both as a function of time."
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("... --- ...", "empty"),
        (GOOD + " and then" + " the curve rises to its maximum and then" * 6, "loop"),
        (GOOD[:60] + " see panel 1 now see panel 2 now see panel 3 now see panel 4 now see panel 5 now", "loop"),
        ("I'm sorry, but I can't see the image. " + GOOD, "refusal"),
        (GOOD + " As an AI language model I do not have access to the figure.", "refusal"),
        ("Sure! Here is the caption: " + GOOD, "refusal"),
        (GOOD.replace("peaks", "pe\ue001\ue002ks \ufffd\ufffd"), "broken_text"),
        (GOOD + " (cid:12)(cid:44)(cid:3)", "broken_text"),
        (GOOD.replace(" ", "â€™ ", 8), "broken_text"),
        (r"The energy is \begin{equation} E = mc^2 and nothing more is said about it", "unclosed_math"),
        (r"With $\alpha = \frac{1}{2$ we obtain the second curve of the panel", "unclosed_math"),
    ],
)
def test_what_breaks_a_rule(text: str, rule: str) -> None:
    assert rule in broken_rules(text)


def test_good_text_breaks_none() -> None:
    assert broken_rules(GOOD) == ()
    assert broken_rules(GOOD, prompt="Describe what is visible in the figure, with all axes and units.") == ()


def test_how_it_ended_and_what_was_asked() -> None:
    assert broken_rules(GOOD, finish_reason="length") == ("unfinished",)
    prompt = "Name all axes, units, colours and trends that you can see in this figure of a paper about films."
    assert broken_rules(GOOD + " " + prompt, prompt=prompt) == ("prompt_echo",)


@pytest.mark.parametrize("kind", list(KINDS))
def test_odd_but_good_text_breaks_none(kind: str) -> None:
    broken = [broken_rules(hard_text(kind, seed)) for seed in range(60)]
    assert sum(map(bool, broken)) <= 1


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        ("costs 5$ each", True),  # no command, no LaTeX
        (r"$\alpha$ and $\beta$", True),
        (r"$\alpha$ and $\beta", False),
        (r"\begin{align} a \end{align}", True),
        (r"\begin{align} a \end{aligned}", False),
        (r"\left( a \right) \mathrm{x}", True),
        (r"\left( a \mathrm{x}", False),
        (r"\{ \alpha \}", True),
        (r"\frac{a}}{b}{", False),
    ],
)
def test_math(text: str, closes: bool) -> None:
    assert math_closes(text) is closes
