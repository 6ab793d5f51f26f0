"""`s1pro corpus`: training data. This module holds `build` and `media`; the commands for papers are in `corpus_papers`.

`build` makes text from the compounds that are installed with the package `chemicals`: narratives, and questions with
answers; general English for the other system prompt comes from the documentation of installed packages. `media` makes
conversations about pictures, videos and signals. Train, validation and test share no scaffold, and nothing else that a
medium shows. The same command given again makes only what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.cli import corpus_captions, corpus_narrative, corpus_papers, corpus_view
from s1pro.cli.arguments import Commands, add_command, print_json

if TYPE_CHECKING:
    from s1pro.corpus.build import BuildReport
    from s1pro.corpus.write import Written


def add(commands: Commands) -> None:
    summary = "make training data"
    corpus = commands.add_parser("corpus", help=summary, description=summary.capitalize() + ".")
    kinds = corpus.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = add_command(
        kinds,
        "build",
        run,
        summary="chemistry from installed compounds, and general English",
        description="Turn the compounds of the package chemicals, labelled by RDKit, into texts and questions.",
    )
    media = add_command(
        kinds,
        "media",
        run_media,
        summary="pictures, videos and signals with questions",
        description="Draw, read and simulate media of several sciences, and ask about them. "
        "--show lists the families; for example --set counts.rhythm_in_ecg=0 leaves one out.",
    )
    media.add_argument(
        "--molecules", type=Path, metavar="FILE", help="molecules.parquet of a corpus; the installed ones by default"
    )
    for parser in (build, media):
        _add_options(parser)
    corpus_papers.add(kinds)
    corpus_captions.add(kinds)
    corpus_view.add(kinds)
    corpus_narrative.add(kinds)


def _add_options(parser: argparse.ArgumentParser) -> None:
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


def run_media(args: argparse.Namespace) -> int:
    from s1pro.base.config import config_to_json, with_overrides
    from s1pro.corpus.multimodal import MultimodalCorpus, build_multimodal
    from s1pro.corpus.write import read_molecules

    settings = with_overrides(MultimodalCorpus(), args.changes)
    if args.show:
        print_json(config_to_json(settings))
        return 0
    molecules = None if args.molecules is None else read_molecules(args.molecules)
    report = build_multimodal(args.folder, settings, molecules, lambda line: print(line, file=sys.stderr))
    if args.json:
        print_json({**dataclasses.asdict(report), "folder": str(report.folder)})
    else:
        _show_files(report.files, report.folder)
    return 0


def _show(report: BuildReport) -> None:
    parts = ", ".join(f"{count:,} for {split}" for split, count in report.split.molecules.items())
    print(f"{report.read:,} compounds read, {sum(report.dropped.values()):,} dropped; molecules: {parts}")
    _show_files(report.files, report.folder)


def _show_files(files: Mapping[str, Written], folder: Path) -> None:
    for name, written in files.items():
        print(f"{name}: {written.samples:,} samples")
    print(f"written to {folder}")
