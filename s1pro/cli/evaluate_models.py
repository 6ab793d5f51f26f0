"""Who answers in `s1pro eval`: a model folder in this process, or any OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import check_model_folder, positive

if TYPE_CHECKING:
    from s1pro.base.client import ModelClient
    from s1pro.tasks.judging import Judge
    from s1pro.tasks.task import Task


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="model folder in the released layout")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights in memory")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    group = parser.add_argument_group("endpoint, in place of FOLDER")
    group.add_argument("--url", metavar="URL", help="like http://localhost:8000/v1")
    group.add_argument("--model", metavar="NAME", help="name of the model there")
    group.add_argument("--user-url", metavar="URL", help="endpoint that plays the customer of --tau2")
    group.add_argument("--user-model", metavar="NAME", help="name of the model there; default: the model itself plays")
    group.add_argument("--api-key-variable", metavar="NAME", help="environment variable that holds the key")
    judge = parser.add_argument_group("judge: a model that reads answers where a benchmark wants that")
    judge.add_argument("--judge-url", metavar="URL", help="its endpoint; what it is asked and says is in OUTPUT/judge")
    judge.add_argument("--judge-model", metavar="NAME", help="name of the model there")
    judge.add_argument("--judge-key-variable", metavar="NAME", help="environment variable that holds its key")
    group.add_argument("--timeout", type=float, default=600.0, metavar="S", help="longest time of one try")
    group.add_argument("--attempts", type=positive, default=6, metavar="N", help="tries of one request")
    group.add_argument("--requests-per-second", type=float, metavar="X", help="limit")
    group.add_argument("--tokens-per-minute", type=float, metavar="X", help="limit, of prompts and answers together")
    group.add_argument("--price-prompt", type=float, default=0.0, metavar="X", help="per million tokens")
    group.add_argument("--price-completion", type=float, default=0.0, metavar="X", help="per million tokens")


def check(args: argparse.Namespace) -> None:
    """Raises `InputError` unless there is exactly one model, before anything slow happens."""
    if (args.folder is None) == (args.url is None):
        raise InputError(
            "required: FOLDER, or --url with --model" if args.url is None else "give FOLDER or --url, not both"
        )
    if args.url is not None and not args.model:
        raise InputError("--url needs --model, the name of the model there")
    _check_endpoints(args)
    if (args.judge_url is None) != (args.judge_model is None):
        raise InputError("--judge-url and --judge-model belong together")
    if args.judge_url is None and args.judge_key_variable:
        raise InputError("--judge-key-variable belongs to --judge-url")
    if (args.user_url is None) != (args.user_model is None):
        raise InputError("--user-url and --user-model belong together")
    if args.user_url is not None and args.solo:
        raise InputError("--user-url has no effect with --solo: nobody plays the customer")
    for folder in filter(None, (args.folder, args.reference)):
        check_model_folder(folder)
    if args.reference is not None and args.folder is not None and args.reference.resolve() == args.folder.resolve():
        raise InputError("--reference is the model itself")


def _check_endpoints(args: argparse.Namespace) -> None:
    from s1pro.base.endpoint import check_address

    for option in ("url", "user_url", "judge_url"):
        if (address := getattr(args, option)) is not None:
            check_address(address, "--" + option.replace("_", "-"))
    if not args.timeout > 0:
        raise InputError(f"--timeout must be positive, got {args.timeout:g}")
    if args.url is not None:
        _endpoint(args, args.url, args.model, key_variable=args.api_key_variable)


def check_folders(args: argparse.Namespace) -> None:
    """Raises `InputError` for model folders that will not load, before questions are made: that takes longer."""
    folders = list(filter(None, (args.folder, args.reference)))
    if folders:
        from s1pro.checkpoint.released import open_network
        from s1pro.inputs.processor import Processor

        for folder in folders:
            open_network(folder)
            Processor.from_pretrained(folder)


def name_of(args: argparse.Namespace) -> str:
    return str(args.model) if args.url is not None else str(args.folder.resolve().name)


def identity(args: argparse.Namespace) -> str:
    """What a cache of answers is keyed by: the address, or configuration, sizes and times of the weights."""
    if args.url is not None:
        return f"{args.url} {args.model}"
    files = sorted(args.folder.resolve().glob("*.json")) + sorted(args.folder.resolve().glob("*.safetensors"))
    digest = hashlib.sha256(args.dtype.encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def client_of(args: argparse.Namespace) -> ModelClient:
    """The model that is evaluated."""
    return (
        _endpoint(args, args.url, args.model, key_variable=args.api_key_variable)
        if args.url is not None
        else local(args, args.folder)
    )


def customer_of(args: argparse.Namespace, client: ModelClient) -> ModelClient:
    """Who plays the customer in conversations."""
    return (
        client
        if args.user_url is None
        else _endpoint(args, args.user_url, args.user_model, key_variable=args.api_key_variable)
    )


def seat_judge(args: argparse.Namespace, tasks: Sequence[Task], folder: Path) -> Judge | None:
    """Gives the judge to all tasks that know one.

    Raises:
        InputError: a benchmark needs a judge and there is none, or there is one and no task would ask it.
    """
    from s1pro.eval.agents import Played
    from s1pro.tasks.benchmarks.spec import BenchmarkTask
    from s1pro.tasks.judging import Judge
    from s1pro.tasks.own import OwnTask

    judged: list[BenchmarkTask | OwnTask | Played] = []
    needed = []
    for task in tasks:
        if isinstance(task, BenchmarkTask) and task.subtask.judged is not None:
            judged.append(task)
            needed += [task.name] if task.subtask.judged.required else []
        elif isinstance(task, OwnTask | Played) and task.needs_judge():
            judged.append(task)
            needed.append(task.name)
    if args.judge_url is None and needed:
        raise InputError(f"{needed[0]} needs a judge: give --judge-url and --judge-model")
    if args.judge_url is None:
        return None
    if not judged:
        raise InputError("--judge-url has no effect: none of these tasks asks a judge")
    client = _endpoint(args, args.judge_url, args.judge_model, key_variable=args.judge_key_variable)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", args.judge_model)
    log = folder / "judge" / f"{name}.jsonl"
    judge = Judge(client, args.judge_model, log=log, concurrency=args.concurrency)
    for each in judged:
        each.judge = judge
    return judge


def local(args: argparse.Namespace, folder: Path) -> ModelClient:
    from s1pro.serve.client import LocalClient

    return LocalClient.from_folder(
        folder, dtype=args.dtype, device=args.device, enable_thinking=bool(args.thinking), record_routing=False
    )


def _endpoint(args: argparse.Namespace, url: str, model: str, *, key_variable: str | None) -> ModelClient:
    """Whether to think is sent only if the user says so: hosted servers refuse fields that they do not know."""
    from s1pro.base.endpoint import EndpointSettings, RetrySettings
    from s1pro.base.http_client import HttpClient

    extra = {} if args.thinking is None else {"chat_template_kwargs": {"enable_thinking": args.thinking}}
    settings = EndpointSettings(
        base_url=url,
        model=model,
        concurrency=args.concurrency,
        timeout_s=args.timeout,
        requests_per_second=args.requests_per_second,
        tokens_per_minute=args.tokens_per_minute,
        retries=RetrySettings(attempts=args.attempts),
        price_prompt=args.price_prompt,
        price_completion=args.price_completion,
        extra_body=extra,
    )
    return HttpClient(settings, api_key_variable=key_variable)
