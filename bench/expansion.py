"""Expert expansion on a small chemist: fitted, A, random cuts, B, and from scratch.

    python bench/expansion.py [--folder runs/expansion] [--seeds 5] [--json FILE]

A corpus of molecules is built (`corpus.build`, needs the extra `science`), a base of 8 experts is trained once,
expanded to 32 experts in 8 groups, and trained on for 100 steps (`recipes/expansion_comparison.py`). Criteria, fixed
before the run: area of the held-out loss over the 100 steps, fitted <= A < B < scratch; more routing mass kept by
fitted than by A and by random cuts on held-out text; copies of A that differ after 100 steps, and do not without noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from paired import environment

from s1pro.base.config import config_to_json
from s1pro.checkpoint.expansion import expand_network
from s1pro.checkpoint.expansion_plan import ExpansionConfig
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.samples import read_samples
from s1pro.data.sequence import ProcessorEncoder
from s1pro.data.sources import Source, TokenStore
from s1pro.inputs.processor import Processor
from s1pro.model.network import Network
from s1pro.model.presets import demo
from s1pro.recipes.demo import stages
from s1pro.recipes.demo_training import DemoSettings
from s1pro.recipes.expansion_comparison import (
    SCRATCH,
    ComparisonSettings,
    Data,
    Results,
    compare,
    difference,
    mass_difference,
    table,
    train_steps,
)
from s1pro.recipes.stages import StageFile
from s1pro.train.config import DataConfig
from s1pro.train.copies import copy_similarity
from s1pro.train.setup import build_loader, validation_batches

ORDER = ("fitted", "A", "B", SCRATCH)


def prepare(folder: Path, settings: DemoSettings) -> tuple[Source, Source]:
    """Descriptions of molecules to learn from, and of others with other scaffolds."""
    file = StageFile(folder / "stages.json", config_to_json(settings))
    if not (folder / "tokenizer").exists():
        for stage in stages(folder, settings, file)[:2]:
            stage.run()
    encoder = ProcessorEncoder(Processor.from_pretrained(folder / "tokenizer"))
    files = (folder / "data" / "descriptions" / f"{part}.parquet" for part in ("train", "validation"))
    train, held_out = (TokenStore.build("molecules", read_samples(path), encoder) for path in files)
    return train, held_out


def data_of(train: Source, held_out: Source, tokens: int) -> Data:
    config = DataConfig(tokens_per_batch=tokens, max_length=256)
    evaluation = replace(config, tokens_per_batch=1024)

    def loader(seed: int) -> Loader[PackedBatch]:
        return build_loader([train], [1.0], config, seed=seed)

    base = build_loader([train], [1.0], evaluation, seed=1000)
    calibration = build_loader([train], [1.0], evaluation, seed=999)
    return Data(
        base=base,
        loader=loader,
        calibration=[next(calibration) for _ in range(4)],
        held_out=validation_batches([held_out], replace(evaluation, validation_batches=4)),
    )


def symmetric_copies(settings: ComparisonSettings, data: Data) -> dict[str, float]:
    """Copies of A without noise after as many steps, with AdamW: to be identical in every bit."""
    base = Network(settings.model, seed=0)
    silent = ExpansionConfig(strategy="A", router_noise=0.0, allow_symmetric=True)
    network, origins = expand_network(base, silent)
    train_steps(network, data.loader(0), "adamw", settings.lr, settings.steps, settings.balance)
    layers = list(copy_similarity(network, origins).values())
    return {name: max(layer[name] for layer in layers) for name in ("expert_distance", "router_distance")}


def verdicts(results: Results) -> dict[str, object]:
    """Differences over seeds with intervals; positive is as expected."""
    pairs = [*itertools.pairwise(ORDER), ("fitted", "random")]
    areas = {f"area {b} - {a}": difference(results, a, b, lambda arm: arm.area) for a, b in pairs}
    kept = {
        f"{what} fitted - {other}": mass_difference(results, other, "fitted", what)
        for other in ("A", "random")
        for what in ("kept", "overlap")
    }
    return {name: asdict(estimate) for name, estimate in {**areas, **kept}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/expansion"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--base-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=512, help="per step")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started, cpu = time.perf_counter(), time.process_time()
    demo_settings = DemoSettings(molecules=3000)
    train, held_out = prepare(args.folder, demo_settings)
    settings = ComparisonSettings(
        model=demo(1152), base_steps=args.base_steps, steps=args.steps, seeds=tuple(range(args.seeds))
    )
    data = data_of(train, held_out, args.tokens)
    results = compare(settings, data, say=lambda line: print(line, flush=True))
    report = {
        "environment": environment(),
        "arms": table(results),
        "differences": verdicts(results),
        "without noise": symmetric_copies(settings, data),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
