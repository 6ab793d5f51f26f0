"""`s1pro claims`: the paper's claims, measured in miniature.

    s1pro claims list
    s1pro claims run balance --setting fast
    s1pro claims run all --seeds 10,11,12,13,14
    s1pro claims run balance --without groups
    s1pro claims report runs/claims

A run that was stopped goes on when it is given again. Exit code 0 says that it was measured, whatever the verdict.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.bars import Bars
from s1pro.cli.arguments import Commands, add_command, positive, print_json

if TYPE_CHECKING:
    from s1pro.recipes.claims.runner import ClaimRecord

FOLDER = Path("runs/claims")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "claims",
        help="measure the paper's claims in miniature",
        description="Measure the claims of the paper with tiny models on a CPU: seeds, baselines, intervals, verdicts.",
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", dest="claims_command", required=True)
    listing = add_command(parts, "list", list_claims, summary="which claims there are", description="Name the claims.")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    running = add_command(
        parts,
        "run",
        run,
        summary="measure claims",
        description="Measure claims, or what is missing of them, and judge. Exit code 0 whatever the verdict.",
    )
    running.add_argument("names", nargs="+", metavar="NAME", help="of claims, or all")
    running.add_argument("--setting", choices=("fast", "full"), default="full", help="sizes")
    running.add_argument(
        "--seeds", type=_seeds, default=(0, 1, 2, 3, 4), metavar="N,N", help="one run per arm and seed"
    )
    running.add_argument("--without", metavar="MECHANISM", help="remove it from the method (`claims list` names them)")
    running.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where everything goes")
    running.add_argument("--workers", type=positive, default=os.cpu_count(), metavar="N", help="processes")
    running.add_argument("--json", action="store_true", help="print verdicts as JSON")
    reporting = add_command(
        parts,
        "report",
        report,
        summary="write the results of a folder as Markdown with plots",
        description="Write claims.md and its drawings into FOLDER, over all runs that are there.",
    )
    reporting.add_argument("folder", type=Path, metavar="FOLDER", help="of `claims run`")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between them, got {text!r}") from None


def list_claims(args: argparse.Namespace) -> int:
    from s1pro.recipes.claims.registry import CLAIMS

    if args.json:
        names = ("number", "name", "statement", "criterion", "arms", "tuning")
        removed = [{name: one.removed for name, one in claim.mechanisms.items()} for claim in CLAIMS.values()]
        told = [{name: getattr(claim, name) for name in names} for claim in CLAIMS.values()]
        print_json([{**one, "mechanisms": words} for one, words in zip(told, removed, strict=True)])
        return 0
    for claim in CLAIMS.values():
        print(f"{claim.number}  {claim.name:14} {claim.statement}")
        for name, mechanism in claim.mechanisms.items():
            print(f"   {'':14} --without {name}: {mechanism.removed}")
    return 0


def run(args: argparse.Namespace) -> int:
    from s1pro.recipes.claims.registry import CLAIMS, claims_named
    from s1pro.recipes.claims.report import write_claims
    from s1pro.recipes.claims.runner import ClaimRun, run_claim

    keys = ("folder", "setting", "seeds", "without", "workers")
    given = {key: getattr(args, key) for key in keys}
    runs = [ClaimRun(claim=claim, **given) for claim in claims_named(args.names)]
    records = []
    with Bars("{task.completed}/{task.total} units") as bars:
        for one in runs:
            records.append(run_claim(one, progress=partial(bars.draw, one.claim.name)))
            if not args.json and not bars.shown:
                _print(records[-1])
    if args.json:
        print_json([record.to_json() for record in records])
    elif bars.shown:
        for record in records:
            _print(record)
    written = write_claims(args.folder, CLAIMS)
    if not args.json:
        print(f"report: {written.path}")
    _warn(written.stale)
    return 0


def report(args: argparse.Namespace) -> int:
    from s1pro.recipes.claims.registry import CLAIMS
    from s1pro.recipes.claims.report import write_claims

    written = write_claims(args.folder, CLAIMS)
    print(f"report: {written.path}")
    _warn(written.stale)
    return 0


def _warn(stale: Iterable[str]) -> None:
    """Verdicts that the report could not show do not fail the command."""
    for line in stale:
        print(f"not in the report: {line}", file=sys.stderr)


def _print(record: ClaimRecord) -> None:
    without = "" if record.without is None else f" without {record.without}"
    print(f"{record.claim}{without} ({record.setting}, seeds {', '.join(map(str, record.seeds))}): ", end="")
    print(f"{record.verdict.outcome}\n  {record.verdict.text}")
    for difference in record.verdict.differences:
        asked = "" if difference.above is None else f", asked above {difference.above:g}"
        print(f"  {difference.name}: {difference.estimate}{asked}")
    if record.replaced:
        print(f"  {record.replaced} units were measured again: settings or code had changed")
