"""`s1pro eval FOLDER`, or `s1pro eval --url URL --model NAME`: score a model on tasks.

Answers are written one by one, so an interrupted evaluation goes on when the same command is given again. Beside every
score stand its 95 % confidence interval and the baselines of the task; with --reference another model answers too.
The folder of the answers gets a report with an error browser, and the numbers as Markdown and CSV. `--compare` puts
runs side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli import evaluate_models, evaluate_tasks
from s1pro.cli.arguments import Commands, add_command, add_sampling, positive, print_json, sampling_of

if TYPE_CHECKING:
    from s1pro.eval.compare import Comparison
    from s1pro.eval.results import TaskResult
    from s1pro.tasks.judging import Judge


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval",
        run,
        summary="score a model on tasks",
        description="Let a model (a folder, or an endpoint) answer the items of tasks, and score the answers.",
    )
    evaluate_models.add(parser)
    evaluate_tasks.add(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N items of every task")
    parser.add_argument("--repeats", type=positive, default=1, metavar="K", help="ask K times: avg@K, pass@K")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where answers go; FOLDER/eval by default")
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="a second model to compare with")
    parser.add_argument("--concurrency", type=positive, default=32, metavar="N", help="requests under way at once")
    parser.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let the model reason before it answers; without, a folder does not, and an endpoint does as it likes",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="answers that several runs share")
    parser.add_argument("--retry-failed", action="store_true", help="ask again what failed in an earlier run")
    parser.add_argument("--overwrite", action="store_true", help="throw away answers made with other settings")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="RUN", help="two folders of answers, item by item")
    parser.add_argument("--lm-eval", type=Path, metavar="DIR", help="ask nothing; write the tasks for lm-eval there")
    parser.add_argument(
        "--contamination",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="ask nothing; look for the questions in these files",
    )
    parser.add_argument(
        "--write-index",
        type=Path,
        metavar="FILE",
        help="ask nothing; write the index of the questions that corpus export and training keep out",
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    add_sampling(parser, max_new_tokens=0)
    parser.set_defaults(max_new_tokens=None)


def run(args: argparse.Namespace) -> int:
    if args.compare:
        return _compare(args)
    if args.lm_eval is not None:
        return _hand_over(args)
    if args.contamination:
        return evaluate_tasks.contamination(args)
    if args.write_index is not None:
        return evaluate_tasks.write_index(args)
    longest = args.max_new_tokens
    args.max_new_tokens = 128 if longest is None else longest
    sampling = sampling_of(args)
    evaluate_models.check(args)
    evaluate_tasks.check(args)
    evaluate_models.check_folders(args)
    chosen = evaluate_tasks.choose(args)
    if longest is None:
        sampling = dataclasses.replace(sampling, max_new_tokens=chosen.max_new_tokens)
    from s1pro.eval import agents, report, runner
    from s1pro.eval.cache import CompletionCache
    from s1pro.eval.progress import ProgressBar
    from s1pro.eval.results import Prices

    name = evaluate_models.name_of(args)
    client = evaluate_models.client_of(args)
    reference = None if args.reference is None else evaluate_models.local(args, args.reference)
    reference_name = "reference" if args.reference is None else args.reference.resolve().name
    if chosen.played is not None:
        reference_name = args.user_model or name  # who plays the customer is a part of the settings
    folder = args.output or (args.folder or Path("runs/eval") / name.replace("/", "-")) / chosen.name
    asked = chosen.tasks if chosen.played is None else [chosen.played]
    judge = evaluate_models.seat_judge(args, asked, folder)
    cache = None if args.cache is None else CompletionCache(folder=args.cache, model=evaluate_models.identity(args))
    settings = runner.EvalSettings(model=name, reference=reference_name, sampling=sampling, thinking=args.thinking)
    options = runner.RunOptions(
        limit=args.limit,
        repeats=args.repeats,
        concurrency=args.concurrency,
        overwrite=args.overwrite,
        retry_failed=args.retry_failed,
        cache=cache,
        prices=Prices(prompt=args.price_prompt, completion=args.price_completion),
    )
    with ProgressBar() as progress:
        if chosen.played is not None:
            customer = evaluate_models.customer_of(args, client)
            results = [agents.run_agents(chosen.played, client, customer, folder, options, settings, progress)]
        else:
            results = runner.run(
                chosen.tasks, client, folder, options, settings=settings, reference=reference, progress=progress,
                judge=judge,
            )  # fmt: skip
    written = report.write_run(folder, results, chosen.tasks)
    if args.json:
        print_json([dataclasses.asdict(result) for result in results])
    else:
        _show(results, reference_name)
        _show_judge(judge)
        print(f"report: {written}")
    return _failures(results, folder)


def _failures(results: Sequence[TaskResult], folder: Path) -> int:
    """A run in which something failed ends with a warning; one in which everything did, with an error."""
    failed = sum(result.num_failed for result in results)
    total = sum((result.score.num_items or 0) * result.repeats for result in results)
    if failed and failed == total:
        raise InputError(f"no item was answered; {folder / 'answers'} says why; then try again with --retry-failed")
    if failed:
        print(f"{failed} of {total} items failed and count as wrong; --retry-failed asks them again", file=sys.stderr)
    return 0


def _hand_over(args: argparse.Namespace) -> int:
    from s1pro.cli import lm_eval_tasks

    names = lm_eval_tasks.write(args.lm_eval, args, args.max_new_tokens)
    print(f"lm-eval --include_path {args.lm_eval} --tasks {','.join(names)} --apply_chat_template ...")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from s1pro.eval import compare, report

    if args.folder is not None or args.url is not None:
        raise InputError("--compare takes two folders of answers and no model")
    first, second = args.compare
    found = compare.compare(first, second)
    if args.json:
        print_json([dataclasses.asdict(comparison) for comparison in found])
    else:
        _show_comparison(found)
    if args.output is not None:
        print(f"report: {report.write_comparison(args.output / 'compare.html', first, second, found)}", file=sys.stderr)
    return 0


def _show(results: Sequence[TaskResult], reference_name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "answers by", "score [95 % interval]", "model above", box=None, header_style="bold")
    for result in results:
        score = result.task_score(reference_name)
        table.add_row(result.task, "model", str(score.model), "", style="bold")
        for profile, estimate in result.profiles.items():
            table.add_row("", f"  {profile}", str(estimate), "")
        for name, number in result.metrics.items():
            if "@" in name:
                table.add_row("", f"  {name}", f"{number:.3f}", "")
        for name, baseline in score.baselines.items():
            low = score.model.low
            table.add_row("", name, str(baseline), "yes" if low is not None and low > baseline.value else "no")
        table.add_section()
    console = Console()
    console.print(table)
    console.print("Model above: the lower end of its interval lies above that score.", style="dim")
    tokens = sum(result.num_tokens for result in results)
    cost = sum(result.cost for result in results)
    prompt = sum(result.num_prompt_tokens for result in results)
    priced = f", cost {cost:.4g}" if cost else ""
    console.print(f"Tokens: {prompt:,} of prompts, {tokens:,} of answers{priced}.", style="dim")


def _show_judge(judge: Judge | None) -> None:
    if judge is not None:
        found = judge.totals
        print(
            f"Judge {judge.model}: {found.read:,} verdicts, {found.unreadable:,} unreadable, {found.failed:,} failed; "
            f"{found.num_prompt_tokens:,} tokens of prompts, {found.num_tokens:,} of replies."
        )


def _show_comparison(found: Sequence[Comparison]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "task", "items", "first", "second", "first - second [95 %]", "p", "p (Holm)", box=None, header_style="bold"
    )
    for one in found:
        table.add_row(
            one.label,
            str(one.num_items),
            f"{one.first:.3f}",
            f"{one.second:.3f}",
            str(one.difference.mean),
            f"{one.p:.4f}",
            f"{one.p_holm:.4f}",
        )
    Console().print(table)
