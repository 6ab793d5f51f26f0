"""The demo: from installed data to a small model that answers questions about molecules, pictures, videos and signals
that it never saw.

    data        compounds -> labelled molecules -> descriptions and questions; pictures, videos, signals   (corpus)
    papers      PDFs of known content -> figures -> captions                                               (corpus)
    tokenizer   texts and SMILES -> a tokenizer of the released structure                                  (inputs)
    pretrain    descriptions -> a mixture of experts                                                       (train)
    expand      8 experts -> 32 in 8 groups, of which each token uses one per group                        (checkpoint)
    joint       questions about molecules, pictures, videos and signals -> model/                          (train)
    eval        model/ and an untrained twin answer held-out questions                                     (serve, eval)
    rl          the model answers, is scored, and learns from it -> rl/model                               (rl, tasks)
    report      everything above -> report.html                                                            (report)

Every stage has a budget in seconds and leaves its real time in `demo.json`. The same command given again skips what is
finished and goes on with the rest; a training stage goes on at its newest checkpoint, the evaluation at the first
question without an answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Sample, Sampling
from s1pro.recipes.demo_report import write_report
from s1pro.recipes.demo_training import DemoSettings, joint_recipe, pretrain_recipe
from s1pro.recipes.stages import Say, Stage, StageFile, StageRecord, run_stages
from s1pro.train.config import TrainRun

__all__ = ["DemoSettings", "run", "stages"]

# Documents that the tokenizer is trained on; more of them change it little.
_TOKENIZER_SAMPLES = 4000
# The same for conversations with media, which have to be read for what is said about them.
_TOKENIZER_MEDIA_SAMPLES = 150
# Questions that are answered at once.
_CONCURRENCY = 64


def run(folder: Path, settings: DemoSettings | None = None, *, say: Say | None = None) -> Path:
    """Makes the demo, or what is missing of it, and returns the path of the report.

    Args:
        say: called after every stage; None prints a line.

    Raises:
        InputError: the folder holds a demo with other settings.
        MissingExtraError: RDKit, `chemicals` or matplotlib is not installed.
        KeyboardInterrupt: after Ctrl-C; the stage is saved as far as it was.
    """
    settings = settings or DemoSettings()
    file = StageFile(folder / "demo.json", config_to_json(settings))
    report = folder / "report.html"
    printer = _Printer(settings)
    with _threads(settings.threads):
        run_stages(stages(folder, settings, file), file, say or printer.stage)
    if say is None:
        printer.end(report)
    return report


def stages(folder: Path, settings: DemoSettings, file: StageFile) -> list[Stage]:
    """The stages in their order. Another part of the project joins by another entry here."""
    work: dict[str, Callable[[], str]] = {
        "data": lambda: _data(folder, settings),
        "papers": lambda: _papers(folder, settings),
        "tokenizer": lambda: _tokenizer(folder, settings),
        "pretrain": lambda: _train(pretrain_recipe(folder, settings)),
        "expand": lambda: _expand(folder, settings),
        "joint": lambda: _joint(folder, settings),
        "eval": lambda: _evaluate(folder, settings),
        "rl": lambda: _reinforce(folder, settings),
        "report": lambda: write_report(folder, settings, file),
    }
    return [Stage(name=name, budget=settings.budgets[name], run=function) for name, function in work.items()]


def _data(folder: Path, settings: DemoSettings) -> str:
    from s1pro.corpus.build import ChemistryCorpus, build_chemistry
    from s1pro.corpus.multimodal import MultimodalCorpus, build_multimodal
    from s1pro.corpus.write import read_molecules

    corpus = ChemistryCorpus(
        limit=settings.molecules,
        seed=settings.seed,
        passes=settings.passes,
        questions=settings.questions,
        shares=settings.shares,
        general_documents=0,
    )
    report = build_chemistry(folder / "data", corpus)
    media = MultimodalCorpus(
        counts={family: source.count for family, source in settings.media.items()},
        seed=settings.seed,
        media=settings.sizes,
    )
    molecules = read_molecules(folder / "data" / "molecules.parquet")
    shown = build_multimodal(folder / "media", media, molecules) if media.counts else None
    parts = report.split.molecules
    pictures = 0 if shown is None else sum(written.samples for written in shown.files.values())
    return (
        f"{parts['train']:,} molecules to learn from, {parts['test']:,} held out; "
        f"{pictures:,} questions about pictures, videos and signals"
    )


def _papers(folder: Path, settings: DemoSettings) -> str:
    from s1pro.recipes.demo_papers import build_papers

    if not settings.papers:
        return "none"
    return build_papers(folder / "papers", settings.papers, seed=settings.seed)


def _tokenizer(folder: Path, settings: DemoSettings) -> str:
    from s1pro.corpus.write import read_molecules
    from s1pro.inputs.processor import Processor
    from s1pro.inputs.tokenizer_training import train_tokenizer
    from s1pro.science.split import select

    molecules = select(read_molecules(folder / "data" / "molecules.parquet"), "train")
    tokenizer = train_tokenizer(
        _texts(folder, settings),
        smiles=[molecule.smiles for molecule in molecules],
        vocab_size=settings.text_tokens,
        science_sizes={"SMILES": settings.smiles_pieces},
    )
    space = settings.model.text.vocab_size
    if tokenizer.vocab_size > space:
        raise InputError(
            f"settings.model.text.vocab_size={space} has no room for {tokenizer.vocab_size} tokens; "
            f"make it larger, or text_tokens={settings.text_tokens} smaller"
        )
    Processor(tokenizer, preparation=settings.preparation()).save_pretrained(folder / "tokenizer")
    return f"{tokenizer.vocab_size:,} tokens"


def _texts(folder: Path, settings: DemoSettings) -> Iterator[str]:
    """Documents, and conversations as the model will read them."""
    from itertools import islice

    from s1pro.data.samples import read_samples
    from s1pro.inputs.expansion import written

    preparation = settings.preparation()
    kinds = [folder / "data" / kind for kind in ("descriptions", "questions")]
    papers = [folder / "papers" / "samples"] if settings.papers else []
    for kind in (*kinds, *(folder / "media" / family for family in settings.media), *papers):
        samples: Iterator[Sample] = iter(read_samples(kind / "train.parquet"))
        for sample in islice(samples, _TOKENIZER_SAMPLES if kind in kinds else _TOKENIZER_MEDIA_SAMPLES):
            yield sample.text if sample.text is not None else written(sample.messages or (), preparation)


def _train(stage: TrainRun) -> str:
    from s1pro.train.stage import train

    result = train(stage)
    loss = "" if result.loss is None else f", loss {result.loss:.3f}"
    speed = result.tokens / max(result.seconds, 1e-9)
    return f"{result.steps:,} of {stage.steps:,} steps, {result.tokens:,} tokens at {speed:,.0f}/s{loss}"


def _expand(folder: Path, settings: DemoSettings) -> str:
    from s1pro.recipes.expand import expand_demo_model

    shutil.rmtree(folder / "expanded", ignore_errors=True)
    record = expand_demo_model(folder, seed=settings.seed)
    held_out, after = record["held_out"], record["after"]
    return (
        f"{record['before']['num_experts']} experts to {after['num_experts']} in {after['num_groups']} groups; "
        f"held-out loss {held_out['loss_before']:.3f} before, {held_out['loss_after']:.3f} after"
    )


def _joint(folder: Path, settings: DemoSettings) -> str:
    stage = joint_recipe(folder, settings)
    note = _train(stage)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (stage.folder / "model").rename(folder / "model")
    return note


def _evaluate(folder: Path, settings: DemoSettings) -> str:
    from s1pro.checkpoint.config_file import read_config
    from s1pro.corpus.write import read_molecules
    from s1pro.eval import runner
    from s1pro.eval.progress import ProgressBar
    from s1pro.inputs.processor import Processor
    from s1pro.model.network import Network
    from s1pro.serve.client import LocalClient
    from s1pro.tasks import registry

    molecules = read_molecules(folder / "data" / "molecules.parquet")
    tasks = [
        registry.get(
            name, molecules=molecules, num_items=settings.items, folder=folder / "eval" / "media", media=settings.sizes
        )
        for name in settings.tasks
    ]
    processor = Processor.from_pretrained(folder / "model")
    untrained = Network(read_config(folder / "model"), seed=settings.seed + 1).eval()
    engine: dict[str, Any] = {"record_routing": False, "max_batch": _CONCURRENCY}
    with ProgressBar() as progress:
        results = runner.run(
            tasks,
            LocalClient.from_folder(folder / "model", **engine),
            folder / "eval",
            settings=runner.EvalSettings(
                model="demo", reference="untrained", sampling=Sampling(max_new_tokens=settings.max_new_tokens)
            ),
            concurrency=_CONCURRENCY,
            reference=LocalClient.from_network(untrained, processor, **engine),
            progress=progress,
        )
    won = sum(result.task_score().beats_baselines for result in results)
    return f"above every baseline on {won} of {len(results)} tasks"


def _reinforce(folder: Path, settings: DemoSettings) -> str:
    from s1pro.recipes.demo_rl import reinforce

    return reinforce(folder, settings)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many torch threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Printer:
    """One line per stage on the console."""

    def __init__(self, settings: DemoSettings) -> None:
        from rich.console import Console

        self.console = Console(highlight=False)
        self.settings = settings
        self.seconds = 0.0

    def stage(self, name: str, record: StageRecord, skipped: bool) -> None:
        self.seconds += record.seconds
        colour = "red" if record.seconds > record.budget else "green"
        time = f"[{colour}]{record.seconds:6.1f} s[/] of {record.budget:3.0f} s"
        self.console.print(f"{name:10} {time}  {record.note}{' (done before)' if skipped else ''}", soft_wrap=True)

    def end(self, report: Path) -> None:
        budget = sum(self.settings.budgets.values())
        self.console.print(f"{'all':10} {self.seconds:6.1f} s of {budget:3.0f} s  {report}", soft_wrap=True)
