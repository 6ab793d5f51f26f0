"""The labels are in the media, and not in their sizes: simple classifiers on held-out examples.

A media family whose answers no classifier can find would teach a model noise; one whose answers follow from length or
sampling rate would teach it nothing about the medium.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from s1pro.science.media import Choice, Count, Medium
from s1pro.science.media_families import media_families
from s1pro.science.molecules import Molecule

pytest.importorskip("sklearn")

# Share of right answers that a simple classifier must reach, with 180 training examples (digits: 600).
REACHED = {
    "rings_in_depiction": 0.50,
    "trend_in_plot": 0.90,
    "unit_in_plot": 0.90,
    "digit_in_scan": 0.85,
    "motion_in_video": 0.70,
    "turn_in_video": 0.85,
    "curve_in_video": 0.90,
    "chirp_in_signal": 0.85,
    "transit_in_lightcurve": 0.85,
    "lattice_in_diffraction": 0.85,
    "rhythm_in_ecg": 0.75,
    "call_in_sound": 0.60,
    "arrival_in_seismogram": 0.90,
    "distance_in_seismogram": 0.85,
    "recording_in_signal": 0.80,
    "trend_in_recording": 0.90,
}
# Which group is asked about is in the question, so no classifier of pictures can answer it. The three others are open.
NOT_CLASSIFIED = {"formula_in_depiction", "group_in_depiction"}


Vector = npt.NDArray[np.float64] | list[float]


def features(medium: Medium) -> npt.NDArray[np.float64]:
    """Pixels; of signals the standardised values and spectra of the whole and of sixteen pieces."""
    values = medium.array.astype(np.float64)
    if medium.kind == "image":
        return values[::3, ::3, 0].ravel() / 255
    if medium.kind == "video":
        return values[:, ::4, ::4, 0].ravel() / 255
    values = (values - values.mean()) / (values.std() + 1e-8)
    spectrum = np.log1p(np.abs(np.fft.rfft(values)))[:400]
    length = len(values) // 16
    pieces = np.log1p(np.abs(np.fft.rfft(values[: 16 * length].reshape(16, length)))) if length >= 4 else np.zeros(1)
    return np.concatenate([values[:400], spectrum, pieces.ravel()[:1500]])


def sizes(medium: Medium) -> list[float]:
    """What can be known without looking: shape, rates, unit."""
    shape = [*medium.array.shape, 0, 0, 0][:4]
    rates = [float(medium.details.get(name, 0)) for name in ("fps", "sampling_rate")]
    return [*shape, *rates, float(len(medium.details.get("unit", "")))]


def accuracy(train: list[Vector], train_answers: list[str], test: list[Vector], test_answers: list[str]) -> float:
    from sklearn.ensemble import ExtraTreesClassifier

    classifier = ExtraTreesClassifier(60, random_state=0)
    classifier.fit(np.array(train, dtype=np.float32), train_answers)
    return float(np.mean(classifier.predict(np.array(test, dtype=np.float32)) == np.array(test_answers)))


def test_every_family_is_judged() -> None:
    closed = {name for name, family in media_families().items() if isinstance(family.answer, Choice | Count)}
    assert closed - NOT_CLASSIFIED == set(REACHED)


@pytest.mark.parametrize("name", REACHED)
def test_labels_are_in_the_media_and_not_in_their_sizes(name: str, molecules: tuple[Molecule, ...]) -> None:
    if name == "trend_in_recording":
        pytest.importorskip("statsmodels")
    family = media_families(molecules=molecules)[name]
    train = family.examples("train", 600 if name == "digit_in_scan" else 180)
    test = family.examples("test", family.different("test", 80))
    answers, right = [e.answer["text"] for e in train], [e.answer["text"] for e in test]
    media, asked = [e.render() for e in train], [e.render() for e in test]
    constant = max(right.count(label) for label in set(right)) / len(right)
    found = accuracy([features(m) for m in media], answers, [features(m) for m in asked], right)
    assert found >= max(REACHED[name], constant + 0.15)
    if len({tuple(sizes(medium)) for medium in [*media, *asked]}) > 1:
        assert accuracy([sizes(m) for m in media], answers, [sizes(m) for m in asked], right) <= constant + 0.12
