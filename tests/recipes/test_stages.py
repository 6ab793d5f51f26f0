"""Stages that are stopped and go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.recipes.stages import Stage, StageFile, StageRecord, run_stages

SETTINGS = {"steps": 3}


class Work:
    """Stages that note when they ran; `broken` ones raise."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken: dict[str, BaseException] = {}
        self.said: list[tuple[str, bool]] = []

    def stage(self, name: str) -> Stage:
        def run() -> str:
            self.ran.append(name)
            if name in self.broken:
                raise self.broken[name]
            return f"note of {name}"

        return Stage(name=name, budget=2.0, run=run)

    def run(self, path: Path) -> None:
        stages = [self.stage(name) for name in ("first", "second", "third")]
        run_stages(stages, StageFile(path, SETTINGS), self.say)

    def say(self, name: str, record: StageRecord, skipped: bool) -> None:
        self.said.append((name, skipped))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.json"


def test_stages_run_in_order_and_are_recorded(path: Path) -> None:
    work = Work()
    work.run(path)
    assert work.ran == ["first", "second", "third"]
    found = json.loads(path.read_text())
    assert found["settings"] == SETTINGS
    assert list(found["stages"]) == work.ran
    for name, record in found["stages"].items():
        assert record.pop("seconds") >= 0
        assert record == {"finished": True, "budget": 2.0, "note": f"note of {name}"}


def test_finished_stages_are_not_run_again(path: Path) -> None:
    Work().run(path)
    work, before = Work(), path.read_bytes()
    work.run(path)
    assert work.ran == []
    assert work.said == [("first", True), ("second", True), ("third", True)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_an_unfinished_stage_is_run_again_and_its_times_add_up(path: Path, error: BaseException) -> None:
    work = Work()
    work.broken["second"] = error
    with pytest.raises(type(error)):
        work.run(path)
    assert work.ran == ["first", "second"]
    file = StageFile(path, SETTINGS)
    assert (file.finished("first"), file.finished("second"), file.finished("third")) == (True, False, False)

    file.put("second", StageRecord(finished=False, seconds=100.0, budget=2.0))
    del work.broken["second"]
    work.run(path)
    assert work.ran == ["first", "second", "second", "third"]
    assert work.said[1:] == [("first", True), ("second", False), ("third", False)]
    assert 100 <= StageFile(path, SETTINGS).seconds("second") < 101


def test_other_settings_are_refused(path: Path) -> None:
    Work().run(path)
    with pytest.raises(InputError, match=r"demo\.json: the folder was made with other settings"):
        StageFile(path, {"steps": 4})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": {}, "stages": {"first": {"done": true}}}', '"text"'])
def test_a_file_that_is_no_record_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=r"demo\.json: not a record of stages"):
        StageFile(path, SETTINGS)
