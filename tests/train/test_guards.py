"""Guards: what is skipped, what stops the run."""

from __future__ import annotations

import json

import pytest

from s1pro.train.guards import Guard, GuardConfig, TrainingStoppedError


def warm_guard(**options: float) -> Guard:
    guard = Guard(GuardConfig(min_history=4, window=8, **options))  # type: ignore[arg-type]
    for _ in range(4):
        assert guard.check(3.0, 1.0) is None
    return guard


def test_non_finite_steps_are_skipped_from_the_start() -> None:
    guard = Guard(GuardConfig())
    assert "not finite" in str(guard.check(float("nan"), 1.0))
    assert "not finite" in str(guard.check(1.0, float("inf")))
    assert guard.skipped == 2


def test_spikes_are_judged_against_recent_accepted_steps() -> None:
    guard = warm_guard(norm_spike=20.0)
    assert "loss 5.500 lies far above the 3.000 that recent steps make usual" in str(guard.check(5.5, 1.0))
    assert "gradient norm 30" in str(guard.check(3.0, 30.0))
    assert guard.check(4.9, 19.0) is None
    assert Guard(GuardConfig()).check(1e6, 1e6) is None
    assert warm_guard(loss_spike=None).check(1e6, 1e6) is None


def test_a_rare_hard_source_is_no_spike_and_a_spike_in_it_is() -> None:
    """Short answers with loss 0.5 in every step, long captions with loss 8 in few."""
    guard = Guard(GuardConfig(min_history=4, window=8))
    answers = {"answers": (0.5, 100.0)}

    def with_captions(captions: float, answers: float = 0.5) -> str | None:
        loss = (100 * answers + 300 * captions) / 400
        return guard.check(loss, 1.0, {"answers": (answers, 100.0), "captions": (captions, 300.0)})

    for step in range(40):
        assert guard.check(0.5, 1.0, answers) is None
        assert step % 10 or with_captions(8.0) is None
    # 3 / 4 of 2.8 nats is above 2 nats, of 2.5 below
    assert "loss 8.225 lies far above the 6.125" in str(with_captions(10.8))
    assert with_captions(10.5) is None
    assert "far above" in str(with_captions(8.0, answers=9.0))
    assert "loss 2.600" in str(guard.check(2.6, 1.0, {"answers": (2.6, 100.0)}))


def test_too_many_skips_in_a_row_stop_and_a_good_step_resets() -> None:
    guard = warm_guard(max_skips_in_a_row=3)
    for _ in range(2):
        guard.check(float("nan"), 1.0)
    assert guard.check(3.0, 1.0) is None
    for _ in range(2):
        guard.check(float("nan"), 1.0)
    with pytest.raises(TrainingStoppedError, match="3 steps in a row were skipped"):
        guard.check(float("nan"), 1.0)


def test_state_round_trip_judges_alike() -> None:
    guard = warm_guard()
    guard.check(float("nan"), 1.0)
    twin = Guard(guard.config)
    twin.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert twin.state_dict() == guard.state_dict()
    assert twin.check(5.5, 1.0) == guard.check(5.5, 1.0)


def test_bad_guard_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="max_grad_norm must be positive or none, got 0"):
        GuardConfig(max_grad_norm=0)
    with pytest.raises(ValueError, match="min_history=9"):
        GuardConfig(min_history=9, window=8)
