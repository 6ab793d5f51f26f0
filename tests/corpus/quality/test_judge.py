"""The shipped judge on text that it was not made from, and the language model tier with a client that we control."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from s1pro.base.records import Completion, Message, Sampling
from s1pro.corpus.general import licensed_packages
from s1pro.corpus.quality import Text, judge, shipped_judge
from s1pro.corpus.quality.anomaly import auc
from s1pro.corpus.quality.features import register_of
from s1pro.corpus.quality.garble import FAMILIES, garble
from s1pro.corpus.quality.hard_texts import KINDS, hard_text
from s1pro.corpus.quality.judge import LANGUAGE_TIER
from s1pro.corpus.quality.language_tier import SURPRISAL_FEATURES, measure, numbers_of, shuffled
from s1pro.corpus.quality.passages import (
    documentation_passages,
    passages_of,
    pdf_passages,
    sentences_of_lines,
    split_of,
)
from s1pro.corpus.quality.training import fit_model, hard_rows, labelled, measure_rows
from s1pro.corpus.records import CaptionRow

CAPTION = (
    "The line chart plots conductivity in siemens per metre against temperature in kelvin. The horizontal axis runs "
    "from 200 to 400 and the vertical axis from 0 to 12. Two series are shown: the blue line rises steadily over the "
    "whole range, and the red line stays flat until 300 and then falls. The legend in the upper left corner names them "
    "doped and undoped."
)


def by_hand(text: str, **other: str) -> tuple[bool, str, tuple[str, ...]]:
    row = judge([Text(text_id="t", text=text, **other)])[0]
    return row.keep, row.tier, row.reasons


def test_a_good_caption_is_kept() -> None:
    assert by_hand(CAPTION) == (True, "features", ())
    row = CaptionRow(request_id="r", element_id="e", template_id="t", model="m", text=CAPTION, finish_reason="length")
    verdict = judge([Text.of_caption(row)])[0]
    assert (verdict.text_id, verdict.keep, verdict.reasons) == ("r", False, ("unfinished",))


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "interleaved"])
def test_a_damaged_caption_scores_worse(family: str) -> None:
    good = judge([Text(text_id="g", text=CAPTION)])[0].score
    others = [CAPTION, CAPTION[::-1]]
    worse = [
        judge([Text(text_id="b", text=garble(CAPTION, family, seed, others))])[0].score > good for seed in range(6)
    ]
    assert sum(worse) >= 5


def test_rejections_have_reasons() -> None:
    keep, tier, reasons = by_hand(garble(CAPTION, "shuffled", 3, [CAPTION]))
    assert not keep and tier == "features"
    assert any(reason.startswith(("order", "surprisal", "small_start", "odd_capitals")) for reason in reasons)


@pytest.mark.parametrize("kind", list(KINDS))
def test_odd_but_good_text_is_kept(kind: str) -> None:
    rows = judge([Text(text_id=str(i), text=hard_text(kind, 3_000_000 + i)) for i in range(60)])
    assert sum(not row.keep for row in rows) <= 1, [row.reasons for row in rows if not row.keep]


def test_registers() -> None:
    assert register_of(CAPTION) == register_of(CAPTION.replace(" ", "")) == "prose"
    assert register_of(hard_text("chinese", 1)) == "cjk"
    assert {register_of(hard_text(kind, 1)) for kind in ("genes", "smiles", "sequences", "tables")} == {"notation"}


def test_held_out_documentation() -> None:
    """Packages that took no part in the fit; the floors of the project, on a small sample."""
    if "networkx" not in licensed_packages():
        pytest.skip("needs the documentation of networkx")
    passages = list(documentation_passages(["networkx"], max_documents=350))
    rows = labelled(passages, "test", per_document=3, damaged=3)
    verdicts = judge([Text(text_id=str(i), text=row.text) for i, row in enumerate(rows)])
    damaged = np.array([row.family != "good" for row in rows])
    scores = np.array([verdict.score for verdict in verdicts])
    kept = np.array([verdict.keep for verdict in verdicts])
    assert (~damaged).sum() >= 50
    assert auc(scores[~damaged], scores[damaged]) >= 0.96
    assert kept[~damaged].mean() >= 0.96
    assert kept[damaged].mean() <= 0.25


def test_passages_are_whole_sentences() -> None:
    lines = [
        "2.1 Introduction",
        "and this line is the rest of a sentence that began on another page. The",
        "second sentence is complete and it stands on two lines of running text.",
        "x = 1 + y",
        "where x is the position of the particle after the displayed formula ended.",
        "A third one begins here but it is cut by a table that comes right below it",
        "1.0 | 2.0 | 3.0",
        "Fourth sentence of the page, which is e.g. complete again and ends here.",
    ]
    assert list(sentences_of_lines(lines)) == [
        "The second sentence is complete and it stands on two lines of running text.",
        "Fourth sentence of the page, which is e.g. complete again and ends here.",
    ]
    sentences = [f"Sentence number {i} has exactly the words that it needs to be counted." for i in range(30)]
    found = list(passages_of([*sentences, *sentences]))
    assert all(60 <= len(text.split()) <= 200 and text.endswith(".") for text in found)
    assert len(found) == len(set(found)) and " ".join(found) in " ".join(sentences)


def test_parts_are_whole_collections() -> None:
    assert split_of("networkx/networkx.algorithms") == split_of("networkx/other") == "test"
    assert split_of("numpy/x") == "calibration" and split_of("anything/x") == "train"


def test_passages_of_a_real_paper(samples_dir) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("pypdfium2")
    passages = list(pdf_passages(samples_dir / "papers" / "tableformer_acl2022.pdf", collection="papers"))
    assert len(passages) >= 8 and {p.document for p in passages} == {"papers/tableformer_acl2022.pdf"}
    rows = judge([Text(text_id=str(i), text=p.text) for i, p in enumerate(passages)])
    assert sum(row.keep for row in rows) >= 0.75 * len(rows)  # lists of references look odd


class LetterClient:
    """`-log p` of a word is how far its first letter is from that of the word before: order matters, nothing else."""

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        raise NotImplementedError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise NotImplementedError

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        assert sampling.max_new_tokens == 0 and sampling.prompt_logprobs == 0
        letters = [ord(word[0].lower()) for word in prompt.split()]
        values = [-abs(a - b) / 10 for a, b in itertools.pairwise(letters)]
        return Completion(text="", finish_reason="length", prompt_logprobs=(None, *values))


SORTED = " ".join(sorted(CAPTION.split(), key=str.lower))


def test_surprisal_sees_the_order_through_a_client() -> None:
    found = asyncio.run(measure(LetterClient(), {"plain": SORTED, "short": "two words"}))
    assert set(found) == {"plain"}
    numbers = dict(zip(SURPRISAL_FEATURES, found["plain"], strict=True))
    assert numbers["model_contrast"] > 0.3 and numbers["model_mean"] < 0.2
    assert shuffled(SORTED) == shuffled(SORTED) != SORTED


def test_numbers_by_hand() -> None:
    numbers = dict(zip(SURPRISAL_FEATURES, numbers_of([1.0, 3.0], [4.0, 6.0], 8), strict=True))
    assert numbers["model_mean"] == 2 and numbers["model_contrast"] == 3 and numbers["model_per_letter"] == 0.5
    assert numbers["model_spread"] == 1 and math.isclose(numbers["model_high"], 2.8)


def test_the_third_tier_decides_where_it_has_numbers() -> None:
    """Fitted so that only the model's contrast tells good from bad."""
    shipped = shipped_judge()
    rows = hard_rows("train", 1)[:0] + labelled(_sorted_passages(), "train", per_document=99, damaged=0)
    measured = measure_rows(rows, lambda document: shipped.ngrams)
    second = shipped.features.logits(shipped.features.anomalies(measured.registers, measured.values))[:, None]
    rng = np.random.default_rng(0)
    good = rng.normal(size=(len(rows), len(SURPRISAL_FEATURES)))
    bad = good - 12
    both = replace(
        measured,
        rows=(*measured.rows, *(replace(row, family="shuffled") for row in measured.rows)),
        registers=measured.registers * 2,
        values=np.concatenate([np.hstack([second, good]), np.hstack([second, bad])]),
        broken=np.tile(measured.broken, 2),
    )
    third = replace(shipped, language=fit_model(both, LANGUAGE_TIER))
    text = Text(text_id="a", text=rows[0].text)
    fine = judge([text], third, surprisals={"a": np.zeros(len(SURPRISAL_FEATURES))})[0]
    odd = judge([text], third, surprisals={"a": np.full(len(SURPRISAL_FEATURES), -12.0)})[0]
    assert (fine.tier, odd.tier) == ("language_model", "language_model")
    assert fine.keep and not odd.keep and odd.reasons[0].startswith("model_")
    assert judge([text], third)[0].tier == "features"
    with pytest.raises(ValueError, match="no model that reads them"):
        judge([text], surprisals={"a": np.zeros(len(SURPRISAL_FEATURES))})


def _sorted_passages():  # type: ignore[no-untyped-def]
    from s1pro.corpus.quality.passages import Passage

    words = CAPTION.split()
    return [Passage(document=f"own/{i}", text=" ".join(words[i:] + words[:i])) for i in range(40)]
