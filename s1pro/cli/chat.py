"""`s1pro chat FOLDER`: talk to a model in the terminal.

Lines that start with a slash are commands: /system TEXT sets the system prompt and starts over, /image, /video and
/signal put a file beside the next question, /reset forgets the conversation, /help lists them, /exit leaves (so does
the end of input). Ctrl-C stops an answer; at the prompt it leaves. Where Python has readline, lines can be edited and
called back with the arrow keys.

What the model writes is text: characters that steer a terminal are shown as the sign of an unknown character.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.base.errors import InputError
from s1pro.cli.arguments import (
    Commands,
    add_command,
    add_model,
    add_sampling,
    check_model_folder,
    print_json,
    sampling_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from s1pro.base.records import Message, Role, Sampling
    from s1pro.serve.answer_text import Piece
    from s1pro.serve.client import LocalClient

CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
HELP = (
    "/system TEXT  set the system prompt and start over    /image FILE, /video FILE, /signal FILE [HZ [UNIT]]  ask "
    "about a file    /reset  forget the conversation    /exit  leave"
)


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "chat",
        run,
        summary="talk to a model in the terminal",
        description="Talk to the model of a folder. " + HELP.replace("    ", "; ") + ".",
    )
    add_model(parser)
    add_sampling(parser, max_new_tokens=512)
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument("--thinking", action="store_true", help="let the model reason before it answers")
    parser.add_argument("--message", metavar="TEXT", help="ask this one question and leave")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture of the first question")
    parser.add_argument("--video", action="append", default=[], metavar="FILE", help="a video of the first question")
    parser.add_argument(
        "--signal",
        action="append",
        default=[],
        metavar="FILE[,HZ[,UNIT]]",
        help="a signal of the first question: CSV, NPY, WAV, ...",
    )
    parser.add_argument("--json", action="store_true", help="with --message: print the whole completion as JSON")


def run(args: argparse.Namespace) -> int:
    if args.json and args.message is None:
        raise InputError("--json needs --message: a conversation has no single result")
    sampling = sampling_of(args)
    check_model_folder(args.folder)
    from s1pro.serve.client import LocalClient

    client = LocalClient.from_folder(args.folder, dtype=args.dtype, device=args.device, enable_thinking=args.thinking)
    conversation = Conversation(client, sampling, args.system)
    for path in args.image:
        conversation.attach("image", path)
    for path in args.video:
        conversation.attach("video", path)
    for given in args.signal:
        conversation.attach("signal", *_signal_of(given))
    if args.message is None:
        conversation.loop()
    elif args.json:
        print_json(conversation.answer_as_json(args.message))
    else:
        conversation.answer(args.message)
    return 0


class Conversation:
    """Messages so far, and the terminal they are shown on."""

    def __init__(self, client: LocalClient, sampling: Sampling, system: str | None) -> None:
        from rich.console import Console

        self.client, self.sampling = client, sampling
        self.console = Console(highlight=False)
        self.reset(system)

    def reset(self, system: str | None) -> None:
        self.system = system
        self.messages = [] if system is None else [_message("system", system)]
        self.attached: list[dict[str, Any]] = []

    def attach(self, kind: str, path: str, *details: str) -> None:
        """Puts a file beside the next question.

        Raises:
            InputError: there is no such file, or a sampling rate that is no number.
        """
        self.attached.append(_part(kind, path, *details))

    def loop(self) -> None:
        """Reads lines until the end of input or /exit."""
        with contextlib.suppress(ImportError):  # not everywhere; `input` edits lines where it is
            import readline  # noqa: F401
        self.console.print(HELP, style="dim")
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                self.console.print()
                return
            if line == "/exit":
                return
            if line.startswith("/"):
                self.command(line)
            elif line:
                try:
                    self.answer(line)
                except InputError as error:  # for example a conversation that no longer fits the context
                    self.console.print(f"error: {error} (/reset starts over)", style="red", markup=False)

    def command(self, line: str) -> None:
        name, _, text = line.partition(" ")
        if name == "/reset":
            self.reset(self.system)
        elif name == "/system" and text.strip():
            self.reset(text.strip())
        elif name in ("/image", "/video", "/signal") and text.strip():
            try:
                path, *details = shlex.split(text)
                if len(details) > (2 if name == "/signal" else 0):
                    raise InputError(f"{name} takes one file, got {text.strip()!r}; put a name with blanks into quotes")
                self.attach(name[1:], path, *details)
                self.console.print(f"{path} goes with the next question", style="dim", markup=False)
            except ValueError as error:
                self.console.print(f"error: {error}", style="red", markup=False)
        else:
            self.console.print(HELP, style="dim")

    def question(self, text: str) -> Message:
        """The user's turn with what was attached to it."""
        parts, self.attached = self.attached, []
        return _message("user", [*parts, {"type": "text", "text": text}] if parts else text)

    def answer(self, question: str) -> None:
        """Streams the answer; an interrupted one stays in the conversation as far as it came.

        Raises:
            InputError: the question cannot be asked; the conversation stays as it was.
        """
        messages = [*self.messages, self.question(question)]
        pieces: list[str] = []
        screen = _Screen(self.console, thinking=self.client.enable_thinking)

        async def stream() -> None:
            async for piece in self.client.stream_chat(messages, self.sampling):
                pieces.append(piece)
                screen.push(piece)
            screen.finish()

        try:
            asyncio.run(stream())
        except KeyboardInterrupt:
            self.console.print(" [stopped]", style="dim", markup=False, end="")
        self.console.print()
        self.messages = [*messages, _message("assistant", "".join(pieces))]

    def answer_as_json(self, question: str) -> dict[str, Any]:
        messages = [*self.messages, self.question(question)]
        completion = asyncio.run(self.client.chat(messages, self.sampling))
        return {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "prompt_token_ids": completion.prompt_token_ids,
            "token_ids": completion.token_ids,
            "logprobs": completion.logprobs,
        }


class _Screen:
    """Prints an answer as it comes: reasoning pale, then an empty line, then the rest."""

    def __init__(self, console: Console, *, thinking: bool) -> None:
        from s1pro.serve.answer_text import AnswerParser

        self.console = console
        self._parser = AnswerParser(reasoning=True, tools=False) if thinking else None
        self._reasoned = False

    def push(self, text: str) -> None:
        if self._parser is None:
            self._print(text)
        else:
            self._show(self._parser.push(text))

    def finish(self) -> None:
        """Prints what might have become a tag."""
        if self._parser is not None:
            self._show(self._parser.finish())

    def _show(self, pieces: Sequence[Piece]) -> None:
        from s1pro.serve.answer_text import Content, Reasoning

        for piece in pieces:
            if isinstance(piece, Reasoning):
                self._print(piece.text, "dim")
                self._reasoned = True
            elif isinstance(piece, Content):
                self._print("\n\n" * self._reasoned + piece.text)
                self._reasoned = False

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(text.translate(CONTROL), style=style, end="", markup=False, soft_wrap=True)


def _message(role: Role, content: str | list[dict[str, Any]]) -> Message:
    from s1pro.base.records import Message

    return Message(role=role, content=content)


def _signal_of(given: str) -> list[str]:
    """FILE[,HZ[,UNIT]] taken apart; a file whose name holds commas stays whole."""
    parts = [given] if Path(given).exists() else given.split(",")
    if len(parts) > 3:
        raise InputError(f"--signal takes FILE[,HZ[,UNIT]], got {given!r}")
    return parts


def _part(kind: str, path: str, rate: str | None = None, unit: str | None = None) -> dict[str, Any]:
    """The part of a message that names a file."""
    if not Path(path).exists():
        raise InputError(f"{path}: there is no such file")
    if kind != "signal":
        return {"type": kind, kind: path}
    part: dict[str, Any] = {"type": "time_series", "time_series": path}
    if rate:
        try:
            part["sampling_rate"] = float(rate)
        except ValueError as error:
            raise InputError(f"the sampling rate of {path} must be a number of hertz, got {rate!r}") from error
    return {**part, "unit": unit} if unit else part
