"""`s1pro convert SRC DST`: rewrite a model folder in another precision or layout.

Reads any folder in the released layout (FP8 is dequantised, expert tensors may be per expert or fused) and writes a new
one, with its tokenizer. The source is never changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, check_model_folder, print_json


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "convert",
        run,
        summary="rewrite a model folder in another precision or layout",
        description="Read the model folder SRC and write it to DST, in another precision or layout.",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="model folder in the released layout")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write; must not exist")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of tensors not in FP8")
    parser.add_argument("--fp8", action="store_true", help="quantise in blocks of 128 x 128, as released")
    parser.add_argument(
        "--scale-format", choices=("fp32", "ue8m0"), help="of the FP8 scales (default: as in SRC, else fp32)"
    )
    parser.add_argument("--layout", choices=("per_expert", "fused"), default="per_expert", help="of expert tensors")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args: argparse.Namespace) -> int:
    if args.scale_format is not None and not args.fp8:
        raise InputError("--scale-format has no effect without --fp8")
    check_model_folder(args.source)
    if args.target.exists():
        raise InputError(f"{args.target} exists already; choose another folder")
    import torch

    from s1pro.checkpoint.released import load_network, save_network
    from s1pro.inputs.processor import Processor
    from s1pro.model.sizes import count_parameters

    network = load_network(args.source, dtype=getattr(torch, args.dtype))
    processor = Processor.from_pretrained(args.source)
    save_network(network, args.target, fp8=args.fp8, scale_format=args.scale_format, layout=args.layout)
    processor.save_pretrained(args.target)
    written = {
        "folder": str(args.target),
        "parameters": count_parameters(network.config).total,
        "bytes": sum(file.stat().st_size for file in args.target.rglob("*.safetensors")),
    }
    if args.json:
        print_json(written)
    else:
        print(f"{written['folder']}: {written['parameters']:,} parameters, {written['bytes'] / 1e6:,.1f} MB")
    return 0
