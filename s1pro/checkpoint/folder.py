"""Writing folders so that a reader never sees half of one.

A folder is written under a temporary name beside its place, flushed to disk, and renamed when it is complete. A crash
leaves the old folder or the new one, and at worst a hidden folder beside it that the next writer removes. Between the
two renames the old folder lies under its hidden name; `readable_folder` finds it there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
