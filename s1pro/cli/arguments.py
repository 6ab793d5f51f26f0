"""What several commands share: how they are described, and how they print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.base.errors import InputError, no_folder

if TYPE_CHECKING:
    from s1pro.base.records import Sampling

EXIT_CODES = "Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted."

Commands = Any
"""What `ArgumentParser.add_subparsers` returns; argparse has no public name for it."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults that say something: not that a flag is off, and not twice."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, [], "") or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], *, summary: str, description: str
) -> argparse.ArgumentParser:
    """A subcommand whose help ends with the exit codes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=EXIT_CODES,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def positive(text: str) -> int:
    """An argument type: a whole number of at least 1."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """An argument type: a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return value


def page_file(text: str) -> Path:
    """An argument type: where a page goes; said at once, not after the work."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file, for example {path / 'page.html'}")
    return path


def read_json(path: Path) -> Any:
    """What a file of settings says. Raises `InputError`: there is none, or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model folder, and how to load it."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model folder in the released layout")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights in memory")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")


def check_model_folder(folder: Path) -> None:
    """Says at once, before anything slow is loaded, that a folder is no model."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {no_folder(folder)}")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no model folder: it has no config.json")


def add_sampling(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """How to draw tokens; greedy by default."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-new-tokens", type=int, default=max_new_tokens, metavar="N", help="longest answer")
    group.add_argument("--temperature", type=float, default=0.0, metavar="X", help="0 is greedy")
    group.add_argument("--top-k", type=int, default=0, metavar="N", help="0 keeps all")
    group.add_argument("--top-p", type=float, default=1.0, metavar="X", help="1 keeps all")
    group.add_argument("--min-p", type=float, default=0.0, metavar="X", help="0 keeps all")
    group.add_argument("--repetition-penalty", type=float, default=1.0, metavar="X", help="1 is none")
    group.add_argument("--seed", type=int, metavar="N", help="makes draws repeatable")


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The settings of `add_sampling`. Raises `InputError` on values out of range."""
    from s1pro.base.records import Sampling

    names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    try:
        return Sampling(**{name: getattr(args, name) for name in names})
    except ValueError as error:
        raise InputError(str(error)) from error
