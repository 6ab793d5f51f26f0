"""`s1pro parity FOLDER`: how far an engine is from the trainer, and why, from what the engine says alone.

    s1pro parity runs/demo/model                                      this project's engine
    s1pro parity MODEL --url http://127.0.0.1:8000/v1 --model NAME    an endpoint: token ids in, log-probabilities out
    s1pro parity MODEL --url ... --model NAME --engine vllm           one that is not ours: vllm, lmdeploy, sglang

The trainer loads FOLDER. What each engine has to be started with is in docs/rl.md; records of experts are compared
where it returns them. Exit code 1: a fault was found.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from typing import TYPE_CHECKING

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, add_model, check_model_folder, page_file, positive, print_json

if TYPE_CHECKING:
    from s1pro.base.client import ModelClient
    from s1pro.model.network import Network
    from s1pro.rl.parity.diagnosis import Diagnosis


ENGINES = ("s1pro", "vllm", "lmdeploy", "sglang")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "parity",
        run,
        summary="compare an engine with the trainer",
        description="Ask an engine, compute the same with the trainer's network, and say how far they are apart and "
        "why. Exit code 1: they are.",
    )
    add_model(parser)
    parser.add_argument("--url", metavar="URL", help="endpoint of the engine (default: this project's, in process)")
    parser.add_argument("--model", metavar="NAME", default="model", help="name of the model at the endpoint")
    parser.add_argument("--engine", choices=ENGINES, default="s1pro", help="who serves the endpoint (default: s1pro)")
    parser.add_argument("--no-routing", action="store_true", help="the endpoint gives no experts; do not ask for them")
    parser.add_argument("--api-key-variable", metavar="NAME", help="environment variable that holds the key")
    parser.add_argument("--engine-dtype", choices=("float32", "bfloat16"), help="of the engine in process")
    parser.add_argument("--exact", action="store_true", help="both sides with batch-invariant operators: no gap at all")
    parser.add_argument("--prompts", type=positive, default=48, metavar="N", help="prompts to sample from")
    parser.add_argument("--tokens", type=positive, default=48, metavar="N", help="tokens of each answer")
    parser.add_argument("--longest", type=positive, default=256, metavar="N", help="tokens of the longest prompt")
    parser.add_argument(
        "--limit", type=float, default=1e-6, metavar="X", help="largest KL(engine || trainer) that passes"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of prompts and draws")
    parser.add_argument("--report", type=page_file, metavar="FILE", help="write an HTML page")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(args: argparse.Namespace) -> int:
    check_model_folder(args.folder)
    _check(args)
    import torch

    from s1pro.base.endpoint import EndpointError
    from s1pro.checkpoint.released import load_network
    from s1pro.inputs.processor import Processor
    from s1pro.rl.parity.diagnosis import diagnose
    from s1pro.rl.parity.probes import ProbeSettings, check_probes, collect

    processor = Processor.from_pretrained(args.folder)
    network = load_network(args.folder, dtype=getattr(torch, args.dtype), device=args.device).eval()
    if args.exact:
        from s1pro.model.exact import use_exact_operators

        use_exact_operators(network)
    most = network.config.text.rope.max_position_embeddings
    if args.longest + args.tokens > most:
        raise InputError(f"--longest {args.longest} and --tokens {args.tokens}: the model has {most} positions")
    try:
        settings = ProbeSettings(prompts=args.prompts, tokens=args.tokens, longest=args.longest, seed=args.seed)
        probes, chats = asyncio.run(collect(_client(args, network), processor, settings))
        check_probes(probes)
    except ValueError as error:
        raise InputError(str(error)) from error
    except EndpointError as error:
        raise InputError(f"--url {args.url}, --engine {args.engine}: {error}; does this server run there?") from error
    found = diagnose(network, probes, chats, limit=args.limit, bos=processor.tokenizer.token_to_id("<|endoftext|>"))
    if args.report is not None:
        from s1pro.rl.parity.page import write_page

        write_page(found, args.report, model=str(args.folder), engine=args.url or "in process")
    if args.json:
        print_json({"passed": found.passed, **found.as_record()})
    else:
        _show(found)
    return 0 if found.passed else 1


def _check(args: argparse.Namespace) -> None:
    """What has no effect, or cannot be."""
    from s1pro.base.endpoint import check_address

    if args.url is not None:
        check_address(args.url, "--url")
    if args.url is not None and (args.engine_dtype or args.exact):
        raise InputError("--engine-dtype and --exact are of the engine in process and have no effect with --url")
    if args.url is None and (args.engine != "s1pro" or args.no_routing):
        raise InputError("--engine and --no-routing are about an endpoint and have no effect without --url")
    if args.url is None and (args.model != "model" or args.api_key_variable):
        raise InputError("--model and --api-key-variable are about an endpoint and have no effect without --url")
    if not 0 <= args.limit < math.inf:
        raise InputError(f"--limit must be a number from 0, got {args.limit}")


def _client(args: argparse.Namespace, network: Network) -> ModelClient:
    if args.url is None:
        from s1pro.serve.client import LocalClient

        dtype = args.engine_dtype or args.dtype
        return LocalClient.from_folder(args.folder, dtype=dtype, device=args.device, exact=args.exact)
    from s1pro.base.endpoint import EndpointSettings
    from s1pro.base.http_client import HttpClient

    text = network.config.text
    settings = EndpointSettings(
        base_url=args.url,
        model=args.model,
        logprobs=True,
        engine=args.engine,
        routing=bool(text.moe_layers) and not args.no_routing,
        routing_shape=(len(text.moe_layers), text.router.top_k) if args.engine != "s1pro" and text.moe_layers else None,
    )
    return HttpClient(settings, api_key_variable=args.api_key_variable)


def _show(found: Diagnosis) -> None:
    gap = found.gap
    print(
        f"{gap.tokens:,} sampled tokens: KL(engine || trainer) k1 {gap.k1:+.3g}, k3 {gap.k3:.3g}; "
        f"largest difference {gap.largest:.3g}"
    )
    print(f"greedy tokens that the trainer holds most likely too: {found.top1:.2%}")
    if found.routing_agreement:
        layers = ", ".join(f"{share:.2%}" for share in found.routing_agreement)
        print(f"equal experts by layer: {layers}")
    fit = found.sampler.cut or f"temperature {found.sampler.drawn_at:.2f}"
    print(f"draws: z = {found.sampler.z:+.1f}, fit {fit}")
    for explanation in found.explanations[:5]:
        print(f"  {explanation.left:7.1%} of the gap is left if {explanation.says} ({explanation.name})")
    for fault in found.faults:
        print(f"fault: {fault}", file=sys.stderr)
    if found.passed:
        print("engine and trainer agree")
