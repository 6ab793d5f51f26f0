"""`s1pro corpus narrative`: structured data as training text.

A table with a schema, molecules, crystals, sequences, NetCDF, or a named collection becomes descriptions and tasks in
eight forms, split by entity first. With an endpoint the tasks are also answered by a model, and answers that verify are
kept with their reasoning.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.cli.arguments import Commands, add_command, print_json

if TYPE_CHECKING:
    from s1pro.corpus.narrative.build import NarrativeReport
    from s1pro.science.facts.schema import Schema


def add(commands: Commands) -> None:
    """Adds the command to those of `s1pro corpus`."""
    parser = add_command(
        commands,
        "narrative",
        run,
        summary="structured data as text and questions",
        description="Turn records (CSV with a schema, SMILES, SDF, CIF, FASTA, GenBank, NetCDF, or one of the "
        "collections elements, crystals, co2, sea-temperature, sunspots) into descriptions and tasks that can be read "
        "back. For example --set tasks.mcq=0 leaves a form out.",
    )
    parser.add_argument("input", metavar="INPUT", help="a file, a folder of crystals, or the name of a collection")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="JSON: what the columns of a table mean")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the corpus goes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="changes", help="change a setting; repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print settings, schema and three records and stop")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    model = parser.add_argument_group("verified rollouts and rewrites")
    model.add_argument(
        "--endpoint", metavar="URL", help="an OpenAI-compatible server, such as http://localhost:8000/v1"
    )
    model.add_argument("--model", default="", help="its model name")
    model.add_argument("--key-variable", metavar="NAME", help="environment variable with the key")
    model.add_argument("--rollouts", type=int, default=100, metavar="N", help="tasks to answer")
    model.add_argument("--rewrites", type=int, default=0, metavar="N", help="descriptions to rewrite in other words")
    model.add_argument("--samples", type=int, default=4, metavar="K", help="answers per task")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.config import config_to_json, with_overrides
    from s1pro.base.errors import InputError
    from s1pro.corpus.narrative.build import NarrativeCorpus, build_narratives
    from s1pro.corpus.narrative.load import load

    settings = with_overrides(NarrativeCorpus(), args.changes)
    schema = None if args.schema is None else read_schema(args.schema)
    loaded = load(args.input, schema, settings.source)
    if args.show:
        records = [{k: str(v) for k, v in record.values.items() if v is not None} for record in loaded.records[:3]]
        columns = json.loads(json.dumps([dataclasses.asdict(c) for c in loaded.schema.columns], default=str))
        print_json(
            {
                "settings": config_to_json(settings),
                "columns": json.loads(json.dumps(columns, default=str)),
                "records": records,
            }
        )
        return 0
    if args.folder is None:
        raise InputError("--folder is missing: where shall the corpus go?")
    report = build_narratives(args.folder, loaded, settings, progress=lambda line: print(line, file=sys.stderr))
    answered = _rollouts(args, loaded, settings) if args.endpoint else None
    if args.json:
        print_json({**dataclasses.asdict(report), "folder": str(report.folder), "rollouts": answered})
    else:
        _show(report, answered)
    return 0


def read_schema(path: Path) -> Schema:
    """A schema file. Raises `InputError` naming file and field."""
    from s1pro.base.errors import InputError
    from s1pro.science.facts.schema import schema_from_json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a schema ({error})") from error
    return schema_from_json(value, str(path))


def _rollouts(args: argparse.Namespace, loaded: Any, settings: Any) -> dict[str, Any]:
    import asyncio

    from s1pro.base.endpoint import EndpointSettings, check_address
    from s1pro.base.http_client import HttpClient
    from s1pro.corpus.narrative.rewriting import rewrite_folder
    from s1pro.corpus.narrative.rollouts import RolloutSettings, rollout_folder

    check_address(args.endpoint, "--endpoint")
    endpoint = EndpointSettings(base_url=args.endpoint, model=args.model)
    client = HttpClient(endpoint, api_key_variable=args.key_variable)
    wanted = RolloutSettings(samples=args.samples, tasks=args.rollouts, seed=settings.seed)

    async def both() -> dict[str, Any]:
        async with client:
            found = dataclasses.asdict(await rollout_folder(args.folder, loaded, client, wanted))
            if args.rewrites:
                texts = await rewrite_folder(args.folder, loaded, client, texts=args.rewrites, seed=settings.seed)
                found["rewrites"] = dataclasses.asdict(texts)
        return found

    return asyncio.run(both())


def _show(report: NarrativeReport, answered: dict[str, Any] | None) -> None:
    print(f"read {report.read}, dropped {dict(report.dropped) or 'none'}")
    print(
        "records " + ", ".join(f"{split} {n} in {report.groups[split]} groups" for split, n in report.records.items())
    )
    for name, written in report.files.items():
        kept = " (kept)" if name in report.reused else ""
        print(f"  {name}: {written.samples} samples, {written.characters} characters{kept}")
    print(f"isolation {dict(report.isolation)}; {report.untold} without an unambiguous wording")
    if answered:
        print(f"rollouts {answered}")
    print(report.folder)
