"""Writing folders so that a reader never sees half of one.

A folder is written under a temporary name beside its place, flushed to disk, and renamed when it is complete. A crash
leaves the old folder or the new one, and at worst a hidden folder beside it that the next writer removes. Between the
two renames the old folder lies under its hidden name; `readable_folder` finds it there.

Work that takes hours goes on after a kill instead (`resumed_folder`): its hidden folder stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError

UNFINISHED = "unfinished.json"


@contextmanager
def replaced_folder(target: Path, *, keep_other_files: bool = False) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `target` when the block ends without an exception.

    Args:
        target: the folder to create or to replace.
        keep_other_files: files of the old folder that the block did not write move over (a tokenizer, say).
    """
    target = target.resolve()  # of a link to a folder, the folder is replaced and the link stays
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    _recover(target, old)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        if keep_other_files and target.is_dir():
            _copy_missing(target, new)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def resumed_folder(target: Path, settings: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """Yields a folder that becomes `target` when the block ends, and is found again by the same work after a kill.

    The work in progress lies in `.NAME.partial` beside the target, with its settings in `unfinished.json`. What is
    complete in it (shards, `checkpoint.shards`) is not made again. An interruption or a full disk leaves it for the
    next attempt; bad input removes it.

    Args:
        target: must not exist.
        settings: JSON values that say which work this is, sources included.
        resume: go on with what is there; without it, unfinished work is an error.

    Raises:
        InputError: the target exists, or unfinished work is there that is not to be resumed or is another one.
    """
    target = target.resolve()
    if target.exists():
        (target / UNFINISHED).unlink(missing_ok=True)  # a kill after the last rename
        raise InputError(f"{target} exists already; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.partial")
    record = work / UNFINISHED
    wanted = json.loads(json.dumps(settings))
    if record.is_file():
        _check_same_work(target, record, wanted, resume=resume)
        for leftover in work.glob(".*"):  # of files that were being written
            leftover.unlink()
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        temporary = work / f".{UNFINISHED}.tmp"
        temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        temporary.replace(record)
    try:
        yield work
    except InputError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _sync(work)
    work.rename(target)
    (target / UNFINISHED).unlink()


def _check_same_work(target: Path, record: Path, wanted: Any, *, resume: bool) -> None:
    if not resume:
        raise InputError(f"{target}: unfinished work is in {record.parent}; go on with --resume, or delete that folder")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{record}: not JSON ({error}); delete {record.parent} to start anew") from error
    if found != wanted:
        old = found if isinstance(found, dict) else {}
        names = sorted(name for name in {*old, *wanted} if old.get(name) != wanted.get(name))
        raise InputError(
            f"{record}: the unfinished work has other settings ({', '.join(names)}); give the same command, or delete "
            f"{record.parent}"
        )


def readable_folder(target: Path) -> Path:
    """`target`, or where a crash between the two renames of `replaced_folder` left its old contents.

    Reading does not move anything: only the next writer does.
    """
    place = target.resolve()
    old = place.with_name(f".{place.name}.old")
    return old if place.name and old.is_dir() and not place.exists() else target


def _recover(target: Path, old: Path) -> None:
    """A crash between the two renames leaves only `old`: it is the folder."""
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _copy_missing(source: Path, destination: Path) -> None:
    for path in sorted(source.iterdir()):
        if not (destination / path.name).exists() and not _is_weight_file(path.name):
            if path.is_dir():
                shutil.copytree(path, destination / path.name)
            else:
                shutil.copy2(path, destination / path.name)


def _is_weight_file(name: str) -> bool:
    """Old shards must not survive beside new ones."""
    return name.endswith((".safetensors", ".safetensors.index.json"))


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
