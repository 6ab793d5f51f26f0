"""Expert expansion from end to end: calibrate, expand, measure, report.

    SOURCE ──calibrate on one half of the text──> cuts of the experts ──> TARGET
                                                                          ├─ expansion.json  settings, origins, numbers
                              compare on the other half of the text ──────┴─ expansion.html  the same to read

Without text the experts are expanded all the same (B and `fitted` then need a calibration file), and the report holds
what follows from the calibration alone. With text two networks are held in memory, in the precision of the source; the
expansion itself is streamed and needs one shard.

Both files are part of the folder before it gets its name, so a folder with a name is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1pro.base.errors import InputError
from s1pro.base.stamp import stamp, write_json
from s1pro.checkpoint.calibration import Calibration, load_calibration, save_calibration
from s1pro.checkpoint.expansion import Expansion, expand_folder
from s1pro.checkpoint.expansion_plan import ExpansionConfig, copies_in_groups, expanded_router
from s1pro.checkpoint.rewrite import Storage
from s1pro.checkpoint.routing_mass import routing_mass
from s1pro.checkpoint.shards import Progress
from s1pro.checkpoint.sources import FolderWeights, network_of
from s1pro.data.batch import PackedBatch
from s1pro.model.network import Network
from s1pro.model.sizes import count_parameters
from s1pro.recipes.expand_report import write_expansion_report
from s1pro.train.calibration import calibrate
from s1pro.train.config import DataConfig, SourceConfig
from s1pro.train.copies import EXPANSION_FILE, copy_similarity
from s1pro.train.divergence import compare_networks

if TYPE_CHECKING:
    from s1pro.data.sequence import Encoder

REPORT_FILE = "expansion.html"


@dataclass(frozen=True, kw_only=True)
class ExpandRun:
    """One expansion.

    Attributes:
        source: released, own, Qwen3-MoE or Qwen3-VL-MoE folder.
        target: folder to write; must not exist.
        calibration: file of an earlier `save_calibration`; None calibrates on `data` if the strategy needs it.
        save_calibration: where to keep the calibration that was made on `data`.
        data: JSONL or Parquet, to calibrate on (first half) and to judge on (the rest, or all of it).
        tokenizer: folder of the processor for `data`; None takes the source.
        num_batches, tokens_per_batch, max_length: how much of `data` is read, and how it is packed.
        fope: turn plain rotary positions into Fourier positions with identity coefficients; changes the function.
        drop_deepstack: go without the deepstack of a Qwen3-VL-MoE source.
        resume: go on with an expansion that was killed.
    """

    source: Path
    target: Path
    expansion: ExpansionConfig = field(default_factory=ExpansionConfig)
    storage: Storage = field(default_factory=Storage)
    calibration: Path | None = None
    save_calibration: Path | None = None
    data: Path | None = None
    tokenizer: Path | None = None
    num_batches: int = 32
    tokens_per_batch: int = 2048
    max_length: int = 512
    fope: bool = False
    drop_deepstack: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("num_batches", "tokens_per_batch", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("tokenizer", "save_calibration"):
            if getattr(self, name) is not None and self.data is None:
                raise InputError(f"{name.replace('_', '-')} has no effect without data")
        if self.calibration is not None and self.save_calibration is not None:
            raise InputError("save-calibration has no effect: the calibration comes from a file")


@dataclass(frozen=True)
class _Text:
    """What is known of the source before it is expanded."""

    network: Network | None
    held_out: Sequence[PackedBatch]
    calibration: Calibration | None


def run_expansion(run: ExpandRun, *, progress: Progress | None = None) -> dict[str, Any]:
    """Expands, measures, and returns what `expansion.json` holds.

    Raises:
        InputError: sizes that do not divide, missing calibration, damaged files, or a target that exists.
    """
    if run.target.exists():
        raise InputError(f"{run.target} exists already; choose another folder")
    source = FolderWeights(run.source, drop_deepstack=run.drop_deepstack)
    expanded_router(source.config.text.router, run.expansion)  # before anything slow
    text = _prepare(run, source)
    record: dict[str, Any] = {}

    def finish(folder: Path, expansion: Expansion) -> None:
        record.update(_measured(run, text, expansion, folder))
        write_json(folder / EXPANSION_FILE, record)
        write_expansion_report(record, folder / REPORT_FILE)

    expand_folder(
        source,
        run.target,
        run.expansion,
        text.calibration,
        storage=run.storage,
        fope=run.fope,
        resume=run.resume,
        progress=progress,
        finish=finish,
    )
    return record


def expand_demo_model(folder: Path, *, target: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """The demo's pre-trained model of 8 experts becomes one of 32 in 8 groups, `folder/expanded` by default.

    Args:
        folder: of a demo whose pre-training is finished.
    """
    run = ExpandRun(
        source=folder / "pretrain" / "model",
        target=target or folder / "expanded",
        expansion=ExpansionConfig(factor=4, groups=8, strategy="fitted", seed=seed),
        data=folder / "data" / "descriptions" / "validation.parquet",
        num_batches=16,
        tokens_per_batch=1024,
        max_length=256,
    )
    return run_expansion(run)


def _prepare(run: ExpandRun, source: FolderWeights) -> _Text:
    """Reads and routes the text, if there is any."""
    given = None if run.calibration is None else load_calibration(run.calibration)
    if run.data is None:
        return _Text(None, (), given)
    batches = _batches(run)
    network = network_of(source, dtype=source.dtype).eval()
    if given is not None or not run.expansion.needs_calibration(source.config.text.router):
        if run.save_calibration is not None:
            raise InputError(f"save-calibration has no effect: strategy {run.expansion.strategy} needs none")
        return _Text(network, batches, given)
    if len(batches) < 2:
        raise InputError(
            f"{run.data}: one batch of {run.tokens_per_batch} tokens is not enough to calibrate on one half and judge "
            "on the other; give more text, or fewer tokens per batch"
        )
    half = len(batches) // 2
    made = calibrate(network, batches[:half])
    if run.save_calibration is not None:
        save_calibration(made, run.save_calibration)
    return _Text(network, batches[half:], made)


def _batches(run: ExpandRun) -> list[PackedBatch]:
    from s1pro.train.setup import sources_of_files, validation_batches

    assert run.data is not None
    config = SourceConfig(name="text", path=run.data)
    sources = sources_of_files((config,), _encoder(run.tokenizer or run.source), None)
    data = DataConfig(
        tokens_per_batch=run.tokens_per_batch,
        max_length=min(run.max_length, run.tokens_per_batch),
        validation_batches=run.num_batches,
        long_conversations="split",
    )
    batches = validation_batches(sources, data)
    if not batches:
        raise InputError(f"{run.data}: there is no text in it")
    return batches


def _encoder(folder: Path) -> Encoder:
    from s1pro.data.sequence import ProcessorEncoder
    from s1pro.inputs.processor import Processor

    return ProcessorEncoder(Processor.from_pretrained(folder))


def _measured(run: ExpandRun, text: _Text, expansion: Expansion, folder: Path) -> dict[str, Any]:
    """The whole record; what needs text is left out without it."""
    routers = (expansion.before.text.router, expansion.after.text.router)
    sizes = [count_parameters(model) for model in (expansion.before, expansion.after)]
    record: dict[str, Any] = {
        "source": str(run.source),
        "settings": {**asdict(run.expansion), "router_noise": run.expansion.noise},
        "before": {**asdict(routers[0]), "parameters": sizes[0].total, "active": sizes[0].active},
        "after": {**asdict(routers[1]), "parameters": sizes[1].total, "active": sizes[1].active},
        "notes": list(expansion.notes),
        "calibration_tokens": None if text.calibration is None else text.calibration.num_tokens,
        "stamp": stamp(),
    }
    judged = text.calibration
    if text.network is not None:
        judged = calibrate(text.network, text.held_out)
        after = network_of(FolderWeights(folder), dtype=next(text.network.parameters()).dtype).eval()
        record["held_out"] = compare_networks(text.network, after, text.held_out)
        record["copies"] = copy_similarity(after, expansion.origins)
    if judged is not None:
        record["mass_from"] = "held-out text" if text.network is not None else "calibration text"
        record["mass"] = kept_mass(judged, expansion)
    return {**record, "origins": expansion.origins.tolist()}


def kept_mass(judged: Calibration, expansion: Expansion) -> list[dict[str, float]]:
    """Per layer with experts: means of `checkpoint.routing_mass` over the tokens of `judged`."""
    before, after = expansion.before.text.router, expansion.after.text.router
    judged.check(num_experts=before.num_experts, num_layers=len(expansion.origins), top_k=before.top_k)
    layers = []
    for layer, origins_E in enumerate(expansion.origins):
        copies_GE = copies_in_groups(origins_E, after.num_groups, before.num_experts)
        mass = routing_mass(judged.layer(layer), copies_GE, after.top_k_per_group)
        means = (float(values.mean()) for values in (mass.kept_T, mass.overlap_T, mass.distinct_T))
        layers.append(dict(zip(("kept", "overlap", "distinct"), means, strict=True)))
    return layers
