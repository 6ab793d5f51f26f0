"""`s1pro expand SOURCE TARGET`: multiply the experts of a model and put them into router groups.

The work is streamed: whatever the size of the model, memory holds one shard. Killed work goes on with `--resume`. With
`--data` the source and the result are compared on text that calibration did not see.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.cli.arguments import Commands, add_command, check_model_folder, positive, print_json

if TYPE_CHECKING:
    from s1pro.recipes.expand import ExpandRun


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "expand",
        run,
        summary="multiply the experts of a model",
        description="Read the model folder SOURCE and write one with FACTOR times the experts in router groups.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="own, released, Qwen3-MoE or Qwen3-VL-MoE folder")
    parser.add_argument("target", type=Path, metavar="TARGET", help="folder to write; must not exist")
    _add_expansion(parser.add_argument_group("expansion"))
    _add_text(parser.add_argument_group("text to calibrate and to judge on"))
    _add_storage(parser.add_argument_group("the new folder"))
    parser.add_argument("--resume", action="store_true", help="go on with an expansion that was killed")
    parser.add_argument("--json", action="store_true", help="print the record of the expansion as JSON")


def _add_expansion(group: Any) -> None:
    group.add_argument("--factor", type=positive, default=4, metavar="F", help="copies of every expert")
    group.add_argument("--groups", type=positive, default=8, metavar="G", help="router groups")
    group.add_argument(
        "--strategy",
        choices=("A", "B", "fitted"),
        default="fitted",
        help="which experts share a group: A cuts them in their order; fitted chooses the cuts on text; "
        "B deals them by rank and loses the model, for comparison",
    )
    group.add_argument("--top-k", type=positive, metavar="K", help="experts per token afterwards (default: G)")
    group.add_argument("--noise", type=float, metavar="X", help="on router rows, relative (default: 0.02)")
    group.add_argument("--expert-noise", type=float, default=0.0, metavar="X", help="on expert matrices, relative")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    group.add_argument(
        "--fope", action="store_true", help="Fourier positions, identity coefficients; changes the model"
    )
    group.add_argument("--drop-deepstack", action="store_true", help="go without the deepstack of Qwen3-VL-MoE")


def _add_text(group: Any) -> None:
    group.add_argument("--calibration", type=Path, metavar="FILE", help="from an earlier --save-calibration")
    group.add_argument("--data", type=Path, metavar="FILE", help="JSONL or Parquet")
    group.add_argument("--save-calibration", type=Path, metavar="FILE", help="keep what was learned from --data")
    group.add_argument("--tokenizer", type=Path, metavar="DIR", help="for --data (default: SOURCE)")
    group.add_argument("--num-batches", type=positive, default=32, metavar="N", help="batches of --data to read")
    group.add_argument("--tokens-per-batch", type=positive, default=2048, metavar="N", help="tokens in each")


def _add_storage(group: Any) -> None:
    group.add_argument("--dtype", choices=("float32", "bfloat16"), help="of tensors not in FP8 (default: as in SOURCE)")
    group.add_argument("--fp8", action="store_true", help="quantise in blocks of 128 x 128, as released")
    group.add_argument("--scale-format", choices=("fp32", "ue8m0"), help="of the FP8 scales (default: as in SOURCE)")
    group.add_argument(
        "--layout", choices=("per_expert", "fused", "fused_out_in"), default="per_expert", help="of expert tensors"
    )
    group.add_argument("--shard-mb", type=positive, default=5000, metavar="N", help="largest file, in megabytes")


def run(args: argparse.Namespace) -> int:
    check_model_folder(args.source)
    from s1pro.cli.bytes_bar import BytesBar
    from s1pro.recipes.expand import run_expansion

    with BytesBar("expand") as bar:
        record = run_expansion(_settings(args), progress=bar.update)
    if args.json:
        print_json(record)
    else:
        _print(record, args.target)
    return 0


def _settings(args: argparse.Namespace) -> ExpandRun:
    from s1pro.checkpoint.expansion_plan import ExpansionConfig
    from s1pro.checkpoint.rewrite import Storage
    from s1pro.recipes.expand import ExpandRun

    names = ("source", "target", "calibration", "save_calibration", "data", "tokenizer", "num_batches", "fope")
    return ExpandRun(
        **{name: getattr(args, name) for name in (*names, "tokens_per_batch", "drop_deepstack", "resume")},
        expansion=ExpansionConfig(
            factor=args.factor,
            groups=args.groups,
            strategy=args.strategy,
            new_top_k=args.top_k,
            router_noise=args.noise,
            expert_noise=args.expert_noise,
            seed=args.seed,
        ),
        storage=Storage(
            layout=args.layout,
            dtype=args.dtype,
            fp8=args.fp8,
            scale_format=args.scale_format,
            max_shard_bytes=args.shard_mb * 10**6,
        ),
    )


def _print(record: dict[str, Any], target: Path) -> None:
    before, after = record["before"], record["after"]
    print(
        f"{target}: {before['num_experts']} experts, {before['top_k']} per token -> {after['num_experts']} in "
        f"{after['num_groups']} groups, {after['top_k']} per token; {after['parameters']:,} parameters"
    )
    for note in record["notes"]:
        print(f"note: {note}")
    if "mass" in record:
        kept = sum(layer["kept"] for layer in record["mass"]) / len(record["mass"])
        print(f"routing mass kept on {record['mass_from']}: {100 * kept:.1f} %")
    if "held_out" in record:
        held = record["held_out"]
        print(f"held-out loss {held['loss_before']:.4f} -> {held['loss_after']:.4f}, KL {held['kl']:.4f}")
    print(f"report: {target / 'expansion.html'}")
