"""`s1pro eval FOLDER`: score a model on tasks.

Answers are written one by one, so an interrupted evaluation goes on when the same command is given again. Beside every
score stand its 95 % confidence interval and the baselines of the task; with --reference another model answers too.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import (
    Commands,
    add_command,
    add_model,
    add_sampling,
    check_model_folder,
    positive,
    print_json,
    sampling_of,
)

if TYPE_CHECKING:
    from s1pro.eval.runner import TaskResult
    from s1pro.science.media import Modality
    from s1pro.tasks.task import Task


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval",
        run,
        summary="score a model on tasks",
        description="Let the model of a folder answer the items of tasks, and score the answers.",
    )
    add_model(parser)
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="names of tasks; all of the modalities by default")
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=("text", "image", "video", "signal"),
        default=["text"],
        help="which tasks, where --tasks names none",
    )
    parser.add_argument("--list-tasks", action=_ListTasks, nargs=0, help="list all tasks with domain and modality")
    parser.add_argument(
        "--media", type=Path, default=Path("runs/media"), metavar="DIR", help="where pictures and signals of tasks go"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N items of every task")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where answers go; FOLDER/eval by default")
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="a second model to compare with")
    parser.add_argument("--concurrency", type=positive, default=32, metavar="N", help="requests under way at once")
    parser.add_argument("--thinking", action="store_true", help="let the model reason before it answers")
    parser.add_argument("--overwrite", action="store_true", help="throw away answers made with other settings")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    add_sampling(parser, max_new_tokens=128)


def run(args: argparse.Namespace) -> int:
    sampling = sampling_of(args)
    for folder in filter(None, (args.folder, args.reference)):
        check_model_folder(folder)
    if args.reference is not None and args.reference.resolve() == args.folder.resolve():
        raise InputError("--reference is the model itself")
    from s1pro.eval import runner
    from s1pro.eval.progress import ProgressBar
    from s1pro.serve.client import LocalClient

    tasks = _tasks(args.tasks, args.modalities, args.media)
    loading = {"dtype": args.dtype, "device": args.device, "enable_thinking": args.thinking}
    client = LocalClient.from_folder(args.folder, **loading)
    reference = None if args.reference is None else LocalClient.from_folder(args.reference, **loading)
    name = "reference" if args.reference is None else args.reference.resolve().name
    with ProgressBar() as progress:
        results = runner.run(
            tasks,
            client,
            args.output or args.folder / "eval",
            settings=runner.EvalSettings(model=args.folder.resolve().name, reference=name, sampling=sampling),
            limit=args.limit,
            concurrency=args.concurrency,
            reference=reference,
            overwrite=args.overwrite,
            progress=progress,
        )
    if args.json:
        print_json([dataclasses.asdict(result) for result in results])
    else:
        _show(results, name)
    return 0


def _tasks(names: Sequence[str] | None, modalities: Sequence[Modality], media: Path) -> list[Task]:
    from s1pro.tasks import registry

    return [registry.get(name, folder=media) for name in dict.fromkeys(names or registry.names(*modalities))]


class _ListTasks(argparse.Action):
    """Prints the table and leaves, as --help and --version do."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from s1pro.tasks import registry

        for entry in registry.table():
            print(f"{entry.name:24}  {entry.domain:10}  {entry.modality}")
        parser.exit()


def _show(results: Sequence[TaskResult], reference_name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "answers by", "score [95 % interval]", "model above", box=None, header_style="bold")
    for result in results:
        score = result.task_score(reference_name)
        table.add_row(result.task, "model", str(score.model), "", style="bold")
        for name, baseline in score.baselines.items():
            low = score.model.low
            table.add_row("", name, str(baseline), "yes" if low is not None and low > baseline.value else "no")
        table.add_section()
    console = Console()
    console.print(table)
    console.print("Model above: the lower end of its interval lies above that score.", style="dim")
