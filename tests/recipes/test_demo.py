"""The demo from end to end, with a tiny model and a few steps: what it leaves behind, and that it goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from s1pro.base.config import config_from_json, config_to_json, with_overrides
from s1pro.base.errors import InputError
from s1pro.checkpoint.released import load_network
from s1pro.cli import parser
from s1pro.inputs.processor import Processor
from s1pro.model import presets
from s1pro.model.config import ModelConfig, RouterConfig
from s1pro.model.sizes import count_parameters
from s1pro.recipes import RECIPES, demo
from s1pro.recipes.demo import DemoSettings
from s1pro.recipes.demo_rl import Gain, rl_recipe
from s1pro.recipes.demo_training import LessonSettings, MediaSource, StageSettings, joint_recipe, pretrain_recipe
from s1pro.recipes.reinforcement import small_run
from s1pro.recipes.stages import StageRecord
from s1pro.report.scores import Estimate
from s1pro.rl.config import RLRun
from s1pro.tasks import registry
from s1pro.train.config import TrainRun
from s1pro.train.metrics import read_metrics

STAGES = ["data", "papers", "tokenizer", "pretrain", "expand", "joint", "eval", "rl", "report"]
SECTIONS = [
    "Scores",
    "Questions and answers",
    "Papers",
    "Training",
    "Expansion",
    "Router",
    "Reinforcement",
    "Time",
    "Environment",
    "Go on",
]


def with_media(vocab_size: int) -> ModelConfig:
    config = presets.with_media(presets.tiny(vocab_size))
    assert config.vision is not None
    return dataclasses.replace(
        config,
        text=dataclasses.replace(config.text, router=RouterConfig(num_experts=8, top_k=2)),
        vision=dataclasses.replace(config.vision, patch_size=16, depth=1, num_position_embeddings=16),
    )


def tiny(steps: int = 4) -> DemoSettings:
    training = StageSettings(steps=steps, lr=3e-3, warmup=0.1, decay=0.5, balance=0.01, eval_every=2)
    return DemoSettings(
        molecules=500,
        passes=1,
        questions=200,
        text_tokens=300,
        smiles_pieces=48,
        media={name: MediaSource(count=4) for name in ("digit_in_scan", "motion_in_video", "chirp_in_signal")},
        model=with_media(448),
        tokens_per_batch=1024,
        pretrain=training,
        joint=training,
        rl=LessonSettings(questions=40, steps=steps // 2, prompts=2, group_size=2, draws=2),
        papers=2,
        items=6,
        max_new_tokens=4,
        budgets=dict.fromkeys(STAGES, 1000.0),
    )


Said = list[tuple[str, bool]]


def run(folder: Path, settings: DemoSettings | None = None) -> Said:
    """Runs the demo; gives the stages that were over, and whether they had been before."""
    said: Said = []

    def say(name: str, record: StageRecord, skipped: bool) -> None:
        assert record.finished
        said.append((name, skipped))

    assert demo.run(folder, settings or tiny(), say=say) == folder / "report.html"
    return said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demo; not to be changed."""
    folder = tmp_path_factory.mktemp("demo") / "made"
    assert run(folder) == [(name, False) for name in STAGES]
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same under another name; its training runs stay those of `made`, because settings hold paths."""
    shutil.copytree(made, tmp_path / "copied")
    return tmp_path / "copied"


def stages_of(folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((folder / "demo.json").read_text())["stages"]


def forget(folder: Path, *names: str) -> None:
    """As if the process had been killed before these stages were over."""
    found = json.loads((folder / "demo.json").read_text())
    for name in names:
        del found["stages"][name]
    (folder / "demo.json").write_text(json.dumps(found))


def test_every_stage_is_recorded_with_its_time(made: Path) -> None:
    found = stages_of(made)
    assert list(found) == STAGES
    for record in found.values():
        assert record["finished"]
        assert record["seconds"] > 0
        assert record["budget"] == 1000.0
        assert record["note"]


def test_a_second_call_skips_everything(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: object) -> NoReturn:
        raise AssertionError("a finished stage was run")

    for name in ("_data", "_tokenizer", "_train", "_expand", "_joint", "_evaluate", "_reinforce", "write_report"):
        monkeypatch.setattr(demo, name, refuse)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    assert run(made) == [(name, True) for name in STAGES]
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before


def test_the_console_gets_one_line_per_stage(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(made, tiny())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*STAGES, "all"]
    assert all(line.endswith("(done before)") for line in lines[:-1])
    assert "of 1000 s" in lines[0]
    assert lines[-1].endswith("report.html")


def test_other_settings_need_another_folder(made: Path) -> None:
    with pytest.raises(InputError, match="made with other settings"):
        demo.run(made, dataclasses.replace(tiny(), items=7))


def test_the_model_is_the_fine_tuned_one_with_its_tokenizer(made: Path) -> None:
    network, first = load_network(made / "model"), load_network(made / "pretrain" / "model")
    assert network.config.vision == first.config.vision and network.config.time_series == first.config.time_series
    assert network.config.vision is not None and network.config.time_series is not None
    assert first.config.text.router == tiny().model.text.router
    router = network.config.text.router
    assert (router.num_experts, router.num_groups, router.top_k) == (32, 8, 8)
    assert joint_recipe(made, tiny()).straight_through
    assert network.lm_head.weight.shape == (448, 64)
    assert not torch.equal(network.lm_head.weight, first.lm_head.weight)
    processor, trained = Processor.from_pretrained(made / "model"), Processor.from_pretrained(made / "tokenizer")
    text = "The SMILES of ethanol is <SMILES>CCO</SMILES>."
    assert processor.tokenizer.encode(text) == trained.tokenizer.encode(text)
    assert processor.tokenizer.vocab_size <= network.config.text.vocab_size
    assert not (made / "joint" / "model").exists()


def test_test_molecules_are_in_no_training_text(made: Path) -> None:
    import pyarrow.parquet as parquet

    from s1pro.corpus.write import read_molecules
    from s1pro.science.split import select

    held_out = {molecule.cas for molecule in select(read_molecules(made / "data" / "molecules.parquet"), "test")}
    assert len(held_out) > 10
    clusters = {m.cluster for m in read_molecules(made / "data" / "molecules.parquet") if m.cas in held_out}
    for kind in ("descriptions", "questions"):
        rows = parquet.read_table(made / "data" / kind / "train.parquet").to_pylist()
        assert not clusters & {row["entity"] for row in rows}


def test_the_report_has_every_section(made: Path) -> None:
    page = (made / "report.html").read_text()
    assert re.findall(r"<h2[^>]*>([^<]*)<", page) == SECTIONS
    # scores, losses, router load of two stages, rewards; two questions for each of three media; papers
    drawn = 5 + 3 * 2 + 2
    assert page.count("<svg") == drawn
    assert page.count("data:image/png;base64") >= 4 and page.count("<polyline") == 2
    texts = ("tokens seen", "lower 95 % bound", "last validation loss", "load of groups", "untrained", "all stages")
    for text in (*texts, *STAGES, *tiny().tasks):
        assert text in page, text


def test_the_report_shows_the_first_questions_as_they_came(made: Path) -> None:
    page = (made / "report.html").read_text()
    shown = 0
    for name in tiny().tasks:
        for line in (made / "eval" / "answers" / f"{name}.jsonl").read_text().splitlines():
            answer = json.loads(line)
            if answer["id"].endswith(("-0000", "-0001")):
                content = answer["prompt"][-1]["content"]
                question = content if isinstance(content, str) else content[-1]["text"]
                question = question.replace("<", "&lt;").replace(">", "&gt;")
                assert question in page
                shown += 1
    assert shown == 2 * len(tiny().tasks)


@pytest.mark.parametrize(("value", "verdict"), [(0.9, "5 of 5"), (0.0, "0 of 5")])
def test_the_report_says_whether_the_baselines_are_beaten(
    copied: Path, monkeypatch: pytest.MonkeyPatch, value: float, verdict: str
) -> None:
    results = json.loads((copied / "eval" / "results.json").read_text())
    estimate = dataclasses.asdict(Estimate(value=value, low=value, high=value, num_items=6))
    nothing = dataclasses.asdict(Estimate(value=0.2, low=0.1, high=0.3, num_items=6))
    for task in results["tasks"]:
        task |= {"score": estimate, "reference": nothing, "baselines": {"constant": nothing}}
    (copied / "eval" / "results.json").write_text(json.dumps(results))
    forget(copied, "report")
    assert run(copied)[-3:] == [("eval", True), ("rl", True), ("report", False)]
    page = (copied / "report.html").read_text()
    assert f"above every baseline on {verdict} tasks (text) (asked: 4)" in page
    assert page.count(f"above every baseline on {int(value > 0.5)} of 1 task (") == 3


def test_the_commands_of_the_report_exist(made: Path) -> None:
    page = (made / "report.html").read_text()
    lines = [line for line in _text(page).splitlines() if line.strip().startswith("s1pro ")]
    assert {shlex.split(line)[1] for line in lines} == {"chat", "eval", "train", "rl"}
    for line in lines:
        args = parser().parse_args(shlex.split(line)[1:])
        given = args.model if args.command == "rl" else args.folder if args.command != "train" else None
        for path in (getattr(args, "recipe", None), given):
            assert path is None or path in RECIPES or Path(path).exists(), line
        if args.command == "rl":
            changed = with_overrides(small_run(args.model, args.tasks), args.changes)
            assert changed.reward == rl_recipe(made, tiny()).reward and changed.reward.parts
        if args.command == "train" and args.changes:
            stored = config_from_json(TrainRun, json.loads(Path(args.recipe).read_text()))
            longer = with_overrides(stored, args.changes)
            assert longer.steps > DemoSettings().joint.steps
            assert (longer.max_seconds or 0) > DemoSettings().budgets["joint"]


def _text(page: str) -> str:
    import html

    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_stages_behind_a_kill_are_made_again(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(made, folder)
    forget(folder, "eval", "report")
    (folder / "report.html").unlink()
    answers = folder / "eval" / "answers" / "count_in_smiles.jsonl"
    kept = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(kept[:2]) + kept[2][:20])  # cut in the middle of a line
    assert run(folder) == [(name, name not in ("eval", "report")) for name in STAGES]
    assert answers.read_text().splitlines(keepends=True)[:2] == kept[:2]
    assert sorted(answers.read_text().splitlines()) == sorted(line.strip() for line in kept)
    assert (folder / "report.html").exists()


def _interrupted(function: Callable[..., str]) -> Callable[..., str]:
    def wrapped(*args: Any) -> NoReturn:
        function(*args)
        raise KeyboardInterrupt

    return wrapped


def test_an_interrupt_after_every_stage_changes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage is done, but not recorded: it has to go on from its own files, and the result is the same."""
    folder = tmp_path / "stopped"
    for name in ("_data", "_tokenizer", "_train", "_evaluate", "_reinforce"):
        with monkeypatch.context() as patch:
            patch.setattr(demo, name, _interrupted(getattr(demo, name)))
            with pytest.raises(KeyboardInterrupt):
                run(folder)
    assert [name for name, record in stages_of(folder).items() if not record["finished"]] == ["rl"]
    assert run(folder)[-3:] == [("eval", True), ("rl", False), ("report", False)]
    for name in ("pretrain", "joint"):
        losses = [[r["loss"] for r in read_metrics(where / name, "train")] for where in (made, folder)]
        assert losses[0] == losses[1]
        assert len(losses[0]) == 4
    for model in ("model", "rl/model"):
        weights = [load_network(where / model).state_dict() for where in (made, folder)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_vocabulary_without_room_is_named(tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(), model=with_media(320))
    with pytest.raises(InputError, match=r"vocab_size=320 has no room for \d+ tokens"):
        demo.run(tmp_path, settings)
    assert not stages_of(tmp_path)["tokenizer"]["finished"]


def test_the_default_keeps_its_promises() -> None:
    settings = DemoSettings()
    router = settings.model.text.router
    assert count_parameters(settings.model).total <= 3_500_000
    assert (router.num_experts, router.top_k, router.num_groups) == (8, 2, 1)
    assert sum(settings.budgets.values()) <= 420
    assert settings.text_tasks == registry.names("text")
    assert settings.required == 4
    assert settings.items >= 100
    assert settings.model.text.vocab_size >= settings.text_tokens + 51 + settings.smiles_pieces


def test_reinforcement_is_measured_on_held_out_questions_before_and_after(made: Path) -> None:
    settings, run_folder = tiny(), made / "rl"
    first, last = read_metrics(run_folder, "validation")
    assert (first["step"], last["step"]) == (0, settings.rl.steps)
    for record in (first, last):
        for kind in ("drawn", "greedy"):
            assert {name: len(scores) for name, scores in record["items"][kind].items()} == {"smiles_with_group": 6}
        drawn = record["items"]["drawn"]["smiles_with_group"]
        assert record["tasks"]["smiles_with_group"]["value"] == pytest.approx(sum(drawn) / 6)
    rounds = read_metrics(run_folder, "rollout")
    assert len(rounds) == settings.rl.steps and all(record["replayed"] == 1.0 for record in rounds)
    assert all(record["mismatch"]["k3"] < 1e-6 for record in rounds)
    assert load_network(run_folder / "model").config == load_network(made / "model").config


def _validation(values: list[float], greedy: list[float]) -> dict[str, Any]:
    return {"items": {"drawn": {"a": values[:2], "b": values[2:]}, "greedy": {"a": greedy[:2], "b": greedy[2:]}}}


def test_the_gain_is_paired_by_question() -> None:
    found = Gain([_validation([0.0, 0.5, 0.5, 1.0], [0, 1, 0, 1]), _validation([0.5, 1.0, 1.0, 1.0], [1, 1, 0, 1])])
    assert found.before == {"drawn": 0.5, "greedy": 0.5} and found.after == {"drawn": 0.875, "greedy": 0.75}
    assert found.drawn.mean.value == pytest.approx(0.375) and found.drawn.significant
    assert (found.drawn.wins, found.drawn.losses, found.drawn.ties) == (3, 0, 1)
    assert found.greedy.mean.value == pytest.approx(0.25) and not found.greedy.significant


@pytest.mark.parametrize("better", [True, False])
def test_the_report_says_whether_reinforcement_helped(copied: Path, better: bool) -> None:
    path = copied / "rl" / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    last = [record for record in records if record["kind"] == "validation"][-1]
    last["items"]["drawn"] = {"smiles_with_group": [float(better)] * 6}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    forget(copied, "report")
    run(copied)
    section = _text((copied / "report.html").read_text().split("Reinforcement</h2>")[1].split("<h2")[0])
    said = "Passed. Reinforcement learning on" if better else "Not passed. Reinforcement learning on"
    assert said in section and f"{float(better):.3f} after" in section and "Answers and their rewards" in section


@pytest.mark.parametrize("make", [pretrain_recipe, joint_recipe])
def test_recipes_are_complete_configurations(make: Callable[..., TrainRun]) -> None:
    stage = make(Path("somewhere"), tiny())
    assert config_from_json(TrainRun, config_to_json(stage)) == stage
    assert stage.folder.parent == Path("somewhere")
    assert stage.max_seconds is not None and stage.max_seconds < tiny().budgets[stage.folder.name]
    assert stage.schedule.follow_time


def test_the_recipe_of_reinforcement_is_complete() -> None:
    stage = rl_recipe(Path("somewhere"), tiny())
    assert config_from_json(RLRun, config_to_json(stage)) == stage
    assert stage.init_from == Path("somewhere/model") and stage.schedule.follow_time and stage.rollout.replay
    assert stage.max_seconds is not None and stage.max_seconds < tiny().budgets["rl"]


def test_recipes_have_names() -> None:
    assert {name: make().folder for name, make in RECIPES.items() if name.startswith("demo")} == {
        "demo-pretrain": Path("runs/demo/pretrain"),
        "demo-joint": Path("runs/demo/joint"),
        "demo-rl": Path("runs/demo/rl"),
    }


@pytest.mark.slow
def test_a_killed_demo_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle of pre-training: the next call resumes at the checkpoint and finishes."""
    settings = tiny(steps=40)
    code = (
        "import json, os, signal, sys\nfrom pathlib import Path\n"
        "from s1pro.base.config import config_from_json\n"
        "from s1pro.recipes import demo\n"
        "from s1pro.train.loop import Trainer\n"
        "save = Trainer.save\n"
        "def save_and_die(trainer):\n"
        "    save(trainer)\n"
        "    if list(trainer.run.folder.glob('checkpoints/step-*')): os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer.save = save_and_die\n"
        "demo.run(Path(sys.argv[1]), config_from_json(demo.DemoSettings, json.loads(sys.argv[2])))\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "run"), json.dumps(config_to_json(settings))]
    killed = subprocess.run(arguments, stdout=subprocess.DEVNULL, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert 1 <= len(read_metrics(tmp_path / "run" / "pretrain", "train")) < 40
    before = STAGES[: STAGES.index("pretrain")]
    assert list(stages_of(tmp_path / "run")) == before
    said = run(tmp_path / "run", settings)
    assert said == [(name, name in before) for name in STAGES]
    for name in ("pretrain", "joint"):
        assert [record["step"] for record in read_metrics(tmp_path / "run" / name, "train")] == list(range(1, 41))
