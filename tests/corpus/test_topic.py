from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.topic import UNKNOWN, TopicModel, default_model, text_of, train
from s1pro.corpus.topic_words import TOPICS, made_up_texts

CAPTIONS = {
    "chemistry": "Yield of the coupling reaction of the aryl bromide with different palladium ligands and solvents.",
    "materials": "Stress-strain curves and SEM micrographs of the annealed alloy; grain size after sintering.",
    "biology": "Western blot of protein expression in mutant and wild-type mouse cells after knockout of the gene.",
    "medicine": "Kaplan-Meier survival of patients in the treatment and placebo arms of the randomized trial.",
    "earth": "Map of sea surface temperature anomaly and seismic stations along the fault.",
    "physics": "Energy spectrum of photon events in the detector and the fitted decay of the boson mass.",
    "computing": "Validation accuracy of the transformer with and without attention layers, by training epochs.",
    "society": "Household income and unemployment by education in the survey of urban and rural respondents.",
}


@pytest.mark.parametrize("topic", list(TOPICS))
def test_captions_of_every_field(topic: str) -> None:
    found, probability, abstained = default_model().classify([CAPTIONS[topic]])[0]
    assert (found, abstained) == (topic, False) and probability > 0.5


def test_it_abstains() -> None:
    rows = default_model().classify(["", "Logo", "left and right panel with a red line and a blue line"])
    assert [(topic, abstained) for topic, _, abstained in rows] == [(UNKNOWN, True)] * 3


def test_probabilities_are_calibrated_on_other_texts() -> None:
    """Of the answers that are given with about this probability, that share is right."""
    names = list(TOPICS)
    texts = [(text, topic) for topic in names for text in made_up_texts(topic, 60, seed=9)]
    p = default_model().probabilities([text for text, _ in texts])
    best, right = p.max(1), np.array([names.index(t) for _, t in texts])
    order = [default_model().topics.index(name) for name in names]
    hit = np.array(order)[right] == p.argmax(1)
    assert hit.mean() > 0.9
    assert abs(best.mean() - hit.mean()) < 0.06


def test_labels_of_ones_own_and_a_file(tmp_path: Path) -> None:
    texts = ["cats purr softly at night", "dogs bark loudly at cars", "a cat purrs", "the dog barks at night"] * 20
    labels = ["cat", "dog", "cat", "dog"] * 20
    model = train(texts, labels)
    assert [row[0] for row in model.classify(["that cat purrs again", "old dogs bark again"])] == ["cat", "dog"]
    model.save(tmp_path / "topics.npz")
    again = TopicModel.load(tmp_path / "topics.npz")
    assert again.topics == model.topics
    assert np.allclose(again.probabilities(texts[:4]), model.probabilities(texts[:4]), atol=1e-5)


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two topics are needed"):
        train(["a b c"], ["one"])
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a model of topics"):
        TopicModel.load(tmp_path / "x.npz")


def test_gradients_are_those_of_the_loss() -> None:
    """The trained weights are near a minimum: each topic's probability mass equals its count (offsets are free)."""
    texts = [text for topic in ("earth", "society") for text in made_up_texts(topic, 50)]
    labels = ["earth"] * 50 + ["society"] * 50
    model = train(texts, labels)
    kept = [t for i, t in enumerate(texts) if i % 5 != 4]
    logits = np.log(model.probabilities(kept)) * model.temperature
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert p.sum(0) == pytest.approx([40, 40], abs=1.0)


def test_the_words_around_an_element() -> None:
    from s1pro.corpus.records import ElementRow, Mention

    row = ElementRow(
        element_id="e", doc_id="d", page=0, type="figure", box=(0, 0, 1, 1), page_width=1, page_height=1,
        caption="Strain of steel.", section_title="Results", mentions=(Mention(page=0, text="See Fig. 1."),),
    )  # fmt: skip
    assert text_of(row) == "Results Strain of steel. See Fig. 1."
