"""What `s1pro eval` asks: tasks of this project, the demo's, benchmarks from files, or your own questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import print_json

if TYPE_CHECKING:
    from s1pro.eval.agents import Played
    from s1pro.tasks.benchmarks.spec import BenchmarkTask
    from s1pro.tasks.task import Task

DEMO = Path("runs/demo")
KINDS = ("tasks", "suite", "benchmark", "file", "tau2")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The tasks, a name for the folder of their answers, and how long an answer may be unless the user says so.

    `played` holds tasks that are conversations; then `tasks` is empty.
    """

    tasks: list[Task]
    name: str
    max_new_tokens: int = 128
    played: Played | None = None


def add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked (one of --tasks, --suite, --benchmark, --file, --tau2)")
    group.add_argument("--tasks", nargs="+", metavar="TASK", help="names of tasks; all of the modalities by default")
    group.add_argument(
        "--modalities",
        nargs="+",
        choices=("text", "image", "video", "signal"),
        default=["text"],
        help="which tasks, where --tasks names none",
    )
    group.add_argument("--list-tasks", action=_ListTasks, nargs=0, help="list all tasks and benchmarks, and leave")
    group.add_argument("--suite", choices=("demo",), help="the tasks of the demo, with its molecules and settings")
    group.add_argument(
        "--benchmark",
        nargs="+",
        metavar="NAME[/SUBTASK]",
        help="benchmarks with their files in --data",
    )
    group.add_argument(
        "--data", type=Path, metavar="DIR", help=f"files of the benchmark; for --suite demo its run ({DEMO})"
    )
    group.add_argument(
        "--bert-score",
        type=Path,
        metavar="DIR",
        help="tokenizer and encoder (roberta-large) for benchmarks that compare texts by BERTScore",
    )
    group.add_argument("--bert-score-layer", type=int, metavar="N", help="of that encoder; SciReasoner's is 14")
    group.add_argument(
        "--tau2", type=Path, metavar="DIR", help="a domain of tau2: mock, retail, airline, telecom, banking_knowledge"
    )
    group.add_argument("--split", metavar="NAME", help="of --tau2's split_tasks.json; base unless it says otherwise")
    group.add_argument(
        "--solo", action="store_true", help="no customer in --tau2: the agent has a ticket and the tools of both"
    )
    group.add_argument(
        "--knowledge", metavar="NAME",
        help="how the agent of banking_knowledge gets at its documents: no_knowledge, full_kb, golden_retrieval, bm25, "
        "grep_only, bm25_grep (the default)",
    )  # fmt: skip
    group.add_argument("--file", type=Path, metavar="FILE", help="your own questions: CSV, TSV, JSONL, JSON, Parquet")
    group.add_argument(
        "--metric", metavar="NAME", help="how --file is scored: exact, letter, number, contains, yes_no, smiles, f1"
    )
    group.add_argument("--tolerance", type=float, default=0.01, metavar="X", help="of the metric number, relative")
    group.add_argument("--question-column", default="question", metavar="NAME", help="of --file")
    group.add_argument("--answer-column", default="answer", metavar="NAME", help="of --file")
    group.add_argument("--system", metavar="TEXT", help="system message before every question of --file")
    group.add_argument(
        "--media", type=Path, default=Path("runs/media"), metavar="DIR", help="where pictures and signals of tasks go"
    )


def check(args: argparse.Namespace) -> str:
    """Which kind of questions is asked for.

    Raises:
        InputError: what does not go together, and tasks that nobody knows; before anything slow happens.
    """
    given = [kind for kind in KINDS if getattr(args, kind)]
    if len(given) > 1:
        raise InputError(f"give one of {' and '.join('--' + kind for kind in given)}")
    if args.metric and not args.file:
        raise InputError("--metric is of --file")
    if args.bert_score and not args.benchmark:
        raise InputError("--bert-score is of --benchmark")
    if args.bert_score_layer is not None and not args.bert_score:
        raise InputError("--bert-score-layer is of --bert-score")
    for option in ("solo", "split", "knowledge"):
        if getattr(args, option) and not args.tau2:
            raise InputError(f"--{option} is of --tau2")
    for name in args.tasks or ():
        from s1pro.tasks import registry

        registry.check_name(name)
    return given[0] if given else "tasks"


def choose(args: argparse.Namespace) -> Chosen:
    """Raises `InputError` as `check`, and for files that are wrong."""
    kind = check(args)
    return {"tasks": _tasks, "suite": _demo, "benchmark": _benchmarks, "file": _own, "tau2": _tau2}[kind](args)


def contamination(args: argparse.Namespace) -> int:
    """Whether training files hold the questions; every field with text counts. 1 if runs of words are shared."""
    from s1pro.tasks.benchmarks.reading import read_records
    from s1pro.tasks.contamination import index_of_tasks

    index = index_of_tasks(choose(args).tasks)
    words: dict[str, str] = {}
    molecules: dict[str, str] = {}
    for path in args.contamination:
        for number, record in enumerate(read_records(path, {}), start=1):
            found = index.check("\n".join(_texts(record)))
            for names, seen in ((found.words, words), (found.molecules, molecules)):
                for name in names:
                    seen.setdefault(name, f"{path}, record {number}")
    result = {"questions": len(index.names), "shared words": words, "shared molecules": molecules}
    if args.json:
        print_json(result)
    else:
        for name, where in words.items():
            print(f"{name}: shares {index.n} words in a row, or all of its words, with {where}")
        print(f"{len(index.names)} questions: {len(words)} share words, {len(molecules)} share a molecule")
    return 1 if words else 0


def write_index(args: argparse.Namespace) -> int:
    """Writes the index of the questions that corpus and training read."""
    from s1pro.tasks.contamination import index_of_tasks

    index = index_of_tasks(choose(args).tasks)
    index.write(args.write_index)
    print(f"{args.write_index}: {len(index.names):,} questions, {len(index.runs):,} runs of words, ", end="")
    print(f"{len(index.molecules):,} molecules")
    return 0


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _tasks(args: argparse.Namespace) -> Chosen:
    from s1pro.tasks import registry
    from s1pro.tasks.generated.foreign import is_foreign

    names = dict.fromkeys(args.tasks or registry.names(*args.modalities))
    foreign = [name for name in names if is_foreign(name)]
    if foreign:
        raise InputError(f"--tasks: {', '.join(foreign)}: environments of others are rewards of s1pro rl")
    return Chosen(tasks=[registry.get(name, folder=args.media) for name in names], name="eval")


def _demo(args: argparse.Namespace) -> Chosen:
    """The questions that the demo itself asks, about the molecules that its model never saw."""
    from s1pro.corpus.write import read_molecules
    from s1pro.recipes.demo_training import DemoSettings
    from s1pro.tasks import registry

    beside = None if args.folder is None else args.folder.resolve().parent
    folder = next(
        (f for f in (args.data, beside, DEMO) if f is not None and (f / "data" / "molecules.parquet").is_file()), None
    )
    if folder is None or (args.data is not None and folder != args.data):
        raise InputError(
            f"{args.data or DEMO}: there is no data/molecules.parquet of a demo; run `s1pro demo`, or name its folder "
            "with --data"
        )
    settings = DemoSettings()
    molecules = read_molecules(folder / "data" / "molecules.parquet")
    tasks = [
        registry.get(name, molecules=molecules, num_items=settings.items, folder=args.media, media=settings.sizes)
        for name in settings.tasks
    ]
    return Chosen(tasks=list(tasks), name="eval-demo", max_new_tokens=settings.max_new_tokens)


def _benchmarks(args: argparse.Namespace) -> Chosen:
    from s1pro.tasks.benchmarks import registry

    if args.data is None:
        raise InputError("--benchmark needs --data DIR with its files; --list-tasks says where they come from")
    similarity = None
    if args.bert_score is not None:
        from s1pro.cli.bert_score import LAYER, BertScore

        similarity = BertScore(args.bert_score, args.bert_score_layer or LAYER)
    tasks: dict[str, BenchmarkTask] = {}
    for name in args.benchmark:
        head, _, part = name.partition("/")
        parts = [part] if part else None
        found = registry.load(head, args.data, args.limit, subtasks=parts, similarity=similarity)
        tasks |= {task.name: task for task in found}
    if similarity is not None and not any(task.similarity for task in tasks.values()):
        raise InputError("--bert-score has no effect: none of these benchmarks compares texts by it")
    label = "-".join(dict.fromkeys(name.split("/")[0] for name in args.benchmark))
    return Chosen(tasks=list(tasks.values()), name=f"eval-{label}", max_new_tokens=1024)


def _own(args: argparse.Namespace) -> Chosen:
    from s1pro.tasks.own import METRICS, OwnTask

    if args.metric is None:
        raise InputError(f"--file needs --metric, one of {', '.join(METRICS)}")
    task = OwnTask(
        args.file,
        args.metric,
        tolerance=args.tolerance,
        question=args.question_column,
        answer=args.answer_column,
        system=args.system,
    )
    return Chosen(tasks=[task], name=f"eval-{args.file.stem}")


def _tau2(args: argparse.Namespace) -> Chosen:
    from s1pro.eval.agents import Played
    from s1pro.tasks.tau2.domains import open_domain
    from s1pro.tasks.tau2.records import in_split, read_tasks
    from s1pro.tasks.tau2.solo import playable

    tasks = in_split(read_tasks(args.tau2), args.tau2, args.split)
    if args.solo:
        alone = playable(tasks)
        if len(alone) < len(tasks):
            print(f"{len(tasks) - len(alone)} of {len(tasks)} tasks need a customer and are left out", file=sys.stderr)
        tasks = alone
    played = Played(open_domain(args.tau2, args.knowledge), tasks, solo=args.solo)
    return Chosen(tasks=[], name=f"eval-{played.name}", max_new_tokens=512, played=played)


class _ListTasks(argparse.Action):
    """Prints the table and leaves, as --help and --version do."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        from s1pro.tasks import registry
        from s1pro.tasks.benchmarks.registry import BENCHMARKS

        for entry in registry.table():
            print(f"{entry.name:24}  {entry.domain:10}  {entry.modality}")
        for generated in registry.ON_REQUEST.values():
            print(f"{generated.name:24}  {generated.domain:11} text, when it is named")
        for benchmark in BENCHMARKS.values():
            count = len(benchmark.subtasks)
            parts = f"{count} part{'s' if count > 1 else ''}" if count else benchmark.status
            print(f"{benchmark.name:24}  benchmark   {parts}; {benchmark.source}; {benchmark.licence}")
        parser.exit()
