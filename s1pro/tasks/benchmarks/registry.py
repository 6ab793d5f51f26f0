"""All benchmarks by name, and their tasks from a folder of exported data.

`load` reads everything once and checks it: every record has its fields, a gold that can be read, and a prompt that can
be made, else `InputError` names file, line and field. A benchmark whose folder holds only some of its subtasks is
loaded in part only if these are named.

What cannot be scored here is listed all the same, with the reason (`LISTED`): a table that leaves rows out silently
says something else than one that says why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError, no_folder
from s1pro.tasks.benchmarks.bert_score import Similarity
from s1pro.tasks.benchmarks.biology_instructions import BIOLOGY_INSTRUCTIONS
from s1pro.tasks.benchmarks.gaia import GAIA
from s1pro.tasks.benchmarks.general_text import AIME_2025, GPQA, MMLU_PRO
from s1pro.tasks.benchmarks.instruction_following import IFBENCH, IFEVAL
from s1pro.tasks.benchmarks.livecodebench import LIVECODEBENCH
from s1pro.tasks.benchmarks.matbench import MATBENCH
from s1pro.tasks.benchmarks.mol_instructions import MOL_INSTRUCTIONS
from s1pro.tasks.benchmarks.ocrbench import OCRBENCH_V2, OCRBENCH_V2_ZH
from s1pro.tasks.benchmarks.pictures import shared_pictures
from s1pro.tasks.benchmarks.reading import located_records
from s1pro.tasks.benchmarks.scireasoner import SCIREASONER
from s1pro.tasks.benchmarks.scits import SCITS
from s1pro.tasks.benchmarks.smolinstruct import SMOLINSTRUCT
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, BenchmarkTask, Status, Subtask, data_files
from s1pro.tasks.benchmarks.vision import MICROVQA, MMMU_PRO, MSEARTH_MCQ, REFCOCO, SCREENSPOT_V2, XLRS_BENCH
from s1pro.tasks.benchmarks.with_judge import IMO_ANSWER_BENCH, SFE


def _listed(
    name: str, title: str, published: float | None, status: Status, source: str, licence: str, why: str
) -> Benchmark:
    return Benchmark(
        name=name, title=title, subtasks=(), aggregate=MEAN, source=source, licence=licence, published=published,
        status=status, notes=(why,),
    )  # fmt: skip


LISTED = (
    SFE,
    LIVECODEBENCH,
    IMO_ANSWER_BENCH,
    _listed(
        "sarena", "SArena (Icon)", 83.5, "not computable", "SArena of VLMEvalKit", "Apache-2.0",
        "needs the weights of CLIP, DINO and LPIPS; and its primary score has the names SSIM and LPIPS exchanged",
    ),
    _listed(
        "tau2", "tau2-bench", 80.9, "needs a judge", "sierra-research/tau2-bench", "MIT",
        "an agent benchmark, no set of questions: --tau2 plays its five domains (retail with a judge)",
    ),
)  # fmt: skip
BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        SMOLINSTRUCT,
        MOL_INSTRUCTIONS,
        BIOLOGY_INSTRUCTIONS,
        MATBENCH,
        SCIREASONER,
        SCITS,
        MICROVQA,
        MSEARTH_MCQ,
        XLRS_BENCH,
        MMMU_PRO,
        REFCOCO,
        OCRBENCH_V2,
        OCRBENCH_V2_ZH,
        SCREENSPOT_V2,
        MMLU_PRO,
        GPQA,
        AIME_2025,
        IFEVAL,
        IFBENCH,
        GAIA,
        *LISTED,
    )
}


def benchmark_named(name: str) -> Benchmark:
    """Raises `InputError` for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def load(
    name: str,
    folder: Path,
    limit: int | None = None,
    *,
    subtasks: Collection[str] | None = None,
    similarity: Similarity | None = None,
) -> list[BenchmarkTask]:
    """The tasks of a benchmark.

    Args:
        folder: where its exported data are.
        limit: only so many records of each subtask, the first ones.
        subtasks: only these; None for all.
        similarity: of two texts, for subtasks that want weights; without it they are left out, or refused where named.

    Raises:
        InputError: an unknown name, a benchmark that cannot be scored here, missing or wrong data.
    """
    benchmark = benchmark_named(name)
    if not benchmark.subtasks:
        raise InputError(f"{benchmark.title} has no tasks here ({benchmark.status}): {'; '.join(benchmark.notes)}")
    chosen = benchmark.subtasks if subtasks is None else [benchmark.subtask(subtask) for subtask in subtasks]
    if not folder.is_dir() and not all(subtask.made for subtask in chosen):
        raise InputError(f"{folder}: {no_folder(folder)}; {benchmark.title} comes from {benchmark.source}")
    if similarity is None:
        wanting = [subtask.name for subtask in chosen if subtask.weights]
        if wanting and subtasks is not None:
            raise InputError(f"{name}/{wanting[0]} is not computed: it needs weights (--bert-score FOLDER)")
        chosen = [subtask for subtask in chosen if not subtask.weights]
    read: dict[tuple[Path, ...], list[tuple[str, dict[str, Any]]]] = {}
    tasks = []
    for subtask in chosen:
        subtask.check()
        if subtask.made:
            tasks.append(BenchmarkTask(benchmark, subtask, subtask.made_records()[:limit]))
            continue
        files = tuple(data_files(folder, benchmark, subtask))
        if files not in read:  # several subtasks may share a file
            read[files] = _records(files, subtask)
        tasks.append(BenchmarkTask(benchmark, subtask, _checked(read[files], subtask, limit, files)))
    for task in tasks:
        task.similarity = similarity if task.subtask.weights else None
    return tasks


def _records(files: tuple[Path, ...], subtask: Subtask) -> list[tuple[str, dict[str, Any]]]:
    """Records with the place of each; `_folder` and `_row` (from 1) are added to them."""
    everything = []
    for path in files:
        located = located_records(path, subtask.fields)
        if path.suffix == ".tsv":
            shared_pictures([record for _, record in located])
        for row, (where, record) in enumerate(located, start=1):
            everything.append((f"{path}, {where}", {**record, "_folder": str(path.parent), "_row": row}))
    return everything


def _checked(
    located: list[tuple[str, dict[str, Any]]], subtask: Subtask, limit: int | None, files: tuple[Path, ...]
) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    for where, record in located:
        if limit is not None and len(records) >= limit:
            break
        try:
            if not subtask.keep(record):
                continue
            complete = subtask.prepare(record)
            subtask.gold(complete)
            subtask.prompt(complete)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{where}: a field is missing or of the wrong form ({type(error).__name__}: {error})"
            ) from error
        records.append(complete)
    if not records:
        raise InputError(f"{files[0]}: no record belongs to the subtask {subtask.name!r}")
    return records
