"""What lies in a folder of results: which kind of run it is, and its numbers. No torch, nothing is computed anew.

    config.json + metrics.jsonl      a training run: pre-training, fine-tuning, contrastive, reinforcement learning
    expansion.json                   what `s1pro expand` wrote
    settings.json + results.json     what `s1pro eval` wrote
    NAME/SETTING/run-SEEDS.json      what `s1pro claims run` wrote
    demo.json                        the demo, which is a pre-training run, an expansion, a joint run and an evaluation

Long runs are thinned while they are read: of every kind of record at most `2 * MOST_RECORDS` stay in memory, the
newest among them, and totals are added up on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from s1pro.base.errors import InputError, no_folder

Kind = Literal["train", "contrastive", "rl", "expand", "eval", "claims"]
Record = Mapping[str, Any]
DEMO_PARTS = ("pretrain", "expanded", "joint", "eval")  # in the order of the way; whatever else there is comes behind
MOST_RECORDS = 4000
MOST_BYTES = 256 * 2**20
TITLES: Mapping[str, str] = {
    "train": "training",
    "contrastive": "contrastive training",
    "rl": "reinforcement learning",
    "expand": "expansion",
    "eval": "evaluation",
    "claims": "claims of the paper",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One folder.

    Attributes:
        number: of the run on the page, which gives its curves their colour.
        config: config.json, expansion.json or settings.json.
        records: of metrics.jsonl by kind, thinned.
        seconds, source_tokens: sums over all steps.
        skipped_steps, skipped_tokens: how many steps were skipped, and the tokens of every source in them.
        model_folder: with the trained model; None if there is none.
    """

    label: str
    folder: Path
    kind: Kind
    config: Record
    number: int = 0
    stamp: Record = field(default_factory=dict)
    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    seconds: float = 0.0
    source_tokens: Mapping[str, float] = field(default_factory=dict)
    skipped_steps: int = 0
    skipped_tokens: Mapping[str, float] = field(default_factory=dict)
    results: Record = field(default_factory=dict)
    model_folder: Path | None = None

    def of(self, kind: str) -> Sequence[Record]:
        """Records of one kind, in order."""
        return self.records.get(kind, ())

    @property
    def trains(self) -> bool:
        return self.kind in ("train", "contrastive", "rl")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of all folders, in order; a demo folder gives several.

    Raises:
        InputError: a folder that is none, that holds no run, or whose files cannot be read.
    """
    found: list[Run] = []
    for folder, label in zip(folders, labels(folders), strict=True):
        if not folder.is_dir():
            raise InputError(f"{folder}: {no_folder(folder)}")
        found.extend(_parts(folder, label, several=len(folders) > 1))
    trained = [run.folder for run in found if run.trains]
    return [replace(run, number=trained.index(run.folder)) if run.trains else run for run in found]


def labels(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max((len(p) for p in parts), default=1) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{folders[0]}: the same folder is given twice")


def _parts(folder: Path, label: str, *, several: bool) -> list[Run]:
    if not (folder / "demo.json").is_file():
        return [_read(folder, label)]
    prefix = f"{label}/" if several else ""
    others = sorted(part.name for part in folder.iterdir() if part.is_dir() and part.name not in DEMO_PARTS)
    inside = [part for name in (*DEMO_PARTS, *others) if (part := folder / name).is_dir()]
    runs = [_read(part, prefix + part.name) for part in inside if _kind(part) is not None]
    if not runs:
        raise InputError(f"{folder}: the demo has not trained anything yet; run `s1pro demo` again, it goes on")
    moved = folder / "model"  # the demo moves the model of its joint run beside the stages
    return [_with_model(run, moved) if run.label == f"{prefix}joint" else run for run in runs]


def _with_model(run: Run, folder: Path) -> Run:
    return replace(run, model_folder=folder if (folder / "config.json").is_file() else run.model_folder)


def _kind(folder: Path) -> Literal["training", "expand", "eval", "claims"] | None:
    if (folder / "metrics.jsonl").is_file() and (folder / "config.json").is_file():
        return "training"
    if (folder / "expansion.json").is_file():
        return "expand"
    if (folder / "results.json").is_file() and (folder / "settings.json").is_file():
        return "eval"
    if next(folder.glob("*/*/run-*.json"), None) is not None:
        return "claims"
    return None


def _read(folder: Path, label: str) -> Run:
    kind = _kind(folder)
    if kind == "training":
        return _training(folder, label)
    if kind == "expand":
        record = read_object(folder / "expansion.json")
        stamp = record.get("stamp", {})
        return Run(label=label, folder=folder, kind="expand", config=record, stamp=stamp, model_folder=folder)
    if kind == "eval":
        results = read_object(folder / "results.json")
        settings = read_object(folder / "settings.json")
        return Run(
            label=label, folder=folder, kind="eval", config=settings, stamp=results.get("stamp", {}), results=results
        )
    if kind == "claims":
        return Run(label=label, folder=folder, kind="claims", config={}, stamp=_claims_stamp(folder))
    raise InputError(
        f"{folder}: no run in it; looked for metrics.jsonl with config.json (train, rl), expansion.json (expand), "
        "results.json with settings.json (eval), NAME/SETTING/run-*.json (claims) and demo.json"
    )


def _claims_stamp(folder: Path) -> Record:
    stamp = read_object(sorted(folder.glob("*/*/run-*.json"))[0]).get("stamp")
    return stamp if isinstance(stamp, dict) else {}


def _training(folder: Path, label: str) -> Run:
    config = read_object(folder / "config.json")
    stage = config.get("stage")
    kind: Kind = "rl" if stage == "rl" else "contrastive" if stage == "vision-contrastive" else "train"
    reader = _MetricsReader(folder / "metrics.jsonl")
    if not any(reader.records.values()):
        raise InputError(f"{reader.path}: no complete line in it yet; the run has to make a step first")
    model = folder / "model"
    stamp = folder / "stamp.json"
    return Run(
        label=label,
        folder=folder,
        kind=kind,
        config=config,
        stamp=read_object(stamp) if stamp.is_file() else {},
        records=reader.records,
        seconds=reader.seconds,
        source_tokens=reader.source_tokens,
        skipped_steps=reader.skipped_steps,
        skipped_tokens=reader.skipped_tokens,
        model_folder=model if (model / "config.json").is_file() else None,
    )


class _MetricsReader:
    """Reads metrics.jsonl once, keeping every second record whenever there are too many of a kind, and the newest.

    That a step was skipped stands in the file behind what it trained on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, list[Record]] = {}
        self.seconds = 0.0
        self.source_tokens: dict[str, float] = {}
        self.skipped_steps = 0
        self.skipped_tokens: dict[str, float] = {}
        self._newest: dict[str, Record] = {}
        self._strides: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):  # a last line without end is being written, or was cut
                    self._add(self._record(line, number))
        for kind, record in self._newest.items():  # totals so far, and the last loss, are read from it
            if self.records[kind][-1] is not record:
                self.records[kind].append(record)

    def _record(self, line: bytes, number: int) -> Record:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self.path}:{number}: not a line of JSON ({error})") from error
        if not isinstance(record, Mapping) or not {"kind", "step"} <= set(record):
            raise InputError(f"{self.path}:{number}: a record has kind and step, got {line[:60]!r}")
        return record

    def _add(self, record: Record) -> None:
        kind = str(record["kind"])
        if kind == "train":
            self.seconds += record.get("seconds") or 0.0
            _add_tokens(self.source_tokens, record)
        elif kind == "skip":
            self.skipped_steps += 1
            step = self._newest.get("train")
            if step is not None and step["step"] == record["step"]:
                _add_tokens(self.skipped_tokens, step)
        self._newest[kind] = record
        stride, seen = self._strides.get(kind, 1), self._seen.get(kind, 0)
        self._seen[kind] = seen + 1
        if seen % stride:
            return
        kept = self.records.setdefault(kind, [])
        kept.append(record)
        if len(kept) >= 2 * MOST_RECORDS:
            del kept[1::2]
            self._strides[kind] = 2 * stride


def _add_tokens(total: dict[str, float], record: Record) -> None:
    for name, weight in (record.get("source_tokens") or {}).items():
        total[name] = total.get(name, 0.0) + weight


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: too large, not JSON, or something else than an object.
    """
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes is too much for a report; limit {MOST_BYTES:,}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data
