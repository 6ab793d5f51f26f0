"""`s1pro plan`: does a model fit a cluster, how long does it take, and what is the next thing to change?

The answer is arithmetic (`parallel.planner`). With --verify the training step is also carried out on fake tensors by
the real parallel code, and the prediction is compared with what torch's memory tracker saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, check_model_folder, page_file, positive, print_json, read_json

if TYPE_CHECKING:
    from s1pro.model.config import ModelConfig
    from s1pro.parallel.planner.hardware import Cluster
    from s1pro.parallel.planner.plan import Plan
    from s1pro.parallel.planner.request import Job
    from s1pro.parallel.planner.search import Change, Wishes
    from s1pro.report.blocks import Table
    from s1pro.train.planned import Verification

DEFAULT_TOKENS = {"pretrain": 6e12, "sft": 1e10, "rl": 1e10, "serve": 1e9}


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "plan",
        run,
        summary="memory, traffic and time of a model on a cluster, before it is rented",
        description="Plan a job on a cluster: the layout that fits and is fastest, memory and traffic of one rank, "
        "time of a step, GPU hours, and the next thing to change. Exit code 1: it does not fit, or --verify disagrees.",
    )
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="a preset, or a model folder")
    parser.add_argument("--recipe", choices=tuple(DEFAULT_TOKENS), default="pretrain", help="what is to be done")
    parser.add_argument("--gpu", default="h200", metavar="NAME", help="a100, h20, h100, h200, b200")
    parser.add_argument("--gpus", type=positive, default=256, metavar="N", help="how many")
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="a cluster as JSON, instead of --gpu and --gpus")
    parser.add_argument("--tokens", type=float, metavar="N", help="of the whole run (default depends on --recipe)")
    layout = parser.add_argument_group("layout", "what is not given is searched")
    layout.add_argument("--dp-replicate", type=positive, metavar="N", help="copies of the sharded network")
    layout.add_argument("--ep", type=positive, metavar="N", help="ranks that share the experts of a layer")
    layout.add_argument("--tokens-per-batch", type=positive, metavar="N", help="rows of a micro-batch on one rank")
    layout.add_argument(
        "--checkpointing", action=argparse.BooleanOptionalAction, help="recompute blocks in the backward pass"
    )
    layout.add_argument("--serving-ranks", type=positive, metavar="N", help="ranks of one copy of the engine")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="changes",
        help="change a setting of the job or an efficiency: job.sequence_length=32768, efficiency.network=0.5",
    )
    parser.add_argument("--verify", action="store_true", help="measure on fake tensors with the real code (a minute)")
    parser.add_argument("--report", type=page_file, metavar="FILE", help="write the plan as an HTML page with pictures")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.parallel.planner.plan import plan_to_json
    from s1pro.parallel.planner.search import best_plan, next_change

    model, cluster = _model(args.model), _cluster(args)
    job, efficiency = _settings(args)
    plan = best_plan(model, job, cluster, _wishes(args), efficiency)
    change = next_change(plan)
    verification = _verify(plan) if args.verify else None
    agreed = verification is None or verification.agrees()
    if args.report is not None:
        _write_page(args, plan, change, verification)
    if args.json:
        found = plan_to_json(plan)
        found["next_change"] = None if change is None else {"what": change.what, "plan": plan_to_json(change.plan)}
        found["verification"] = None if verification is None else _verification_json(verification)
        print_json(found)
    else:
        _show(args, plan, change, verification)
    return 0 if plan.fits and agreed else 1


def _model(name: str) -> ModelConfig:
    from s1pro.model.presets import PRESETS

    if name in PRESETS:
        return PRESETS[name]()
    folder = Path(name)
    if not folder.exists() and folder.name == name:
        raise InputError(f"there is no preset {name!r} and no such folder; presets are {', '.join(PRESETS)}")
    check_model_folder(folder)
    from s1pro.checkpoint.config_file import read_config

    return read_config(folder)


def _cluster(args: argparse.Namespace) -> Cluster:
    from s1pro.base.config import config_from_json
    from s1pro.parallel.planner.hardware import Cluster, gpu_named

    if args.cluster is None:
        try:
            return Cluster(gpu=gpu_named(args.gpu), num_gpus=args.gpus)
        except ValueError as error:
            raise InputError(f"--gpus: {error}") from error
    data = read_json(args.cluster)
    if isinstance(data, dict) and isinstance(data.get("gpu"), str):
        from s1pro.base.config import config_to_json

        data = {**data, "gpu": config_to_json(gpu_named(data["gpu"]))}
    return config_from_json(Cluster, data, path=str(args.cluster))


def _settings(args: argparse.Namespace) -> tuple[Job, Any]:
    from s1pro.base.config import with_overrides
    from s1pro.parallel.planner.request import Job
    from s1pro.parallel.planner.timing import Efficiency

    tokens = args.tokens if args.tokens is not None else DEFAULT_TOKENS[args.recipe]
    try:
        job = Job(recipe=args.recipe, total_tokens=tokens)
    except ValueError as error:
        raise InputError(str(error)) from error
    settings: dict[str, Any] = {"job": job, "efficiency": Efficiency()}
    for change in args.changes:
        part, _, rest = change.partition(".")
        if part not in settings or not rest:
            raise InputError(f"--set {change}: write job.NAME=VALUE or efficiency.NAME=VALUE")
        settings[part] = with_overrides(settings[part], [rest])
    return settings["job"], settings["efficiency"]


def _wishes(args: argparse.Namespace) -> Wishes:
    from s1pro.parallel.planner.search import Wishes

    if args.recipe == "serve" and (args.dp_replicate or args.ep or args.tokens_per_batch or args.checkpointing):
        raise InputError("nothing is trained when a model is served; of the layout only --serving-ranks has an effect")
    if args.recipe in ("pretrain", "sft") and args.serving_ranks:
        raise InputError(f"--serving-ranks has no effect with --recipe {args.recipe}")
    return Wishes(
        dp_replicate=args.dp_replicate,
        ep=args.ep,
        checkpointing=args.checkpointing,
        tokens_per_batch=args.tokens_per_batch,
        serving_ranks=args.serving_ranks,
    )


def _verify(plan: Plan) -> Verification:
    from s1pro.rl.planned import policy_loss
    from s1pro.train.planned import language_model_loss, verify

    return verify(plan, loss_of=policy_loss if plan.job.recipe == "rl" else language_model_loss)


def _verification_json(found: Verification) -> dict[str, Any]:
    return {
        "agrees": found.agrees(),
        "peak_error": found.peak_error,
        "predicted": {
            "parameters": found.predicted_parameters,
            "optimizer": found.predicted_optimizer,
            "peak": found.predicted_peak,
            "received_per_micro_batch": found.predicted_received,
        },
        "measured": _measured_json(found.measured),
        "by_depth": {str(depth): _measured_json(measured) for depth, measured in found.by_depth.items()},
    }


def _measured_json(measured: Any) -> dict[str, Any]:
    return {
        "parameters": measured.parameters,
        "optimizer": measured.optimizer,
        "peaks": dict(measured.peaks),
        "received_per_micro_batch": measured.received,
    }


def _verification_table(found: Verification) -> Table:
    from s1pro.report.blocks import Cell, Table

    pairs = [
        ("parameters", found.predicted_parameters, found.measured.parameters),
        ("optimizer", found.predicted_optimizer, found.measured.optimizer),
        ("peak", found.predicted_peak, found.measured_peak),
        ("received in one micro-batch", found.predicted_received, found.measured.received),
    ]
    rows: list[list[Cell]] = [
        [name, ours / 1e9, seen / 1e9, f"{ours / seen - 1:+.2%}" if seen else ""] for name, ours, seen in pairs
    ]
    depths = ", ".join(str(depth) for depth in found.by_depth)
    return Table(
        columns=["per rank", "predicted GB", "measured GB", "difference"],
        rows=rows,
        digits=2,
        caption=f"Measured on fake tensors at depths {depths}, extrapolated to the full depth",
    )


def _write_page(args: argparse.Namespace, plan: Plan, change: Change | None, found: Verification | None) -> None:
    from s1pro.parallel.planner.page import report_of
    from s1pro.report.html import write

    title = f"{args.model}, {args.recipe}, {plan.cluster.num_gpus} x {plan.cluster.gpu.name}"
    table = None if found is None else _verification_table(found)
    write(report_of(plan, change, title=title, verification=table), args.report)


def _show(args: argparse.Namespace, plan: Plan, change: Change | None, found: Verification | None) -> None:
    from rich.console import Console

    from s1pro.parallel.planner.page import layout_line, memory_table, time_table, traffic_table

    console = Console(highlight=False)
    verdict = "[bold green]fits[/]" if plan.fits else "[bold red]does not fit[/]"
    console.print(f"{args.model}, {args.recipe}, {plan.cluster.num_gpus} x {plan.cluster.gpu.name}: {verdict}")
    console.print(f"{plan.reason}.")
    console.print(layout_line(plan), style="dim")
    tables = [memory_table(plan), *([traffic_table(plan)] if plan.flows else []), time_table(plan)]
    for table in [*tables, *([] if found is None else [_verification_table(found)])]:
        _print_table(console, table)
    mfu = "" if plan.mfu is None else f", {plan.mfu:.0%} of the bfloat16 peak"
    console.print(
        f"{plan.tokens_per_second:,.0f} tokens/s{mfu}; {plan.gpu_hours:,.0f} GPU hours for {plan.job.total_tokens:.3g} "
        "tokens, with assumed efficiencies"
    )
    console.print(f"Tightest: {plan.tightest}.")
    if change is not None:
        gain = change.plan.tokens_per_second / plan.tokens_per_second
        effect = f"{gain:.2f} times as fast" if plan.fits else change.plan.reason
        console.print(f"Next thing to change: [bold]{change.what}[/]: {effect}.")
    if found is not None:
        agrees = "agrees" if found.agrees() else "DOES NOT AGREE"
        console.print(f"The prediction {agrees} with the real code: peak {found.peak_error:+.1%}.")


def _print_table(console: Any, table: Table) -> None:
    from rich.table import Table as RichTable

    from s1pro.report.html import format_cell

    shown = RichTable(title=table.caption, box=None, header_style="bold", title_justify="left")
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for number, row in enumerate(table.rows):
        cells = [format_cell(cell, table.digits) for cell in row]
        shown.add_row(*cells, style="bold" if number in table.emphasis else None)
    console.print(shown)
