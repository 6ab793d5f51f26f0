"""`s1pro corpus caption` and `export`: from what was found in papers to training data.

`caption` runs the stages after ingest: layout (if there is an engine), deduplicate, route, caption, judge. Each keeps
what is finished and still right, so the command may be given again after more papers, a retry or an interruption.
`export` writes the captions that passed as samples.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, print_json
from s1pro.cli.corpus_papers import (
    add_changes,
    add_executor,
    add_folder,
    change_settings,
    executor_of,
    existing,
    report,
    show_settings,
)

if TYPE_CHECKING:
    from s1pro.corpus.stages.base import CorpusFolder


def add(kinds: Commands) -> None:
    caption = add_command(
        kinds,
        "caption",
        run_caption,
        summary="copies, topics and routes, captions, and which captions are fit for training",
        description="Run the stages after ingest: layout (if there is an engine), deduplicate, route, caption, judge. "
        "Given again, it goes on.",
    )
    add_folder(caption)
    group = caption.add_argument_group("a model that writes captions; without one, the embedded describer does")
    group.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server, with the /v1, for all routes")
    group.add_argument("--model", metavar="NAME", help="name of the model there")
    group.add_argument(
        "--api-key-variable", default="", metavar="NAME", help="environment variable that holds the key of the server"
    )
    engine = caption.add_argument_group("an engine that reads pages which geometry cannot (scans, unclear layouts)")
    engine.add_argument("--layout-engine", metavar="URL", help="address that takes pages, see docs/corpus.md")
    engine.add_argument("--layout-name", metavar="NAME", help="name of the engine, or of the model of a chat server")
    engine.add_argument(
        "--layout-protocol",
        choices=("layout", "chat"),
        help="the JSON of docs/corpus.md (default), or an OpenAI-compatible server with a model that can see",
    )
    engine.add_argument(
        "--layout-key-variable", metavar="NAME", help="environment variable that holds the key of the engine"
    )
    add_changes(caption)
    add_executor(caption)
    export = add_command(
        kinds,
        "export",
        run_export,
        summary="captions as training samples: Parquet, JSONL or WebDataset",
        description="Write the captions that passed all checks as conversations about one picture, split by document.",
    )
    add_folder(export)
    export.add_argument("target", type=Path, metavar="TARGET", help="folder for the samples")
    export.add_argument(
        "--format", choices=("parquet", "jsonl", "webdataset"), default="parquet", help="what is written"
    )
    export.add_argument(
        "--validation", type=float, default=0.05, metavar="SHARE", help="share of documents for validation"
    )
    export.add_argument(
        "--keep-flagged", action="store_true", help="also captions in which the checks against the page found something"
    )
    export.add_argument(
        "--contamination",
        type=Path,
        metavar="INDEX",
        help="leave out what shares 13 words in a row with a question of this index (s1pro eval --write-index), or all "
        "words of a question of 6 to 12",
    )
    export.add_argument("--mark", action="store_true", help="with --contamination: keep it, and name the questions")
    export.add_argument("--json", action="store_true", help="print the report as JSON")


def run_caption(args: argparse.Namespace) -> int:
    from s1pro.base.endpoint import EndpointSettings, check_address
    from s1pro.cli.stage_bar import StageBar
    from s1pro.corpus.executors import Inline, run_stage
    from s1pro.corpus.settings import Endpoint
    from s1pro.corpus.stages.registry import STAGES
    from s1pro.corpus.status import folder_status

    folder = existing(args.folder)
    if bool(args.endpoint) != bool(args.model):
        raise InputError("--endpoint and --model belong together")
    if args.api_key_variable and not args.endpoint:
        raise InputError("--api-key-variable belongs to --endpoint URL")
    if args.endpoint:
        check_address(args.endpoint, "--endpoint")
        settings = EndpointSettings(base_url=args.endpoint, model=args.model)
        endpoint = Endpoint(name=args.model, settings=settings, api_key_variable=args.api_key_variable)
        folder.save_settings(folder.settings().with_endpoint(endpoint))
    _choose_engine(folder, args)
    if args.changes or not args.show:
        change_settings(folder, args.changes)
    if args.show:
        return show_settings(folder)
    executor = executor_of(args)
    with StageBar() as bar:
        for name in list(STAGES)[1:]:
            # one unit, or as quick as starting a process: not worth one
            if name == "layout" and folder.settings().layout.endpoint is None and not folder.plan(name):
                continue
            run_stage(folder, name, executor if name in ("layout", "route", "caption") else Inline(), bar)
    return report(folder_status(folder, check=False), as_json=args.json)


def _choose_engine(folder: CorpusFolder, args: argparse.Namespace) -> None:
    """Puts the engine into the settings, if one is given."""
    from s1pro.base.endpoint import EndpointSettings, check_address

    if not args.layout_engine:
        if args.layout_name or args.layout_protocol or args.layout_key_variable:
            raise InputError("--layout-name, --layout-protocol and --layout-key-variable belong to --layout-engine URL")
        return
    if args.layout_protocol == "chat" and not args.layout_name:
        raise InputError("--layout-protocol chat needs --layout-name, the name of the model")
    settings = folder.settings()
    check_address(args.layout_engine, "--layout-engine")
    endpoint = EndpointSettings(base_url=args.layout_engine, model=args.layout_name or "layout", concurrency=4)
    layout = dataclasses.replace(
        settings.layout,
        endpoint=endpoint,
        protocol=args.layout_protocol or "layout",
        api_key_variable=args.layout_key_variable or "",
    )
    folder.save_settings(dataclasses.replace(settings, layout=layout))


def run_export(args: argparse.Namespace) -> int:
    from s1pro.corpus.export import ExportSettings, export
    from s1pro.science.contamination import ContaminationSettings

    if args.mark and args.contamination is None:
        raise InputError("--mark belongs to --contamination INDEX")
    guard = None
    if args.contamination is not None:
        guard = ContaminationSettings(index=args.contamination, found="mark" if args.mark else "drop")
    settings = ExportSettings(
        format=args.format, validation=args.validation, keep_flagged=args.keep_flagged, contamination=guard
    )
    done = export(existing(args.folder), args.target, settings)
    if args.json:
        print_json({**dataclasses.asdict(done), "samples": done.samples})
        return 0
    for name, file in done.files.items():
        print(f"{name}: {file.samples:,} samples")
    left = ", ".join(f"{reason} {count:,}" for reason, count in done.left_out.items())
    print(f"{done.captions:,} captions, {done.samples:,} samples; left out: {left or 'none'}")
    if done.contamination:
        print(f"contamination: {', '.join(f'{name} {count:,}' for name, count in done.contamination.items())}")
    print(f"written to {args.target}")
    return 0
