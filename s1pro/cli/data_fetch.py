"""`s1pro data fetch NAME`: the data of a benchmark from the Hugging Face Hub, where licence and layout allow it.

The command goes on where it was stopped, and asks for nothing that is there already. What was fetched is read as
`s1pro eval --benchmark` would, so a layout that has changed shows at once. `--list` says of every benchmark whether it
can be fetched, on which terms, or why not.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.bars import Bars
from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, print_json

if TYPE_CHECKING:
    from s1pro.tasks.benchmarks.fetching import Fetchable

FOLDER = Path("runs/benchmarks")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "fetch",
        run,
        summary="download the data of a benchmark, where its licence allows it",
        description="Download the data of a benchmark from the Hugging Face Hub. Goes on where it was stopped.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a benchmark; --list names them")
    parser.add_argument("--list", action="store_true", help="what can be fetched, on which terms, or why not")
    parser.add_argument("--to", type=Path, metavar="DIR", help=f"where the files go; {FOLDER}/NAME by default")
    parser.add_argument("--accept-licence", action="store_true", help="you have read and accept the terms of the data")
    parser.add_argument("--max-gb", type=float, default=2.0, metavar="X", help="refuse more than that")
    parser.add_argument(
        "--token-variable",
        default="HF_TOKEN",
        metavar="NAME",
        help="environment variable with the token for data behind a gate; it is sent only for those",
    )
    parser.add_argument("--endpoint", metavar="URL", help="of the Hub; HF_ENDPOINT or huggingface.co by default")
    parser.add_argument("--json", action="store_true", help="print what was fetched as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.hub import ENDPOINT, Hub
    from s1pro.tasks.benchmarks import fetching

    if args.list:
        return _list(as_json=args.json)
    if args.name is None:
        raise InputError("name a benchmark; --list says which can be fetched")
    if args.max_gb <= 0:
        raise InputError(f"--max-gb is {args.max_gb}; it must be positive")
    token = os.environ.get(args.token_variable)
    row = fetching.fetchable(args.name, accepted=args.accept_licence, has_token=bool(token))
    folder = args.to or FOLDER / args.name
    hub = Hub(args.endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT, token=token if row.has_gate else None)
    with Bars("{task.fields[told]}") as bar:
        listing, files = fetching.fetch(
            hub, row, folder, accepted=args.accept_licence, max_bytes=int(args.max_gb * 1e9),
            progress=lambda name, done, size: bar.draw(name, done, size, told=f"{done / 1e6:,.1f} MB"),
        )  # fmt: skip
    counts = _read(args.name, row, folder)
    if args.json:
        names = {name: file.size for name, file in files.items()}
        print_json({"folder": str(folder), "commit": listing.commit, "files": names, "items": counts})
        return 0
    total = sum(file.size for file in files.values())
    licence = listing.licence or "no licence stated"
    print(f"{folder}: {len(files)} files, {total / 1e6:,.1f} MB of {row.repo} at {listing.commit[:12]} ({licence})")
    if row.then:
        print(f"Left to do: {row.then}.")
    print("Items: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) if counts else "Not read yet.")
    print(f"s1pro eval MODEL --benchmark {args.name} --data {folder}")
    return 0


def _read(name: str, row: Fetchable, folder: Path) -> dict[str, int]:
    """Items per task. Nothing where something is left to do first."""
    from s1pro.tasks.benchmarks.registry import load

    return {} if row.then else {task.name: len(task.items()) for task in load(name, folder)}


def _list(*, as_json: bool) -> int:
    from s1pro.tasks.benchmarks.fetching import FETCHABLE, NOT_FETCHED
    from s1pro.tasks.benchmarks.registry import BENCHMARKS

    said = {}
    for name in BENCHMARKS:
        row = FETCHABLE.get(name)
        if row is None:
            said[name] = f"no: {NOT_FETCHED[name]}"
        else:
            gate = "behind a gate" if row.has_gate else ""
            terms = ", ".join(filter(None, (row.licence or "licence unknown", row.terms, gate)))
            said[name] = f"{'on terms' if row.terms else 'yes'}: {row.repo} ({terms})"
    if as_json:
        print_json(said)
    else:
        print("\n".join(f"{name:22}  {what}" for name, what in said.items()))
    return 0
