"""The command `s1pro`.

Every subcommand is a module of this folder with two functions: `add(commands)` describes its arguments, `run(args)`
does the work and returns the exit code. What a command needs is imported inside `run`, so
`s1pro --help` answers at once.

Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted. Bad input is one line on the error stream that
says what is wrong and what to do; it never shows a traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from s1pro import __version__
from s1pro.base.errors import InputError
from s1pro.cli import (
    chat,
    claims,
    convert,
    corpus,
    data,
    demo,
    evaluate,
    expand,
    lm_eval_command,
    parity,
    plan,
    report,
    rl,
    serve,
    train,
)
from s1pro.cli.arguments import EXIT_CODES

COMMANDS = (
    demo, corpus, data, train, evaluate, lm_eval_command, chat, serve, convert, expand, plan, rl, parity, claims,
    report,
)  # fmt: skip
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="s1pro",
        description="Train, evaluate and question scientific mixture-of-experts models.",
        epilog=f"{EXIT_CODES} `s1pro COMMAND --help` tells more about a command.",
    )
    top.add_argument("--version", action="version", version=f"s1pro {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away: `s1pro ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if _is_full_disk(error):
            print("error: the disk is full; make room and give the same command again", file=sys.stderr)
            return 2
        if not isinstance(error, OSError) or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return code


def _is_full_disk(error: Exception) -> bool:
    """Whether a file could not be written for want of room; safetensors says so in words only."""
    if isinstance(error, OSError):
        return error.errno in FULL_DISK
    return type(error).__name__ == "SafetensorError" and any(f"(os error {code})" in str(error) for code in FULL_DISK)
