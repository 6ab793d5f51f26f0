"""Benchmarks by name: everything that a module of this package calls a `Benchmark`.

benchmarks()                         all of them
load("smolinstruct", folder)         a task per part, from the files of the folder
load("smolinstruct/name_conversion-i2f", folder)
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import s1pro.tasks.benchmarks as package
from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.reading import read_records
from s1pro.tasks.benchmarks.spec import Benchmark, BenchmarkTask, Subtask, data_file


@functools.cache
def benchmarks() -> tuple[Benchmark, ...]:
    """All benchmarks, by name."""
    found: dict[str, Benchmark] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name == __name__.rpartition(".")[2]:
            continue
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            if isinstance(value, Benchmark):
                found[value.name] = value
    return tuple(found[name] for name in sorted(found))


def get(name: str) -> Benchmark:
    """Raises `InputError` for an unknown name."""
    for benchmark in benchmarks():
        if benchmark.name == name:
            return benchmark
    raise InputError(f"no such benchmark: {name!r}; known: {', '.join(b.name for b in benchmarks())}")


def load(name: str, folder: Path) -> list[BenchmarkTask]:
    """The tasks of `NAME` or `NAME/SUBTASK`.

    Raises:
        InputError: unknown names, missing files, records that are not in the upstream schema.
    """
    head, _, tail = name.partition("/")
    benchmark = get(head)
    chosen: Sequence[Subtask] = [benchmark.subtask(tail)] if tail else benchmark.subtasks
    return [_task(benchmark, subtask, folder) for subtask in chosen]


def _task(benchmark: Benchmark, subtask: Subtask, folder: Path) -> BenchmarkTask:
    path = data_file(folder, benchmark, subtask)
    records = [record for record in read_records(path, subtask.fields) if subtask.keep(record)]
    if not records:
        raise InputError(f"{path}: none of its records is of {benchmark.name}/{subtask.name}")
    for number, record in enumerate(records, start=1):
        try:
            subtask.gold(record)
        except InputError as error:
            raise InputError(f"{path}, record {number} of {benchmark.name}/{subtask.name}: {error}") from error
    return BenchmarkTask(benchmark, subtask, records)
