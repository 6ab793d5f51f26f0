"""A recipe of several stages that can be stopped anywhere and goes on.

    demo.json
      settings          what was asked for; a folder goes on only with the same
      stages
        data            finished, seconds, budget, note
        tokenizer       ...

Stages run in order. A finished one is never run again. An unfinished one is called again and has to go on by itself
from what it finds in its folder; the seconds of all its attempts are added up. The file is replaced as a whole after
every stage, so a kill loses at most the time of the attempt that it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.stamp import write_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a recipe.

    Attributes:
        budget: seconds that it may take on two cores.
        run: does the work, or what is left of it, and returns a note of a few words.
    """

    name: str
    budget: float
    run: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """How one stage went: seconds of all attempts, and the note of its result."""

    finished: bool
    seconds: float
    budget: float
    note: str = ""


Say = Callable[[str, StageRecord, bool], None]
"""Called when a stage is over: its name, its record, and whether an earlier call had finished it."""


class StageFile:
    """The records of a folder, in `path`.

    Raises:
        InputError: the file is not readable, or belongs to other settings.
    """

    def __init__(self, path: Path, settings: Any) -> None:
        self.path, self.settings = path, settings
        self.records: dict[str, StageRecord] = {}
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.records = {name: StageRecord(**record) for name, record in found["stages"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: not a record of stages ({error!r}); remove the folder to start anew") from error
        if found.get("settings") != settings:
            raise InputError(f"{path}: the folder was made with other settings; choose another one, or remove it")

    def finished(self, name: str) -> bool:
        return name in self.records and self.records[name].finished

    def seconds(self, name: str) -> float:
        """Of all attempts so far."""
        return self.records[name].seconds if name in self.records else 0.0

    def put(self, name: str, record: StageRecord) -> None:
        self.records[name] = record
        stages = {name: asdict(record) for name, record in self.records.items()}
        write_json(self.path, {"settings": self.settings, "stages": stages})


def run_stages(stages: Sequence[Stage], file: StageFile, say: Say) -> Mapping[str, StageRecord]:
    """Runs what is not finished. Whatever ends a stage early, Ctrl-C too, is raised after its time is recorded."""
    for stage in stages:
        skipped = file.finished(stage.name)
        if not skipped:
            _run(stage, file)
        say(stage.name, file.records[stage.name], skipped)
    return file.records


def _run(stage: Stage, file: StageFile) -> None:
    before, started = file.seconds(stage.name), time.perf_counter()
    finished, note = False, ""
    try:
        note = stage.run()
        finished = True
    finally:
        seconds = round(before + time.perf_counter() - started, 3)
        file.put(stage.name, StageRecord(finished=finished, seconds=seconds, budget=stage.budget, note=note))
