"""`s1pro train`: run one training stage.

`--recipe` names a recipe (a Python function that returns the complete configuration) or a config.json that an earlier
run wrote. `--set path=value` changes single settings. The same command given again goes on at the newest checkpoint.

On several devices or machines a launcher starts the command once per rank, see docs/parallel.md:

    torchrun --nproc-per-node 8 -m s1pro train --recipe … --set parallel.ep=8
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, print_json, read_json

if TYPE_CHECKING:
    from s1pro.train.config import RunConfig
    from s1pro.train.loop import TrainResult


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "train",
        run,
        summary="run one training stage",
        description="Train a model as a recipe or a saved configuration says. Given again, it goes on.",
    )
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="a recipe, or a config.json")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the run writes; the recipe's own by default")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="changes", help="change a setting; repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print the complete configuration as JSON and stop")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.config import config_to_json, with_overrides

    stage = _configuration(args.recipe)
    if args.folder is not None:
        stage = dataclasses.replace(stage, folder=args.folder)
    stage = with_overrides(stage, args.changes)
    if args.show:
        print_json(config_to_json(stage))
        return 0
    from s1pro.parallel.mesh import launched_rank, leave
    from s1pro.train.guards import TrainingStoppedError

    try:
        result = _train(stage)
    except TrainingStoppedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    leave()
    if launched_rank() != 0:
        return 0
    if args.json:
        print_json(
            {
                "folder": str(result.folder),
                "model": None if result.model_folder is None else str(result.model_folder),
                "steps": result.steps,
                "reason": result.reason,
                "loss": result.loss,
                "seconds": result.seconds,
                "tokens": result.tokens,
                "validation": dict(result.validation),
            }
        )
    else:
        print(f"{result.steps} steps, {result.tokens:,} tokens, {result.seconds:.0f} s, loss {result.loss:.4f}")
        print(f"written to {result.folder}")
    return 0


def _train(stage: RunConfig) -> TrainResult[Any]:
    from s1pro.train.config import TrainRun
    from s1pro.train.contrastive import ContrastiveRun, train_contrastive
    from s1pro.train.stage import train

    if isinstance(stage, ContrastiveRun):
        return train_contrastive(stage)
    assert isinstance(stage, TrainRun)
    return train(stage)


def _configuration(recipe: str) -> RunConfig:
    """From a file if it looks like one, else from the recipe of this name."""
    from s1pro.base.config import config_from_json
    from s1pro.train.config import TrainRun
    from s1pro.train.contrastive import STAGE, ContrastiveRun

    path = Path(recipe)
    if path.suffix != ".json":
        return _recipe(recipe)
    data = read_json(path)
    is_contrastive = isinstance(data, dict) and data.get("stage") == STAGE
    return config_from_json(ContrastiveRun if is_contrastive else TrainRun, data, path=str(path))


def _recipe(name: str) -> RunConfig:
    from s1pro.recipes import RECIPES

    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; choose from {', '.join(RECIPES)}, or name a config.json")
    return RECIPES[name]()
