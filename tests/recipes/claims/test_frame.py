"""The frame around claims: units on disk, resume, verdicts, intervals, the report. With a claim that costs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.cli import main
from s1pro.recipes.claims.claim import Claim, Difference, Measurement, Mechanism, Results, Unit, Verdict
from s1pro.recipes.claims.comparing import difference, item_difference, level, mean_of
from s1pro.recipes.claims.identity import code_without_words, identity_of
from s1pro.recipes.claims.registry import CLAIMS, claims_named
from s1pro.recipes.claims.report import write_claims
from s1pro.recipes.claims.runner import ClaimRun, read_results, read_runs, run_claim
from s1pro.report.plots import Curve, Panel
from s1pro.report.scores import Estimate

MEASURED: list[Unit] = []


@dataclass(frozen=True, kw_only=True)
class Sizes:
    gain: float = 1.0


def measure(unit: Unit) -> Measurement:
    if unit.seed == 99:
        raise KeyboardInterrupt
    MEASURED.append(unit)
    gain = unit.settings.gain if unit.arm == "new" and unit.without != "gain" else 0.0
    value = 10.0 * unit.seed + gain + 0.01 * unit.seed * gain
    return Measurement(values={"score": value}, curves={"score": [(0, 0.0), (1, value)]}, steps=3, tokens=12)


def verdict(results: Results) -> Verdict:
    gap = difference(results, "new", "old", "score")
    return Verdict(differences=(gap,), text=f"new has {mean_of(results, 'new', 'score'):.1f}")


def panels(results: Results) -> Sequence[Panel]:
    points = results["new"][min(results["new"])].curves["score"]
    return [Panel(curves=[Curve(label="new", x=[x for x, _ in points], y=[y for _, y in points])])]


CLAIM = Claim(
    number=9,
    name="toy",
    statement="New is better than old.",
    criterion="Its score is higher.",
    arms=("old", "new"),
    mechanisms={"gain": Mechanism(removed="new is old", arms=("new",))},
    tuning="none",
    settings={"fast": Sizes(), "full": Sizes(gain=2.0)},
    measure=measure,
    verdict=verdict,
    panels=panels,
)


@pytest.fixture
def toy(tmp_path: Path) -> ClaimRun:
    MEASURED.clear()
    return ClaimRun(claim=CLAIM, folder=tmp_path / "claims", setting="fast", seeds=(0, 1, 2))


def test_a_run_is_judged_and_resumes(toy: ClaimRun) -> None:
    told: list[tuple[int, int]] = []
    first = run_claim(toy, progress=lambda done, total: told.append((done, total)))
    assert (first.verdict.outcome, first.measured, first.replaced) == ("replicates", 6, 0)
    assert told == [(done, 6) for done in range(7)]
    again = run_claim(toy)
    assert (again.measured, len(MEASURED)) == (0, 6)
    assert again.verdict == first.verdict
    more = run_claim(replace(toy, seeds=(1, 2, 3)))
    assert (more.measured, len(MEASURED)) == (2, 8)
    # 1 + 0.01 seed: Student's t over 0, 1, 2 by hand
    estimate = first.verdict.differences[0].estimate
    half = 4.303 * 0.01 / np.sqrt(3)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.01, 1.01 - half, 1.01 + half))


def test_the_verdict_needs_the_mechanism(toy: ClaimRun) -> None:
    with_it, without = run_claim(toy), run_claim(replace(toy, without="gain"))
    assert (with_it.verdict.outcome, without.verdict.outcome) == ("replicates", "does not replicate")
    # the arm that never had the mechanism is that of the ordinary run
    assert (with_it.measured, without.measured) == (6, 3) and with_it.results["old"] == without.results["old"]
    assert sorted(path.name for path in (toy.folder / "toy" / "fast-without-gain").iterdir()) == [
        "new-0.json", "new-1.json", "new-2.json", "run-0,1,2.json",
    ]  # fmt: skip
    with pytest.raises(InputError, match="no mechanism 'luck'; known: gain"):
        replace(toy, without="luck")


def test_words_do_not_change_what_was_measured(toy: ClaimRun) -> None:
    run_claim(toy)
    assert run_claim(replace(toy, claim=replace(CLAIM, tuning="one more word"))).measured == 0
    source = 'RATE = 1\nCLAIM = Claim(\n    tuning="none",\n)\nLAST = 2\n'
    assert code_without_words(source) == code_without_words(source.replace("none", "much"))
    assert code_without_words(source) != code_without_words(source.replace("RATE = 1", "RATE = 3"))
    assert code_without_words(source) != code_without_words(source.replace("LAST = 2", "LAST = 3"))


def test_stopped_runs_keep_what_they_measured(toy: ClaimRun) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_claim(replace(toy, seeds=(0, 99)))
    assert [unit.seed for unit in MEASURED] == [0, 0]
    assert sorted(path.name for path in toy.place.iterdir()) == ["new-0.json", "old-0.json"]
    assert run_claim(toy).measured == 4


def test_other_settings_are_measured_again_and_damage_is_named(toy: ClaimRun) -> None:
    run_claim(toy)
    changed = replace(toy, claim=replace(CLAIM, settings={"fast": Sizes(gain=5.0), "full": Sizes()}))
    record = run_claim(changed)
    assert (record.measured, record.replaced) == (6, 6)
    assert record.to_json()["replaced"] == 6
    toy.path(toy.units()[0]).write_text('{"identity"')
    with pytest.raises(InputError, match=r"old-0\.json: not the record of a unit"):
        run_claim(changed)


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1, 2)])
def test_bad_seeds(toy: ClaimRun, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="seeds must be different"):
        replace(toy, seeds=seeds)


def test_the_report_shows_all_runs(toy: ClaimRun) -> None:
    full = replace(toy, setting="full")
    for run in (full, replace(full, seeds=(10, 11, 12)), replace(full, without="gain"), toy):
        run_claim(run)
    written = write_claims(toy.folder, {"toy": CLAIM})
    text = written.path.read_text()
    assert written.stale == () and "Not shown" not in text
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert [heading.removeprefix("### toy, ") for heading in headings] == [
        "full, seeds 0–2: replicates",
        "full, seeds 10–12: replicates",
        "fast, seeds 0–2: replicates",
        "full, seeds 0–2, without gain (new is old): does not replicate",
    ]
    assert "**The runs agree**: seeds 0–2: replicates; seeds 10–12: replicates." in text
    assert "| score, new − old | 2.02 | " in text and "| old | 3 | 12 | 10 |" in text
    assert (toy.folder / "toy.svg").read_text().startswith("<svg")
    with pytest.raises(InputError, match="no claim was run there"):
        write_claims(toy.folder / "none", {"toy": CLAIM})
    (toy.place / "new-1.json").unlink()
    run = next(run for run in read_runs(toy.folder) if run["setting"] == "fast")
    with pytest.raises(InputError, match=r"new-1\.json: missing; run the claim again"):
        read_results(run, CLAIM)


def test_a_verdict_is_not_shown_with_measurements_of_other_code(toy: ClaimRun) -> None:
    assert run_claim(toy).identities == {arm: identity_of(CLAIM, "fast", arm) for arm in ("old", "new")}
    changed = replace(toy, claim=replace(CLAIM, settings={"fast": Sizes(gain=5.0), "full": Sizes()}), seeds=(1, 2, 3))
    assert run_claim(changed).replaced == 4
    message = r"-1\.json: measured by other code .* over seeds 0, 1, 2; run the claim again with these seeds"
    stale = next(run for run in read_runs(toy.folder) if run["seeds"] == [0, 1, 2])
    with pytest.raises(InputError, match=message):
        read_results(stale, CLAIM)
    # the report shows the fresh verdict and names the other
    written = write_claims(toy.folder, {"toy": CLAIM})
    (line,) = written.stale
    assert line.startswith("toy, fast, seeds 0–2: ") and "measured by other code" in line
    text = written.path.read_text()
    assert f"## Not shown\n\n* {line}\n" in text and (toy.folder / "toy.svg").exists()
    assert [row for row in text.splitlines() if row.startswith("###")] == ["### toy, fast, seeds 1–3: replicates"]
    run_claim(replace(changed, seeds=(0, 1, 2)))
    assert "| score, new − old | 5.05 | " in write_claims(toy.folder, {"toy": CLAIM}).path.read_text()
    path = toy.place / "run-0,1,2.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in record.items() if name != "identities"}))
    (line,) = write_claims(toy.folder, {"toy": CLAIM}).stale
    assert "run the claim again" in line


@pytest.mark.parametrize(
    ("ends", "above", "met"),
    [((0.1, 0.3), 0.0, True), ((-0.1, 0.3), 0.0, None), ((-0.3, -0.1), 0.0, False), ((0, 0), 0.0, False),
     ((-0.3, -0.1), None, None)],
)  # fmt: skip
def test_what_an_interval_decides(ends: tuple[float, float], above: float | None, met: bool | None) -> None:
    found = Difference(name="x", estimate=Estimate(value=sum(ends) / 2, low=ends[0], high=ends[1]), above=above)
    assert found.met is met


def test_one_refuted_difference_refutes_and_nothing_asked_decides_nothing() -> None:
    def gap(low: float, high: float, above: float | None = 0.0) -> Difference:
        return Difference(name="x", estimate=Estimate(value=(low + high) / 2, low=low, high=high), above=above)

    def outcome(*gaps: Difference) -> str:
        return Verdict(differences=gaps, text="").outcome

    assert outcome(gap(1, 2), gap(1, 3)) == "replicates"
    assert outcome(gap(1, 2), gap(-1, 3)) == "undecided"
    assert outcome(gap(-1, 3), gap(-2, -1)) == "does not replicate"
    assert outcome(gap(1, 2), gap(-2, -1, None)) == "replicates"
    assert outcome(gap(1, 2, None)) == "undecided"


def test_items_are_paired_and_drawn_with_their_seeds() -> None:
    """Against a bootstrap written as loops, and against what pairing must do."""
    random = np.random.default_rng(5)
    hard_SN = random.normal(0, 10, (3, 40))
    gain_SN = 0.5 + random.normal(0, 0.2, (3, 40))
    results = {
        "old": {s: Measurement(values={}, items={"right": hard_SN[s].tolist()}) for s in range(3)},
        "new": {s: Measurement(values={}, items={"right": (hard_SN + gain_SN)[s].tolist()}) for s in range(3)},
    }
    found = item_difference(results, "new", "old", "right").estimate
    assert found.value == pytest.approx(gain_SN.mean())
    assert found.low is not None and found.high is not None
    loops, draws = np.random.default_rng(77), []
    for _ in range(2000):
        rows, columns = loops.integers(0, 3, 3), loops.integers(0, 40, 40)
        draws.append(np.mean([gain_SN[r, c] for r in rows for c in columns]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=0.01)
    assert found.high - found.low < 0.2  # unpaired it would be several


def test_a_level_is_judged_against_its_limit() -> None:
    results = {"new": {s: Measurement(values={"x": 0.0}) for s in range(5)}}
    assert level(results, "new", "x", above=-1e-9).met is True
    assert level(results, "new", "x", above=0.0).met is False


def test_every_claim_is_complete() -> None:
    numbers = [claim.number for claim in CLAIMS.values()]
    assert numbers == sorted(set(numbers))
    for name, claim in CLAIMS.items():
        assert claim.name == name and len(claim.arms) >= 2 and claim.mechanisms
        assert set(claim.settings) == {"fast", "full"}
        assert all(text.endswith(".") for text in (claim.statement, claim.criterion, claim.tuning))
    assert claims_named(["all"]) == list(CLAIMS.values())


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["claims", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [claim["name"] for claim in listed] == list(CLAIMS)
    assert main(["claims", "list"]) == 0
    assert "--without groups" in capsys.readouterr().out
    for arguments, message in (
        (["run", "none", "--folder", str(tmp_path)], "there is no claim 'none'; known: balance"),
        (["run", "balance", "--without", "x", "--folder", str(tmp_path)], "has no mechanism 'x'; known: groups"),
        (["report", str(tmp_path)], "no claim was run there"),
    ):
        assert main(["claims", *arguments]) == 2
        assert message in capsys.readouterr().err
