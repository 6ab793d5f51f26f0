"""Released folders of a network that lies on several ranks: the same bytes as from one process, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.config import VisionConfig
from s1pro.model.network import Network
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.mesh import Ranks, join
from s1pro.parallel.regions import local_part, places
from s1pro.train.loop import TrainResult
from s1pro.train.setup import prepare_network
from s1pro.train.spread import load_spread, save_spread
from s1pro.train.stage import train
from tests.parallel.ranks import run_ranks
from tests.parallel.runs import Documents, Parts, assembled, small_model, small_run

VISION = VisionConfig(depth=1, hidden_size=16, num_heads=2, intermediate_size=20, patch_size=4, out_hidden_size=32)
MODEL = replace(small_model(), vision=VISION)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "layout", [ParallelConfig(ep=2), pytest.param(ParallelConfig(dp_replicate=2, ep=4), marks=pytest.mark.slow)]
)
def test_saved_from_ranks_is_byte_for_byte_saved_from_one(tmp_path: Path, layout: ParallelConfig) -> None:
    run = small_run(tmp_path, model=MODEL, parallel=layout)
    save_network(prepare_network(Network(MODEL, seed=5), run, Ranks()), tmp_path / "one")

    def save(rank: int) -> None:
        ranks = join(run.parallel, "cpu")
        save_spread(prepare_network(Network(MODEL, seed=5), run, ranks), tmp_path / "many", ranks)

    run_ranks(save, 4)
    assert files(tmp_path / "one") == files(tmp_path / "many")


@pytest.mark.parametrize(
    ("layout", "released"), [("per_expert", True), pytest.param("fused", False, marks=pytest.mark.slow)]
)
def test_loaded_onto_ranks_without_reading_the_experts_of_others(tmp_path: Path, layout: str, released: bool) -> None:
    original = Network(MODEL, seed=5)
    save_network(original, tmp_path / "one", layout=layout)  # type: ignore[arg-type]
    run = small_run(tmp_path, model=None, init_from=tmp_path / "one", parallel=ParallelConfig(ep=2))

    def load(rank: int) -> tuple[Parts, set[str]]:
        from s1pro.checkpoint import shards

        names, read = set(), shards.StoredTensors.read

        def remember(self: shards.StoredTensors, name: str, expert: int | None = None) -> torch.Tensor:
            names.add(name)
            return read(self, name, expert)

        shards.StoredTensors.read = remember  # type: ignore[method-assign]
        ranks = join(run.parallel, "cpu")
        network = load_spread(tmp_path / "one", ranks, lambda n: prepare_network(n, run, ranks), torch.device("cpu"))
        state = {name: local_part(tensor).clone() for name, tensor in network.state_dict().items()}
        spread = places(network, ranks)
        return Parts(state, {name: spread[name].region(ranks, rank) for name in state}), names

    results = run_ranks(load, 4)
    whole, expected = assembled([parts for parts, _ in results]), load_network(tmp_path / "one").state_dict()
    assert whole.keys() == expected.keys() and all(torch.equal(whole[name], expected[name]) for name in expected)
    if released:
        read = {name for name in results[0][1] if ".experts." in name}
        assert {int(name.split(".experts.")[1].split(".")[0]) for name in read} == {0, 1}  # of 0 .. 7: a quarter


def test_weights_that_are_not_finite_are_refused_on_all_ranks(tmp_path: Path) -> None:
    run = small_run(tmp_path)

    def save(rank: int) -> str:
        ranks = join(run.parallel, "cpu")
        network = prepare_network(Network(small_model(), seed=5), run, ranks)
        if rank == 1:
            local_part(network.lm_head.weight)[0, 0] = float("nan")
        with pytest.raises(InputError) as caught:
            save_spread(network, tmp_path / "model", ranks)
        return str(caught.value)

    messages = run_ranks(save, 2)
    assert "on another rank" in messages[0] and "lm_head.weight" in messages[1]
    assert not (tmp_path / "model").exists()


def test_a_run_from_a_folder_exports_the_same_model_from_two_ranks(tmp_path: Path) -> None:
    """`train` itself: loads parts, trains, writes one folder."""
    save_network(Network(small_model(), seed=5), tmp_path / "start")
    tokenizer = SimpleNamespace(eos_token_id=0, pad_token_id=1)
    processor = SimpleNamespace(tokenizer=tokenizer, save_pretrained=lambda folder: (folder / "tokenizer").touch())

    def run_in(name: str) -> TrainResult[Network]:
        layout = ParallelConfig(ep=2) if name == "two" else ParallelConfig()
        run = small_run(tmp_path / name, model=None, init_from=tmp_path / "start", export=True, parallel=layout)
        return train(run, processor=processor, sources={"documents": Documents()})

    def on_rank(rank: int) -> tuple[float | None, int]:
        result = run_in("two")
        return result.loss, result.tokens

    one = run_in("one")
    results = run_ranks(on_rank, 2)
    assert results[0] == results[1]
    assert results[0][0] == pytest.approx(one.loss, rel=1e-5) and results[0][1] == one.tokens
    folders = [tmp_path / name / "model" for name in ("one", "two")]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] and "tokenizer" in names[0]
    weights = [load_network(folder).state_dict() for folder in folders]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=2e-5) for name in weights[0])
