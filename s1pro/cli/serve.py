"""`s1pro serve FOLDER`: an HTTP server with the interface of OpenAI's API, and a page at `/`.

It listens on this machine alone unless `--host` says otherwise, fetches no remote media and reads no files unless it
is told from where, and lets nobody change its weights without `--control`. Keys come from `--api-key-file` (one a
line), so that they stand in no list of processes.

Under torchrun every rank serves requests of its own, at the port plus its number, and holds its share of the experts:

    torchrun --nproc-per-node 2 -m s1pro serve FOLDER --port 8000

If one of them dies or does not answer for `--rank-timeout` seconds, the others answer 503 and end with code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, add_model, check_model_folder, not_negative, positive

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from s1pro.serve.async_engine import AsyncEngine
    from s1pro.serve.engine import Engine
    from s1pro.serve.http.service import Service
    from s1pro.serve.http.settings import ServerSettings

ANY_ADDRESS = ("0.0.0.0", "::")

LAST_PORT = 65535

BLOCK, STEP = 16, 2048
"""Token slots of a block of the cache; most tokens of a step."""

RANK_TIMEOUT = 120
"""Seconds."""

LOADING_TIMEOUT = 3600.0
"""Seconds for which a rank that has loaded its weights waits for the others."""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        run,
        summary="answer requests over HTTP",
        description="Serve the model of a folder with the interface of OpenAI's API, and a page at /.",
    )
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every network")
    parser.add_argument("--port", type=port, default=8000, help="0 takes a free one")
    parser.add_argument("--name", help="name of the model for clients; default the name of the folder")
    parser.add_argument("--thinking", action="store_true", help="reason before answering, where a request does not say")
    parser.add_argument(
        "--drain", type=positive, default=60, metavar="S", help="seconds that answers under way may take"
    )
    parser.add_argument("--verbose", action="store_true", help="a line per request")
    engine = parser.add_argument_group("engine")
    engine.add_argument("--max-batch", type=positive, default=32, metavar="N", help="sequences that run at once")
    engine.add_argument(
        "--max-waiting", type=positive, default=256, metavar="N", help="sequences that may wait; then 429"
    )
    engine.add_argument("--cache-tokens", type=positive, default=32768, metavar="N", help="token slots of the cache")
    engine.add_argument("--max-context", type=positive, metavar="N", help="longest prompt with its answer")
    engine.add_argument(
        "--draft-tokens", type=not_negative, default=0, metavar="N", help="guesses per step; 0 does not guess"
    )
    engine.add_argument("--exact", action="store_true", help="log-probs with the bits of the trainer; slower")
    engine.add_argument(
        "--rank-timeout",
        type=positive,
        metavar="S",
        help="under torchrun: seconds that a rank waits for the others before all of them stop; longer than any step "
        "takes; default 120",
    )
    engine.add_argument(
        "--no-cuda-graphs",
        action="store_true",
        help="on a GPU: compute every decoding step anew, instead of recording it once and replaying it",
    )
    engine.add_argument("--no-routing", action="store_true", help="do not record which experts a token used")
    access = parser.add_argument_group("access")
    access.add_argument("--api-key-file", type=Path, metavar="FILE", help="one key a line; without, none is asked for")
    access.add_argument("--allowed-hosts", nargs="+", default=[], metavar="NAME", help="more names of this server")
    access.add_argument(
        "--allowed-media-domains",
        nargs="+",
        default=[],
        metavar="HOST",
        help="hosts of remote media; '*' is any public one",
    )
    access.add_argument("--allow-private-media", action="store_true", help="also from private addresses")
    access.add_argument("--allowed-media-path", type=Path, metavar="DIR", help="folder for file:// URLs")
    access.add_argument("--max-body-mib", type=positive, default=32, metavar="N", help="largest request")
    access.add_argument(
        "--control", action="store_true", help="let clients replace weights and put the engine to sleep"
    )
    access.add_argument("--weights-root", type=Path, metavar="DIR", help="folder below which new weights may lie")


def port(text: str) -> int:
    """An argument type: a port of TCP."""
    if not (text.isascii() and text.isdigit() and int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LAST_PORT}, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    check_model_folder(args.folder)
    _check_engine(args)
    settings = _settings(args)
    from s1pro.cli.paper_figures import figures_reader
    from s1pro.parallel.mesh import launched_rank
    from s1pro.serve.http.app import create_app
    from s1pro.serve.http.server import make_server
    from s1pro.serve.lockstep import RanksLost

    try:
        service, rank = _service(args, settings), launched_rank()
    except RanksLost as error:
        return _failed(error)
    try:
        server, listening = make_server(
            create_app(service, figures_of_pdf=figures_reader()),
            host=args.host,
            port=args.port + rank if args.port else 0,
            drain_seconds=args.drain,
            access_log=args.verbose,
            failed=lambda: service.failure is not None,
        )
    except InputError:
        service.close()
        raise
    port = listening.getsockname()[1]
    print(f"{settings.model_name} at http://{_shown(args.host)}:{port}/ (API: /v1)", flush=True)
    _warn(args, service)
    server.run(sockets=[listening])
    return 0 if service.failure is None else _failed(service.failure)


def _warn(args: argparse.Namespace, service: Service) -> None:
    """What works, but may not be what was meant."""
    if not service.settings.api_keys and args.host in ANY_ADDRESS:
        print("warning: everybody who reaches this address can use it; see --api-key-file", file=sys.stderr)
    positions = service.engine.engine.network.config.text.rope.max_position_embeddings
    if service.max_context > positions:
        said = f"--max-context {service.max_context} is more than the {positions} positions of the model"
        print(f"warning: {said}; what lies beyond it was never trained on", file=sys.stderr)


def _failed(failure: Exception) -> int:
    seen = [] if failure.__cause__ is None else str(failure.__cause__).strip().splitlines()[:1]
    print(f"error: {failure}", *(f"({line})" for line in seen), file=sys.stderr)
    return 1


def _check_engine(args: argparse.Namespace) -> None:
    """Says what cannot work before a large model is loaded."""
    slots = -(-args.cache_tokens // BLOCK) * BLOCK
    if args.max_context is not None and not 2 <= args.max_context <= slots:
        raise InputError(f"--max-context {args.max_context} must lie between 2 and the {slots} slots of --cache-tokens")
    if args.max_batch > STEP:
        raise InputError(f"--max-batch {args.max_batch} is more than the {STEP} tokens of a step")
    if not args.host:
        raise InputError("--host is empty; give an address, for example 127.0.0.1")
    if args.weights_root is not None and not args.control:
        raise InputError("--weights-root has no effect without --control")
    if args.allow_private_media and not args.allowed_media_domains:
        raise InputError("--allow-private-media has no effect without --allowed-media-domains")


def _settings(args: argparse.Namespace) -> ServerSettings:
    from s1pro.serve.http.settings import LOOPBACK_HOSTS, MediaAccess, RequestLimits, ServerSettings

    for name in ("allowed_media_path", "weights_root"):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            raise InputError(f"--{name.replace('_', '-')}: there is no folder {folder}")
    hosts = (
        ()
        if args.host in ANY_ADDRESS and not args.allowed_hosts
        else (*LOOPBACK_HOSTS, args.host.lower(), *(name.lower() for name in args.allowed_hosts))
    )
    return ServerSettings(
        model_name=args.name or args.folder.resolve().name,
        api_keys=_keys(args.api_key_file),
        allowed_hosts=hosts,
        enable_thinking=args.thinking,
        control=args.control,
        weights_root=args.weights_root,
        requests=replace(RequestLimits(), max_body_bytes=args.max_body_mib * 2**20, max_waiting=args.max_waiting),
        media=MediaAccess(
            domains=tuple(args.allowed_media_domains),
            private_addresses=args.allow_private_media,
            folder=args.allowed_media_path,
        ),
    )


def _keys(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not text in UTF-8; write one key a line") from error
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise InputError(f"{file} holds no key; write one a line")
    return keys


def _service(args: argparse.Namespace, settings: ServerSettings) -> Service:
    """The engine with the weights of the folder, loaded in the thread that will use them."""
    import torch

    from s1pro.checkpoint.released import load_network
    from s1pro.inputs.processor import Processor
    from s1pro.parallel.mesh import local_device
    from s1pro.serve.client import build_engine
    from s1pro.serve.expert_shares import load_share
    from s1pro.serve.http.service import Service
    from s1pro.serve.lockstep import wait_for_all

    if args.no_cuda_graphs and args.device == "cpu":
        raise InputError("--no-cuda-graphs has no effect on a CPU, which has none; leave it out")
    processor, group = Processor.from_pretrained(args.folder), _other_ranks(args)

    def build() -> Engine:
        where = {"dtype": getattr(torch, args.dtype), "device": local_device(args.device)}
        if group is None:
            network = load_network(args.folder, **where)
        else:
            network = load_share(args.folder, group, exact=args.exact, **where)
            wait_for_all()  # from here on every rank answers within --rank-timeout
        return build_engine(
            network.eval(),
            processor,
            max_batch=args.max_batch,
            cache_tokens=args.cache_tokens,
            block_size=BLOCK,
            step_tokens=STEP,
            max_context=args.max_context,
            draft_tokens=args.draft_tokens,
            record_routing=not args.no_routing,
            exact=args.exact,
            serves_only=not args.exact,
            expert_group=group,
            cuda_graphs=False if args.no_cuda_graphs else None,
        )

    return Service(_started(build, args), processor, settings, max_batch=args.max_batch)


def _started(build: Callable[[], Engine], args: argparse.Namespace) -> AsyncEngine:
    """The engine in its thread.

    Raises:
        InputError: a setting that it does not take, or too little memory.
    """
    import torch

    from s1pro.serve.async_engine import AsyncEngine

    try:
        return AsyncEngine(build)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            wanted = f"the weights and a cache of {args.cache_tokens} token slots (--cache-tokens)"
            raise InputError(f"no memory for {wanted}: {error}") from error
        raise


def _other_ranks(args: argparse.Namespace) -> ProcessGroup | None:
    """All ranks that torchrun started, as a group for the engine alone; None in a process of its own."""
    from s1pro.parallel.config import ParallelConfig
    from s1pro.parallel.mesh import join, launched_ranks

    if launched_ranks() == 1:
        if args.rank_timeout is not None:
            raise InputError(
                "--rank-timeout has no effect in one process; start several with torchrun, or leave it out"
            )
        return None
    join(ParallelConfig(ep=launched_ranks(), timeout=LOADING_TIMEOUT), args.device)
    from torch.distributed import new_group

    return new_group(timeout=timedelta(seconds=args.rank_timeout or RANK_TIMEOUT))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
