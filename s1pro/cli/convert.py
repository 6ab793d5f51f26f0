"""`s1pro convert SRC DST`: rewrite a model folder in another precision or layout.

Reads any folder that `expand` reads (FP8 is dequantised, expert tensors may be per expert or fused) and writes a new
one in the released layout, with its tokenizer, one shard at a time. The source is never changed. Every shard is read
back and compared; killed work goes on with `--resume`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, check_model_folder, positive, print_json


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "convert",
        run,
        summary="rewrite a model folder in another precision or layout",
        description="Read the model folder SRC and write it to DST, in another precision or layout.",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="own, released, Qwen3-MoE or Qwen3-VL-MoE folder")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write; must not exist")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of tensors not in FP8 (default: as in SRC)")
    parser.add_argument("--fp8", action="store_true", help="quantise in blocks of 128 x 128, as released")
    parser.add_argument(
        "--scale-format", choices=("fp32", "ue8m0"), help="of the FP8 scales (default: as in SRC, else fp32)"
    )
    parser.add_argument(
        "--layout", choices=("per_expert", "fused", "fused_out_in"), default="per_expert", help="of expert tensors"
    )
    parser.add_argument("--shard-mb", type=positive, default=5000, metavar="N", help="largest file, in megabytes")
    parser.add_argument("--drop-deepstack", action="store_true", help="go without the deepstack of Qwen3-VL-MoE")
    parser.add_argument("--resume", action="store_true", help="go on with a conversion that was killed")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args: argparse.Namespace) -> int:
    if args.scale_format is not None and not args.fp8:
        raise InputError("--scale-format has no effect without --fp8")
    check_model_folder(args.source)
    if args.target.exists():
        raise InputError(f"{args.target} exists already; choose another folder")
    from s1pro.checkpoint.rewrite import Storage, rewrite
    from s1pro.checkpoint.sources import FolderWeights
    from s1pro.cli.bytes_bar import BytesBar
    from s1pro.model.sizes import count_parameters

    storage = Storage(
        layout=args.layout,
        dtype=args.dtype,
        fp8=args.fp8,
        scale_format=args.scale_format,
        max_shard_bytes=args.shard_mb * 10**6,
    )
    source = FolderWeights(args.source, drop_deepstack=args.drop_deepstack)
    with BytesBar("convert") as bar:
        rewrite(source, source, args.target, storage, resume=args.resume, progress=bar.update)
    written = {
        "folder": str(args.target),
        "parameters": count_parameters(source.config).total,
        "bytes": sum(file.stat().st_size for file in args.target.glob("*.safetensors")),
        "notes": list(source.notes),
    }
    if args.json:
        print_json(written)
        return 0
    print(f"{written['folder']}: {written['parameters']:,} parameters, {written['bytes'] / 1e6:,.1f} MB")
    for note in source.notes:
        print(f"note: {note}")
    return 0
