"""`s1pro demo`: the whole way in minutes, from molecules, pictures, videos and signals to a small model that answers
questions about them."""

from __future__ import annotations

import argparse
from pathlib import Path

from s1pro.cli.arguments import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        run,
        summary="train, grow and examine a tiny model on molecules, pictures, videos and signals",
        description="Make training data from real compounds, scans, videos and signals, train a tokenizer and a tiny "
        "mixture of experts, multiply its experts, train it on all of them together, evaluate it on what it never saw, "
        "let it learn from its own answers, and write report.html. Six to seven minutes on two cores.",
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), metavar="DIR", help="where everything goes")


def run(args: argparse.Namespace) -> int:
    from s1pro.recipes.demo import run as run_demo

    run_demo(args.folder)
    return 0
