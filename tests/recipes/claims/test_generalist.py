"""Claim 7, one network for all tasks or one per task: who is trained on how much, and the fast setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1pro.cli import main
from s1pro.recipes.claims.claim import Unit
from s1pro.recipes.claims.generalist import ARMS, CLAIM, DOMAINS, GeneralistSettings, _trainings, measure
from s1pro.science.media_families import media_families


class Sized:
    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens


def trainings(arm: str, without: str | None = None) -> Any:
    sources: Any = {task: Sized(100 * number) for number, task in enumerate(DOMAINS, start=1)}
    unit = Unit(arm=arm, seed=0, settings=GeneralistSettings(passes=2.0), shared=Path(), without=without)
    return _trainings(unit, sources)


def test_all_arms_spend_the_same_and_differ_in_who_gets_it() -> None:
    whole = 2.0 * 100 * 21
    assert trainings("generalist") == [(tuple(DOMAINS), whole)]
    assert [budget for _, budget in trainings("specialists")] == [200.0 * number for number in range(1, 7)]
    assert [budget for _, budget in trainings("even")] == [whole / 6] * 6
    assert trainings("generalist", without="sharing") == trainings("specialists")
    assert all(sum(budget for _, budget in trainings(arm)) == pytest.approx(whole) for arm in ARMS)


def test_six_tasks_of_four_domains_and_two_modalities_beside_text() -> None:
    domains, modalities = ({facts.split(", ")[i] for facts in DOMAINS.values()} for i in (0, 1))
    assert len(DOMAINS) >= 6 and {"chemistry", "materials", "biology", "earth", "physics"} <= domains
    assert {"text", "signal", "picture"} == modalities
    families = media_families()
    names = {"life": "biology", "image": "picture"}
    for task, facts in list(DOMAINS.items())[1:]:
        family = families[task]
        assert facts == ", ".join(names.get(fact, fact) for fact in (family.domain, family.modality))


@pytest.mark.slow
def test_without_sharing_the_generalist_is_the_specialists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rdkit")
    arguments = ["claims", "run", "generalist", "--setting", "fast", "--folder", str(tmp_path), "--workers", "2"]
    assert main([*arguments, "--json", "--seeds", "0,1", "--without", "sharing"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    named = {row["name"]: row["estimate"]["value"] for row in record["differences"]}
    assert named["score, generalist − specialists"] == 0
    assert record["outcome"] == "does not replicate"
    unit = Unit(arm="generalist", seed=0, settings=CLAIM.settings["fast"], shared=tmp_path / "shared")
    alone = json.loads((tmp_path / "generalist" / "fast-without-sharing" / "generalist-0.json").read_text())
    assert set(alone["measurement"]["curves"]) == {f"loss, {task}" for task in DOMAINS}
    joint = measure(unit)
    assert set(joint.curves) == {"loss, all"}
    assert abs(joint.tokens / alone["measurement"]["tokens"] - 1) < 0.1
    assert joint.values != alone["measurement"]["values"]
