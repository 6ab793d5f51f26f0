"""`s1pro data inspect FILE`: what training would see. (`s1pro data fetch NAME` is in `data_fetch`.)

Samples of a JSONL or Parquet file are tokenised and packed exactly as training does it, and one batch is shown token by
token: bright tokens carry loss, dim ones are only read. Every segment is a sample (or a chunk of one) with its own
positions; the rest of the batch is a masked tail.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.cli import data_fetch
from s1pro.cli.arguments import Commands, add_command, positive, print_json

if TYPE_CHECKING:
    from s1pro.data.batch import PackedBatch


def add(commands: Commands) -> None:
    summary = "look at training data; fetch data of benchmarks"
    data = commands.add_parser("data", help=summary, description=summary.capitalize() + ".")
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    data_fetch.add(commands)
    parser = add_command(
        commands,
        "inspect",
        run,
        summary="show a packed batch, and which of its tokens carry loss",
        description="Tokenise and pack samples as training does, and show one batch. Bright tokens carry loss.",
    )
    parser.add_argument("path", type=Path, metavar="FILE", help=".jsonl or .parquet file, or a folder of them")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FOLDER", help="model or tokenizer folder")
    parser.add_argument("--tokens", type=positive, default=512, metavar="N", help="rows of the batch")
    parser.add_argument("--max-length", type=positive, default=256, metavar="N", help="longest sequence")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="order of the samples")
    parser.add_argument("--json", action="store_true", help="print the batch as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.data.mixture import LengthPolicy, Mixture
    from s1pro.data.packing import Packer
    from s1pro.data.samples import read_samples
    from s1pro.data.sequence import ProcessorEncoder
    from s1pro.data.sources import TokenStore
    from s1pro.inputs.processor import Processor

    processor = Processor.from_pretrained(args.tokenizer)
    source = TokenStore.build(args.path.name, read_samples(args.path), ProcessorEncoder(processor))
    policy = LengthPolicy(max_length=args.max_length, long_conversations="split")
    packer = Packer(Mixture([source], [1.0], policy=policy, seed=args.seed), num_rows=args.tokens)
    plan = packer.plan()
    assert plan is not None  # the mixture repeats
    batch = packer.materialise(plan)
    segments = [_segment(batch, i, processor.tokenizer.decode) for i in range(batch.num_real_segments)]
    if args.json:
        print_json({"rows": batch.num_rows, "real_rows": batch.num_real_rows, "segments": segments})
    else:
        _show(batch, segments)
    return 0


def _segment(batch: PackedBatch, index: int, decode: Any) -> dict[str, Any]:
    """One sequence: its tokens, and the weight with which each is learned (the first token is only read)."""
    start, stop = batch.cu_seqlens[index], batch.cu_seqlens[index + 1]
    inputs, targets = batch.input_ids_T[start:stop].tolist(), batch.targets_T[start:stop].tolist()
    weights = [0.0, *batch.loss_weights_T[start:stop].tolist()]
    ids = [*inputs, targets[-1]] if targets[-1] >= 0 else inputs
    return {
        "prompt_group": batch.segment_groups[index],
        "tokens": [
            {"id": token, "text": decode([token]), "weight": weight}
            for token, weight in zip(ids, weights, strict=False)
        ],
    }


def _show(batch: PackedBatch, segments: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for number, segment in enumerate(segments):
        learned = sum(token["weight"] > 0 for token in segment["tokens"])
        count = len(segment["tokens"])
        console.rule(f"segment {number}: {segment['prompt_group']}, {count} tokens, {learned} with loss", style="dim")
        line = Text()
        for (text, weight), run in itertools.groupby((token["text"], token["weight"]) for token in segment["tokens"]):
            length = len(list(run))  # placeholders of media stand in long runs
            shown = text * length if length < 4 else f"{text}×{length}"
            line.append(shown, style="bold green" if weight > 0 else "dim")
        console.print(line, soft_wrap=True)
    tail = batch.num_rows - batch.num_real_rows
    console.rule(f"{batch.num_rows} rows, of which {tail} masked tail", style="dim")
