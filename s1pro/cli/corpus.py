"""`s1pro corpus build`: training data from the compounds that are installed with the package `chemicals`.

Real molecules become narrative text and questions with answers; general English for the other system prompt comes from
the documentation of installed packages. Train, validation and test molecules share no scaffold. The same command
given again makes only what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.cli.arguments import Commands, add_command, print_json

if TYPE_CHECKING:
    from s1pro.corpus.build import BuildReport


def add(commands: Commands) -> None:
    summary = "make training data"
    corpus = commands.add_parser("corpus", help=summary, description=summary.capitalize() + ".")
    parser = add_command(
        corpus.add_subparsers(title="commands", metavar="COMMAND", required=True),
        "build",
        run,
        summary="chemistry from installed compounds, and general English",
        description="Turn the compounds of the package chemicals, labelled by RDKit, into texts and questions.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the corpus goes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="changes", help="change a setting; repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print the complete settings as JSON and stop")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.config import config_to_json, with_overrides
    from s1pro.corpus.build import ChemistryCorpus, build_chemistry

    settings = with_overrides(ChemistryCorpus(), args.changes)
    if args.show:
        print_json(config_to_json(settings))
        return 0
    report = build_chemistry(args.folder, settings, progress=lambda line: print(line, file=sys.stderr))
    if args.json:
        print_json({**dataclasses.asdict(report), "folder": str(report.folder)})
    else:
        _show(report)
    return 0


def _show(report: BuildReport) -> None:
    parts = ", ".join(f"{count:,} for {split}" for split, count in report.split.molecules.items())
    print(f"{report.read:,} compounds read, {sum(report.dropped.values()):,} dropped; molecules: {parts}")
    for name, written in report.files.items():
        print(f"{name}: {written.samples:,} samples")
    print(f"written to {report.folder}")
