"""`s1pro rl`: reinforcement learning on tasks whose answers can be checked.

    s1pro rl --model runs/demo/model --tasks mass_from_smiles group_in_smiles --folder runs/rl

    s1pro rl --mode ray --workers 4 --model runs/demo/model --tasks mass_from_smiles

starts at a model folder; `--recipe` takes a recipe or a config.json instead. `--set path=value` changes single settings
(`--set rollout.group_size=16 --set objective.clip=ppo`). The same command given again goes on. With `--agent` the model
may use tools, in as many turns as `agent.max_turns` allows:

    s1pro rl --model runs/demo/model --tasks convert_units --agent
    s1pro rl --model runs/demo/model --tasks mass_from_smiles --agent molecule calculator

Another engine can write the answers; it gets the weights of every round as a folder of safetensors:

    mkdir -p weights; s1pro serve runs/demo/model --control --weights-root weights
    s1pro rl --model runs/demo/model --tasks mass_from_smiles \\
        --engine s1pro --url http://127.0.0.1:8000/v1 --publish weights

LMDeploy, and any other that only reads weights when it starts, is started again by a program of the user:

    s1pro rl --model runs/demo/model --tasks mass_from_smiles --engine lmdeploy --url http://127.0.0.1:23333/v1 \\
        --restart ./restart.sh {folder}
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s1pro.base.errors import InputError
from s1pro.cli.arguments import Commands, add_command, check_model_folder, positive, print_json, read_json

if TYPE_CHECKING:
    from s1pro.rl.config import RLRun
    from s1pro.rl.system.config import EngineConfig, SystemConfig
    from s1pro.tasks.agents.settings import AgentConfig
    from s1pro.train.loop import TrainResult

ENGINES = ("s1pro", "vllm", "sglang", "lmdeploy")
OBJECTIVES = ("intern-s1-pro", "grpo", "dr-grpo", "gspo", "cispo", "rloo")


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "rl",
        run,
        summary="reinforcement learning on checkable tasks",
        description="Let a model answer, score its answers, and learn from the differences. Given again, it goes on. "
        "Exit code 1: training or the agreement of engine and trainer failed a check.",
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="model folder to start from")
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="what is learned (`s1pro eval --list-tasks`), or file.py:Class"
    )
    parser.add_argument(
        "--recipe", metavar="NAME|FILE", help="a recipe, or a config.json, instead of --model and --tasks"
    )
    parser.add_argument("--objective", choices=OBJECTIVES, help="a public method (default: the paper's)")
    parser.add_argument(
        "--agent",
        nargs="*",
        metavar="TOOL",
        help="let the model use the tools of its tasks, and these out of calculator, molecule, same_molecule, look_up, "
        "python",
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="optimizer steps")
    parser.add_argument(
        "--mode", choices=("local", "ray"), help="all in this process (default), or workers, judges and trainer on Ray"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="rollout workers on Ray")
    parser.add_argument("--engine", choices=ENGINES, help="a server that writes the answers, at --url")
    parser.add_argument("--url", metavar="URL", help="its address, like http://127.0.0.1:8000/v1")
    parser.add_argument("--served-model", metavar="NAME", help='what the server calls the model (default: "model")')
    parser.add_argument(
        "--publish", type=Path, metavar="DIR", help="where weights are published for it (default: FOLDER/published)"
    )
    parser.add_argument(
        "--restart",
        nargs="+",
        metavar="WORD",
        help="a program, with {folder} among its arguments, that starts the server again on new weights (lmdeploy)",
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the run writes")
    parser.add_argument("--validation", type=positive, default=100, metavar="N", help="held-out questions per task")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="changes", help="change a setting; repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print the complete configuration as JSON and stop")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.base.config import config_to_json, with_overrides

    stage = with_overrides(_configuration(args), args.changes)
    if args.show:
        print_json(config_to_json(stage))
        return 0
    from s1pro.base.endpoint import EndpointError
    from s1pro.recipes.reinforcement import learn, learn_on_ray
    from s1pro.rl.engines import PublicationError
    from s1pro.rl.rollout import RecordError
    from s1pro.rl.rounds import ParityError
    from s1pro.rl.system.launch import TrainerDiedError
    from s1pro.train.guards import TrainingStoppedError

    if stage.init_from is not None:
        check_model_folder(stage.init_from)
    do = learn_on_ray if stage.system.mode == "ray" else learn
    try:
        result, before = do(stage, validation_items=args.validation)
    except (TrainingStoppedError, ParityError, TrainerDiedError, PublicationError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except EndpointError as error:
        if stage.engine is None:
            raise
        raise InputError(f"engine {stage.engine.name} at {stage.engine.url}: {error}; does it run there?") from error
    _report(result, before, as_json=args.json)
    return 0


def _report(result: TrainResult[Any], before: dict[str, Any], *, as_json: bool) -> None:
    after = dict(result.validation)
    if as_json:
        folders = {
            "folder": str(result.folder),
            "model": None if result.model_folder is None else str(result.model_folder),
        }
        print_json({**folders, "steps": result.steps, "reason": result.reason, "before": before, "after": after})
        return
    for name, now in after.get("tasks", {}).items():
        print(f"{name:24} {before['tasks'][name]['value']:.3f} -> {now['value']:.3f}")
    print(f"{result.steps} steps, {result.tokens:,} tokens, {result.seconds:.0f} s")
    print(f"written to {result.folder}")


def _configuration(args: argparse.Namespace) -> RLRun:
    from s1pro.recipes.reinforcement import small_run
    from s1pro.rl.objective import preset

    if args.recipe is not None:
        given = [f"--{name}" for name in ("model", "tasks") if getattr(args, name) is not None]
        if given:
            raise InputError(f"{' and '.join(given)} have no effect with --recipe; use --set")
        stage = _from_recipe(args.recipe)
    elif args.model is None or args.tasks is None:
        raise InputError("give --model and --tasks, or --recipe")
    else:
        stage = small_run(args.model, args.tasks, agent=_agent(args))
    changes: dict[str, Any] = {"folder": args.folder, "steps": args.steps, "agent": _agent(args)}
    if (engine := _engine(args)) is not None:
        changes["engine"] = engine
    if args.mode is not None or args.workers is not None:
        changes["system"] = _system(stage.system, args.mode, args.workers)
    if args.objective is not None:
        changes["objective"] = preset(args.objective, max_length=stage.rollout.max_new_tokens)
    return dataclasses.replace(stage, **{name: value for name, value in changes.items() if value is not None})


def _system(system: SystemConfig, mode: Literal["local", "ray"] | None, workers: int | None) -> SystemConfig:
    """With as many pieces per round as there are workers, at least."""
    mode = mode or system.mode
    if mode == "local" and workers is not None:
        raise InputError(f"--workers {workers} has no effect in one process; use --mode ray")
    count = workers or system.workers
    return dataclasses.replace(system, mode=mode, workers=count, shards=max(system.shards, count))


def _engine(args: argparse.Namespace) -> EngineConfig | None:
    if args.engine is None and args.url is None:
        names = ("served_model", "publish", "restart")
        if given := next((name for name in names if getattr(args, name) is not None), None):
            raise InputError(f"--{given.replace('_', '-')} has no effect without --engine and --url")
        return None
    if args.engine is None or args.url is None:
        raise InputError("--engine and --url go together: who writes the answers, and where")
    from s1pro.rl.system.config import EngineConfig, RestartConfig

    try:
        return EngineConfig(
            name=args.engine,
            url=args.url,
            model=args.served_model or "model",
            folder=args.publish,
            restart=None if args.restart is None else RestartConfig(command=tuple(args.restart)),
        )
    except ValueError as error:
        raise InputError(f"--engine {args.engine}, --url {args.url}: {error}") from error


def _agent(args: argparse.Namespace) -> AgentConfig | None:
    if args.agent is None:
        return None
    from s1pro.tasks.agents.settings import AgentConfig

    try:
        return AgentConfig(tools=tuple(args.agent))
    except ValueError as error:
        raise InputError(f"--agent: {error}") from error


def _from_recipe(recipe: str) -> RLRun:
    from s1pro.base.config import config_from_json
    from s1pro.recipes import RECIPES
    from s1pro.rl.config import RLRun

    path = Path(recipe)
    if path.suffix != ".json":
        known = {name: make for name, make in RECIPES.items() if name.endswith("-rl")}
        if recipe not in known:
            raise InputError(f"there is no recipe {recipe!r}; choose from {', '.join(known)}, or name a config.json")
        made = known[recipe]()
        assert isinstance(made, RLRun)
        return made
    return config_from_json(RLRun, read_json(path), path=str(path))
