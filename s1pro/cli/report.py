"""`s1pro report RUN…`: one HTML file about a run, or about several side by side.

It reads what the runs left behind (train, rl, demo, expand, eval, claims) and computes nothing anew. The file needs no
network and no other file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s1pro.cli.arguments import Commands, add_command, print_json

ONE, SEVERAL = "run-report.html", "comparison.html"


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "report",
        run,
        summary="one HTML file about a run, or several side by side",
        description="Curves, routers, experts, positions, samples, rollouts, scores, environment and commands of the "
        "folders RUN that train, rl, demo, expand, eval or claims wrote, in one file that opens offline.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; several are compared")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where the page goes (default: {ONE} in the folder of one run, {SEVERAL} here for several)",
    )
    parser.add_argument("--json", action="store_true", help="print what the page is about as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.errors import InputError
    from s1pro.recipes.run_report.page import write_report

    out: Path = args.out or (args.runs[0] / ONE if len(args.runs) == 1 else Path(SEVERAL))
    if out.is_dir():
        raise InputError(f"--out {out}: this is a folder; name a file, for example {out / ONE}")
    found = write_report(args.runs, out)
    if args.json:
        runs = [
            {
                "label": one.label,
                "folder": str(one.folder),
                "kind": one.kind,
                "steps": max((int(record["step"]) for record in one.of("train")), default=0),
                "seconds": one.seconds,
            }
            for one in found
        ]
        print_json({"report": str(out), "bytes": out.stat().st_size, "runs": runs})
    else:
        print(f"{', '.join(one.label for one in found)}: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0
