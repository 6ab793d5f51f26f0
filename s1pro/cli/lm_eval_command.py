"""`s1pro lm-eval ...`: the command of lm-eval, to which the model class `s1pro` is known (cli/lm_eval_model.py)."""

from __future__ import annotations

import argparse
import sys

from s1pro.base.errors import MissingExtraError
from s1pro.cli.arguments import EXIT_CODES, Commands

MODEL = "s1pro"
_TARGET = "s1pro.cli.lm_eval_model:S1ProLM"


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "lm-eval",
        prefix_chars="\0",  # everything is for lm-eval
        add_help=False,
        help="lm-eval, with the model class s1pro for folders: --model s1pro --model_args folder=FOLDER",
        description="lm-eval, with the model class s1pro: --model s1pro --model_args folder=FOLDER. What lm-eval "
        "itself takes says `s1pro lm-eval run --help`.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="as lm-eval takes them")
    parser.set_defaults(run=run, print_help=parser.print_help)


def run(args: argparse.Namespace) -> int:
    if args.arguments in (["-h"], ["--help"]):
        args.print_help()
        return 0
    register()
    from lm_eval.__main__ import cli_evaluate

    before = sys.argv
    sys.argv = ["s1pro lm-eval", *args.arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
    return 0


def register() -> None:
    """Makes the class known to lm-eval of this process; it is imported when it is asked for.

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    try:
        from lm_eval.api.registry import model_registry
    except ImportError as error:
        raise MissingExtraError("lm-eval", "harness") from error
    if MODEL not in model_registry:
        model_registry.register(MODEL, target=_TARGET)
