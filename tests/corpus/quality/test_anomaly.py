from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.quality.anomaly import AnomalyModel, auc, calibrate, fit, write_model


def made(seed: int, number: int = 1500) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Damage `a` raises the first column, `b` lowers the second; the third says nothing, the fourth may miss."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(number, 4))
    kind = rng.integers(0, 3, number)
    values[kind == 1, 0] += 4
    values[kind == 2, 1] -= 4
    values[rng.random(number) < 0.3, 3] = np.nan
    families = ["good" if k == 0 else "a" if k == 1 else "b" for k in kind]
    return ["prose"] * number, values, (kind > 0).astype(float), families


@pytest.fixture(scope="module")
def model() -> AnomalyModel:
    registers, values, damaged, families = made(0)
    fitted = fit(registers, values, damaged, ("p", "q", "r", "s"), groups=families)
    registers, values, damaged, _ = made(1)
    return calibrate(fitted, fitted.logits(fitted.anomalies(registers, values)), damaged)


def test_damage_is_found_and_calibrated(model: AnomalyModel) -> None:
    registers, values, damaged, _ = made(2, 4000)
    p = model.probabilities(model.anomalies(registers, values))
    assert auc(p[damaged == 0], p[damaged == 1]) > 0.97
    assert (p[damaged == 0] > model.threshold).mean() == pytest.approx(0.01, abs=0.01)
    for low in (0.0, 0.9):
        some = (p >= low) & (p <= low + 0.1)
        assert p[some].mean() == pytest.approx(damaged[some].mean(), abs=0.06)


def test_weights_are_not_negative_and_unseen_damage_counts(model: AnomalyModel) -> None:
    assert model.weights.min() >= 0
    usual = np.zeros((1, 4))
    base = model.logits(model.anomalies(["prose"], usual))[0]
    for column, value in ((0, 6.0), (1, -6.0), (2, 40.0), (3, -40.0)):
        odd = usual.copy()
        odd[0, column] = value
        assert model.logits(model.anomalies(["prose"], odd))[0] > base + 0.5


def test_missing_numbers_say_nothing(model: AnomalyModel) -> None:
    assert np.all(model.anomalies(["prose"], np.full((1, 4), np.nan)) == 0)
    assert np.all(model.anomalies(["other"], np.full((1, 4), 9.0)) == 0)


def test_reasons(model: AnomalyModel) -> None:
    row = model.anomalies(["prose"], np.array([[0.0, -5.0, 0.0, 0.0]]))[0]
    assert model.reasons(row)[0] == "q low"


def test_a_usual_value_shared_by_most_is_no_anomaly() -> None:
    registers = ["prose"] * 200
    values = np.zeros((200, 1))
    values[:10] = 1.0  # one in twenty good texts
    fitted = fit(registers, values, np.zeros(200), ("n",), steps=1)
    found = fitted.anomalies(["prose"] * 2, np.array([[0.0], [1.0]]))
    assert found[0, :2].sum() == 0 and found[1, 0] > 0.5


def test_auc_by_pairs() -> None:
    good, bad = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.4, 0.8, 1.0])
    pairs = [(b > g) + 0.5 * (b == g) for g in good for b in bad]
    assert auc(good, bad) == pytest.approx(np.mean(pairs))


def test_file_and_back(model: AnomalyModel, tmp_path: Path) -> None:
    write_model(model, tmp_path / "model.json")
    again = AnomalyModel.load(tmp_path / "model.json")
    registers, values, _, _ = made(3, 50)
    before, after = (m.probabilities(m.anomalies(registers, values)) for m in (model, again))
    assert np.allclose(before, after, atol=1e-3)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.json: not a model of text quality"):
        AnomalyModel.load(tmp_path / "model.json")
