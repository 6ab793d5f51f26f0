"""`s1pro corpus ingest`, `retry` and `status`: papers in, every input with one terminal status.

All three work on a corpus folder. `ingest` registers files and reads those that have not been read; given again, it
goes on where it stopped. `retry` reads documents of some statuses again with more time or memory. `status` says what
happened to every input and fails (exit code 1) unless the counts reconcile and nothing is pending.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, positive, print_json

if TYPE_CHECKING:
    from s1pro.corpus.executors import Executor
    from s1pro.corpus.stages.base import CorpusFolder
    from s1pro.corpus.status import CorpusStatus


def add(kinds: Commands) -> None:
    _add_ingest(kinds)
    _add_retry(kinds)
    status = add_command(
        kinds,
        "status",
        run_status,
        summary="what happened to every input, and whether it adds up",
        description="Count inputs, pages and elements by status. Fails unless they reconcile and nothing is pending.",
    )
    add_folder(status)
    status.add_argument("--quick", action="store_true", help="do not read the tables to compare their digests")
    status.add_argument("--json", action="store_true", help="print the counts as JSON")


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="corpus folder that `s1pro corpus ingest` made")


def add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="changes",
        help="change a setting of the folder, for example ingest.limits.page_seconds=10; repeatable",
    )
    parser.add_argument("--show", action="store_true", help="print the settings of the folder as JSON and stop")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Where the units of a stage are done."""
    group = parser.add_argument_group("where the work is done")
    group.add_argument(
        "--executor",
        choices=("inline", "processes", "slurm", "ray"),
        default="processes",
        help="this process, processes of this machine, a Slurm array, or Ray tasks",
    )
    group.add_argument("--workers", type=positive, metavar="N", help="processes or tasks; one per CPU by default")
    group.add_argument("--slurm-cluster", default="slurm", choices=("slurm", "local", "debug"), help="of submitit")
    group.add_argument("--slurm-partition", default="", metavar="NAME", help="partition of the array")
    group.add_argument("--slurm-minutes", type=positive, default=24 * 60, metavar="N", help="time limit of a task")
    group.add_argument("--slurm-memory-gb", type=positive, default=8, metavar="N", help="memory of a task")
    group.add_argument(
        "--slurm-set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="further option of submitit, for example slurm_account=physics; repeatable",
    )
    group.add_argument("--ray-address", default="", metavar="ADDRESS", help="Ray cluster; a local one by default")


def executor_of(args: argparse.Namespace) -> Executor:
    """The executor that `add_executor` describes."""
    import os

    from s1pro.corpus.executors import Inline, Processes, Ray, Slurm

    workers = args.workers or os.cpu_count() or 1
    if args.executor == "inline":
        if args.workers not in (None, 1):
            raise InputError("--workers has no effect with --executor inline; leave it out or choose processes")
        return Inline()
    if args.executor == "processes":
        return Processes(workers=workers)
    if args.executor == "ray":
        return Ray(tasks=workers, address=args.ray_address)
    pairs = [text.partition("=") for text in args.slurm_set]
    if any(not sign for _, sign, _ in pairs):
        raise InputError("--slurm-set: write it as NAME=VALUE, for example slurm_account=physics")
    return Slurm(
        tasks=workers,
        cluster=args.slurm_cluster,
        partition=args.slurm_partition,
        minutes=args.slurm_minutes,
        memory_gb=args.slurm_memory_gb,
        parameters=tuple((name, value) for name, _, value in pairs),
    )


def existing(folder: Path) -> CorpusFolder:
    """The corpus folder, which must be one."""
    from s1pro.corpus.ledger import LEDGER
    from s1pro.corpus.stages.base import CorpusFolder

    if not (folder / LEDGER).is_file():
        raise InputError(f"{folder}: no corpus folder (it has no {LEDGER}); `s1pro corpus ingest` makes one")
    return CorpusFolder(folder)


def show_settings(folder: CorpusFolder) -> int:
    from s1pro.base.config import config_to_json

    print_json(config_to_json(folder.settings()))
    return 0


def change_settings(folder: CorpusFolder, changes: list[str]) -> None:
    from s1pro.base.config import with_overrides

    folder.save_settings(with_overrides(folder.settings(), changes))


def run_ingest(args: argparse.Namespace) -> int:
    from s1pro.cli.stage_bar import StageBar
    from s1pro.corpus.executors import run_stage
    from s1pro.corpus.ledger import check_inputs, register
    from s1pro.corpus.stages.base import CorpusFolder
    from s1pro.corpus.status import folder_status

    folder = CorpusFolder(args.folder)
    if (folder.root / "config.json").exists():
        raise InputError(f"--folder {folder.root}: holds a model or a run (config.json); choose another folder")
    check_inputs(args.paths)
    if args.licence and not (args.paths or args.layout):
        raise InputError("--licence has no effect without inputs")
    if args.changes or not args.show:
        change_settings(folder, args.changes)
    if args.show:
        return show_settings(folder)
    executor = executor_of(args)
    with StageBar() as bar:
        if args.paths:
            register(folder.root, args.paths, licence=args.licence, progress=bar.files)
        if args.layout:
            register(folder.root, args.layout, kind="layout", licence=args.licence, progress=bar.files)
        run_stage(folder, "ingest", executor, bar)
    return report(folder_status(folder, check=False), as_json=args.json)


def run_retry(args: argparse.Namespace) -> int:
    from s1pro.cli.stage_bar import StageBar
    from s1pro.corpus.executors import run_stage
    from s1pro.corpus.records import DOCUMENT_STATUSES
    from s1pro.corpus.status import documents_with, folder_status

    folder = existing(args.folder)
    wanted = frozenset(name.strip() for name in args.status.split(","))
    unknown = sorted(wanted - set(DOCUMENT_STATUSES))
    if unknown:
        raise InputError(f"--status: no such status: {', '.join(unknown)}; known: {', '.join(DOCUMENT_STATUSES)}")
    changes = {
        **(
            {
                "page_seconds": args.timeout,
                "document_seconds": max(args.timeout, folder.settings().ingest.limits.document_seconds),
            }
            if args.timeout
            else {}
        ),
        **({"memory_mb": args.memory_mb} if args.memory_mb else {}),
        **({"max_pages": args.max_pages} if args.max_pages else {}),
    }
    found = documents_with(folder, wanted)
    if not found:
        raise InputError(f"{folder.root}: no document has the status {' or '.join(sorted(wanted))}")
    folder.add_round([row.doc_id for row in found], changes)
    with StageBar() as bar:
        run_stage(folder, "ingest", executor_of(args), bar)
    return report(folder_status(folder, check=False), as_json=args.json)


def run_status(args: argparse.Namespace) -> int:
    from s1pro.corpus.status import folder_status

    status = folder_status(existing(args.folder), check=not args.quick)
    report(status, as_json=args.json)
    return 0 if status.finished else 1


def report(status: CorpusStatus, *, as_json: bool) -> int:
    """Prints the counts; the exit code says whether they reconcile."""
    if as_json:
        values = {"reconciled": status.reconciled, "finished": status.finished}
        print_json({**dataclasses.asdict(status), **values})
    else:
        _show(status)
    return 0 if status.reconciled else 1


def _show(status: CorpusStatus) -> None:
    print(f"{status.inputs:,} inputs, {status.documents:,} documents ({status.duplicates:,} copies)")
    print(f"  status: {_counts(status.statuses, status.pending)}")
    print(f"  pages: {_counts(status.pages, 0)}; of those read: {_counts(status.routes, 0)}")
    print(f"  elements: {_counts(status.elements, 0)}; panels: {status.panels:,}")
    for name, stage in status.stages.items():
        print(f"  {name}: {_counts(stage.statuses, stage.pending)} ({stage.units_done}/{stage.units} units)")
    for name, costs in status.spending.items():
        cap = f" of at most {costs.cap:g}" if costs.cap else ""
        unknown = f", {costs.unknown:,} of them counted with the most they may have cost" if costs.unknown else ""
        print(f"  spent on {name}: {costs.spent:.6g}{cap} for {costs.calls:,} calls{unknown}")
    for problem in status.problems:
        print(f"  problem: {problem}")
    if not status.reconciled:
        print("the counts do not reconcile")
    else:
        print("the counts reconcile" + ("" if status.finished else "; something is pending"))


def _counts(counts: object, pending: int) -> str:
    assert isinstance(counts, dict)
    parts = [f"{name} {count:,}" for name, count in counts.items() if count]
    return ", ".join(parts + ([f"pending {pending:,}"] if pending else [])) or "none"


def _add_ingest(kinds: Commands) -> None:
    parser = add_command(
        kinds,
        "ingest",
        run_ingest,
        summary="read papers: figures, tables, captions and what happened to every file",
        description="Register PDF files and read them in processes that may be killed. Given again, it goes on; "
        "without PATHS it only finishes what is registered.",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="PDF files, or folders of them")
    parser.add_argument(
        "--layout",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="what MinerU or Docling made of a document: its JSON file, or the folder with it; pictures come along",
    )
    parser.add_argument("--folder", type=Path, required=True, metavar="OUT", help="corpus folder")
    parser.add_argument("--licence", default="", metavar="TEXT", help="licence of these inputs, kept with them")
    add_changes(parser)
    add_executor(parser)


def _add_retry(kinds: Commands) -> None:
    parser = add_command(
        kinds,
        "retry",
        run_retry,
        summary="read documents again that failed, with more time or memory",
        description="Read the documents of some statuses again, as new units. The last try counts.",
    )
    add_folder(parser)
    parser.add_argument("--status", required=True, metavar="LIST", help="statuses, for example timeout,crash")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="time per page, and at least that per document"
    )
    parser.add_argument("--memory-mb", type=positive, metavar="N", help="memory of a worker")
    parser.add_argument("--max-pages", type=positive, metavar="N", help="pages of a document that are read")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    add_executor(parser)
