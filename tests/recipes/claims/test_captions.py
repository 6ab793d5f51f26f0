"""Claim 8, captions: what is drawn is what is described, captions of equal length, and the fast setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s1pro.data.sequence import ProcessorEncoder, TokenSequence
from s1pro.recipes.claims.captions import (
    ARMS,
    CLAIM,
    QUESTIONS,
    caption_source,
    captioned_charts,
    cut_to,
    questions_about,
    verdict,
)
from s1pro.recipes.claims.charts import COLOURS, COURSES, SAYS_COURSE, authors_caption, compose, described, draw_chart
from s1pro.recipes.claims.claim import Measurement
from s1pro.recipes.claims.labelled import make_processor
from s1pro.recipes.claims.runner import ClaimRun, run_claim

SAID = {
    "rising": ("rises", "increases", "goes up"),
    "falling": ("falls", "decreases", "goes down"),
    "peak": ("peak", "maximum"),
    "valley": ("minimum",),
}


def test_curves_go_as_they_are_called() -> None:
    for number in range(80):
        chart = draw_chart(f"any {number}")
        steps = np.sign(np.diff(chart.heights))
        turns = np.flatnonzero(np.diff(steps))
        begins = {"rising": 1, "falling": -1, "peak": 1, "valley": -1}[chart.course]
        assert steps[0] == begins and len(turns) == (chart.course in ("peak", "valley"))
        assert min(chart.heights) >= 0 and max(chart.heights) <= 1
    assert {draw_chart(f"any {number}").course for number in range(80)} == set(COURSES)


def test_the_describer_sees_what_was_drawn() -> None:
    """The truth is the chart; the describer is given the page alone."""
    pytest.importorskip("pypdfium2")
    for number in range(30):
        chart = draw_chart(f"seen {number}")
        text = described(compose(chart), str(number))
        assert f"{chart.colour} line" in text and not any(
            f"{other} line" in text for other in {*COLOURS} - {chart.colour}
        )
        assert any(word in text for word in SAID[chart.course])
        assert ("square markers" in text) == chart.squares
        assert not any(letter.isdigit() for letter in text)


def test_authors_say_what_was_measured_and_seldom_what_is_seen() -> None:
    charts = [draw_chart(f"x {number}") for number in range(1000)]
    texts = [authors_caption(chart, str(number)) for number, chart in enumerate(charts)]
    assert all(chart.quantity in text and chart.condition in text for chart, text in zip(charts, texts, strict=True))
    assert not any(word in text.split() for text in texts for word in (*COLOURS, "line", "markers"))
    with_course = np.mean(
        [any(word in text for word in ("increases", "decreases", "largest", "smallest")) for text in texts]
    )
    assert with_course == pytest.approx(SAYS_COURSE, abs=0.04)


def test_cutting_keeps_the_end_of_the_turn() -> None:
    weights = np.array([0, 0, 1, 1, 1, 1, 0], np.float32)
    sequence = TokenSequence(token_ids=np.arange(7, dtype=np.int32), loss_weights=weights, prompt_group="science")
    cut = cut_to(sequence, 3)
    assert cut.token_ids.tolist() == [0, 1, 2, 3, 5, 6] and cut.loss_weights.tolist() == [0, 0, 1, 1, 1, 0]
    assert cut_to(sequence, 4).token_ids.tolist() == list(range(7))
    with pytest.raises(ValueError, match="4 learned tokens, from 2 to 5, cannot be cut to 5"):
        cut_to(sequence, 5)


def test_both_captions_are_equally_long_and_about_the_same_pictures() -> None:
    pytest.importorskip("pypdfium2")
    charts = captioned_charts(20, seed=3)
    turns = [chart.turn(kind) for chart in charts for kind in ("described", "authors")]
    encoder = ProcessorEncoder(make_processor(turns, vocab_size=500))
    one, other = (caption_source(kind, charts, encoder) for kind in ("described", "authors"))
    for i in range(20):
        a, b = one.sequence(i), other.sequence(i)
        assert a.loss_weights.tolist() == b.loss_weights.tolist() and a.num_rows == b.num_rows
        assert a.token_ids[-2:].tolist() == b.token_ids[-2:].tolist() and a.token_ids.tolist() != b.token_ids.tolist()
        assert a.media is not None and b.media is not None
        assert np.array_equal(a.media.images.pixel_values_PX, b.media.images.pixel_values_PX)  # type: ignore[union-attr]


def test_questions_are_about_the_chart_and_new_in_every_split() -> None:
    pytest.importorskip("pypdfium2")
    asked = questions_about("exam", 60, seed=0)
    for number, question in enumerate(asked):
        chart, name = draw_chart(f"exam 0 {number // 3}"), list(QUESTIONS)[number % 3]
        word = {"course": chart.course, "colour": chart.colour, "markers": "with" + "out" * (not chart.squares)}[name]
        assert word in question.answer and question.answer in question.labels == QUESTIONS[name][1]
    heights = [
        {draw_chart(f"{split} 0 {i}").heights for i in range(200)} for split in ("exam", "questions", "captions")
    ]
    assert not heights[0] & heights[1] and not heights[0] & heights[2]


def measured(score: float) -> Measurement:
    values = {"accuracy": score, **dict.fromkeys(QUESTIONS, score)}
    return Measurement(values=values, items={"right": [float(i < 100 * score) for i in range(100)]})


def test_both_other_arms_have_to_be_beaten_by_the_margin() -> None:
    def outcome(described: float, authors: float, none: float, spread: float = 0.01) -> str:
        scores = dict(zip(ARMS, (described, authors, none), strict=True))
        results = {
            arm: {seed: measured(score + (spread * seed if arm == "none" else 0.002 * seed)) for seed in range(5)}
            for arm, score in scores.items()
        }
        return verdict(results).outcome

    assert outcome(0.8, 0.5, 0.4) == "replicates"
    assert outcome(0.8, 0.78, 0.4) == "does not replicate"
    assert outcome(0.8, 0.5, 0.6, spread=0.06) == "undecided"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fast_setting_and_the_same_captions_without_grounding(claims_folder: Path) -> None:
    pytest.importorskip("pypdfium2")
    run = ClaimRun(claim=CLAIM, folder=claims_folder, setting="fast", seeds=(0, 1))
    found = run_claim(run)
    assert {arm: by_seed[0].steps for arm, by_seed in found.results.items()} == {
        "described": run.claim.settings["fast"].steps + run.claim.settings["fast"].question_steps,
        "authors": run.claim.settings["fast"].steps + run.claim.settings["fast"].question_steps,
        "none": run.claim.settings["fast"].question_steps,
    }
    for seed in (0, 1):
        described, authors, none = (found.results[arm][seed] for arm in ARMS)
        assert described.tokens == authors.tokens > none.tokens > 0
        # what is seen can be learned, the name of a sample cannot
        losses = [measured.curves["loss on captions"][-1][1] for measured in (described, authors)]
        assert losses[0] < losses[1] - 0.2
        assert len(described.items["right"]) == 3 * run.claim.settings["fast"].items
    without = run_claim(replace(run, without="grounding"))
    assert without.verdict.outcome == "does not replicate"
    assert without.results["described"] == without.results["authors"] == found.results["authors"]
