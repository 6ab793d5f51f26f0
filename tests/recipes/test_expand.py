"""Expansion as a recipe: what `expansion.json` says, and the comparison of strategies in small."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.checkpoint.expansion_plan import ExpansionConfig, copies_in_groups
from s1pro.checkpoint.released import load_network, save_network
from s1pro.checkpoint.routing_mass import routing_mass
from s1pro.data.batch import PackedBatch
from s1pro.data.loader import Loader
from s1pro.data.sequence import TokenSequence
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.model.config import RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.recipes.expand import REPORT_FILE, ExpandRun, expand_demo_model, run_expansion
from s1pro.recipes.expansion_comparison import (
    SCRATCH,
    Arm,
    ComparisonSettings,
    Data,
    compare,
    difference,
    mass_difference,
    paired_interval,
    table,
)
from s1pro.train.calibration import calibrate
from s1pro.train.config import DataConfig
from s1pro.train.setup import build_loader, validation_batches

TEXTS = [f"The molecule has {n} carbon atoms and {n % 7} of oxygen. " * 5 for n in range(60)]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a demo that an expansion reads: a model of 8 experts in one group, and text."""
    folder = tmp_path_factory.mktemp("demo")
    tokenizer = train_tokenizer(TEXTS, smiles=["CCO", "CCN"], vocab_size=290, science_sizes={"SMILES": 8})
    config = tiny(tokenizer.vocab_size)
    config = replace(config, text=replace(config.text, router=RouterConfig(num_experts=8, top_k=2)))
    save_network(Network(config, seed=1), folder / "pretrain" / "model")
    Processor(tokenizer).save_pretrained(folder / "pretrain" / "model")
    return folder


def write_text(path: Path, texts: Sequence[str]) -> Path:
    lines = (json.dumps({"source": "t", "prompt_group": "general", "text": text}) for text in texts)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_demo_model_becomes_32_experts_in_8_groups(demo_folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = demo_folder / "data" / "descriptions" / "validation.parquet"
    held.parent.mkdir(parents=True)
    columns = {"source": ["t"] * 60, "prompt_group": ["general"] * 60, "text": [text * 3 for text in TEXTS]}
    pq.write_table(pa.table(columns), held)
    record = expand_demo_model(demo_folder, target=tmp_path / "expanded")
    network = load_network(tmp_path / "expanded")
    router = network.config.text.router
    assert (router.num_experts, router.num_groups, router.top_k) == (32, 8, 8)
    assert np.bincount(np.array(record["origins"])[0]).tolist() == [4] * 8
    assert (tmp_path / "expanded" / REPORT_FILE).read_text().count("<svg") == 1


def test_masses_are_those_of_held_out_text(demo_folder: Path, tmp_path: Path) -> None:
    """The second half of the batches is judged, by the routing of the source."""
    source = demo_folder / "pretrain" / "model"
    run = ExpandRun(
        source=source,
        target=tmp_path / "new",
        expansion=ExpansionConfig(strategy="fitted"),
        data=write_text(tmp_path / "text.jsonl", TEXTS),
        num_batches=6,
        tokens_per_batch=300,
        max_length=100,
    )
    record = run_expansion(run)
    from s1pro.recipes.expand import _batches

    network, batches = load_network(source), _batches(run)
    assert len(batches) == 6
    judged = calibrate(network, batches[3:])
    assert record["calibration_tokens"] == sum(batch.num_real_rows for batch in batches[:3])
    for layer, found in enumerate(record["mass"]):
        copies = copies_in_groups(np.array(record["origins"][layer]), 8, 8)
        mass = routing_mass(judged.layer(layer), copies, 1)
        assert found["kept"] == pytest.approx(mass.kept_T.mean(), abs=1e-6)
    with pytest.raises(InputError, match="exists already"):
        run_expansion(run)


def test_settings_without_effect_are_errors(demo_folder: Path, tmp_path: Path) -> None:
    run = ExpandRun(source=demo_folder / "pretrain" / "model", target=tmp_path / "new")
    for changes, message in (
        ({"tokenizer": tmp_path}, "tokenizer has no effect without data"),
        ({"save_calibration": tmp_path / "c"}, "save-calibration has no effect without data"),
        ({"num_batches": 0}, "num_batches=0"),
    ):
        with pytest.raises(InputError, match=message):
            replace(run, **changes)
    data = write_text(tmp_path / "text.jsonl", TEXTS)
    with pytest.raises(InputError, match="strategy A needs none"):
        run_expansion(replace(run, data=data, save_calibration=tmp_path / "c", expansion=ExpansionConfig(strategy="A")))
    with pytest.raises(InputError, match="one half"):
        run_expansion(replace(run, data=write_text(tmp_path / "short.jsonl", TEXTS[:1])))
    with pytest.raises(InputError, match="drop-deepstack has no effect"):
        run_expansion(replace(run, drop_deepstack=True))
    assert not (tmp_path / "new").exists()


class Digits:
    """Sequences `a b a b …` of two digits: the second half of each can be known."""

    name = "digits"

    def __len__(self) -> int:
        return 500

    def num_rows(self, index: int) -> int:
        return 15

    def is_conversation(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        pair = np.random.default_rng(index).integers(1, 15, 2)
        ids = np.tile(pair, 8).astype(np.int32)
        return TokenSequence(token_ids=ids, loss_weights=np.ones(16, np.float32), prompt_group="general")


def test_comparison_of_strategies_in_small() -> None:
    config = tiny(16)
    model = replace(config, text=replace(config.text, router=RouterConfig(num_experts=8, top_k=2)))
    data = DataConfig(tokens_per_batch=96, max_length=32, lookahead=2, validation_batches=2)

    def loader(seed: int) -> Loader[PackedBatch]:
        return build_loader([Digits()], [1.0], data, seed=seed)

    settings = ComparisonSettings(
        model=model, base_steps=40, base_optimizer="adamw", steps=4, eval_every=2, seeds=(0, 1)
    )
    batches = validation_batches([Digits()], data)
    said: list[str] = []
    results = compare(
        settings, Data(base=loader(9), loader=loader, calibration=batches, held_out=batches), say=said.append
    )
    assert set(results) == {0, 1}
    assert len(said) == 1 + 2 * 5
    for arms in results.values():
        assert list(arms) == ["base", "fitted", "A", "random", "B", SCRATCH]
        assert all(list(arm.losses) == [0, 2, 4] for name, arm in arms.items() if name != "base")
        # an expanded model knows what its base knew; a new one knows nothing
        assert all(arms[name].area < arms[SCRATCH].area - 0.3 for name in ("fitted", "A", "random"))
        assert np.mean(arms["fitted"].kept) >= np.mean(arms["A"].kept)
    assert results[0]["A"].losses != results[1]["A"].losses
    estimate = difference(results, "A", SCRATCH, lambda arm: arm.area)
    assert estimate.low is not None and estimate.low < estimate.value
    assert mass_difference(results, "A", "fitted", "kept").value == pytest.approx(
        np.mean([np.mean(arms["fitted"].kept) - np.mean(arms["A"].kept) for arms in results.values()])
    )
    assert [row["arm"] for row in table(results)] == list(results[0])


def test_area_and_interval_are_their_definitions() -> None:
    assert Arm(losses={0: 4.0, 10: 2.0, 20: 2.0}).area == pytest.approx((10 * 3.0 + 10 * 2.0) / 20)
    values = [0.3, 0.1, 0.2, 0.5, 0.4]
    found = paired_interval(values)
    half = 2.776 * np.std(values, ddof=1) / 5**0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))
    assert paired_interval([1.0]).low is None


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # 97.5 % of Student's t, from a printed table
    [(1, 12.706), (10, 2.228), (11, 2.201), (12, 2.179), (15, 2.131), (20, 2.086), (30, 2.042), (40, 2.021),
     (60, 2.000), (100, 1.984)],
)  # fmt: skip
def test_intervals_use_the_quantile_of_student(freedom: int, quantile: float) -> None:
    values = list(itertools.islice(itertools.cycle([0.0, 1.0, 5.0]), freedom + 1))
    found = paired_interval(values)
    assert found.high is not None
    half = (found.high - found.value) * (freedom + 1) ** 0.5 / np.std(values, ddof=1)
    assert half == pytest.approx(quantile, abs=2e-3)
