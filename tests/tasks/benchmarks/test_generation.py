"""What models make up for SciReasoner: materials, RNA, proteins, molecules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.eval import runner
from s1pro.eval.cache import CompletionCache
from s1pro.tasks.benchmarks import scireasoner_generation as generation
from s1pro.tasks.benchmarks.registry import load
from s1pro.tasks.benchmarks.spec import Pair

pytest.importorskip("rdkit")


def read(kind: str, reply: str) -> tuple[object, object]:
    compat, strict = generation.PROFILES[kind]
    return compat.extract(reply, {}), strict.extract(reply, {})


@pytest.mark.parametrize(
    ("kind", "reply", "upstream", "strict"),
    [
        ("material", "<material>Na Cl <sg><sg225></material>", "Cl1Na1", "Cl1Na1 225"),
        ("material", "<material>O Fe O <sg> <sg12> and so on</material>", "Fe1O2", None),
        ("material", "<material>Na Cl <sg225></material>", None, "Cl1Na1 225"),
        ("composition_material", "<material>Na Cl <sg225></material>", "Cl1Na1", "Cl1Na1 225"),
        ("material", "<material>Na Cl \u27e8sg\u27e9 \u27e8sg225\u27e9</material>", "Cl1Na1", "Cl1Na1 225"),
        ("material", "<material>Xx Cl <sg><sg225></material>", "Cl1Xx1", None),
        ("material", "<material>Na Cl <sg><sg231></material>", "Cl1Na1", None),
        ("material", "Na Cl <sg><sg225>", None, None),
        ("material", "<think>x</think><material>a</material><material>K Br <sg><sg1></material>", None, "Br1K1 1"),
        ("RNA", "<rna>ACGT</rna>", "ACGU", "ACGU"),
        ("RNA", "ACGU ggcc</rna>", "GGCC", "ACGUGGCC"),
        ("RNA", "GGCC</rna>", "GGCC", "GGCC"),
        ("RNA", "<rna>AC GU</rna>", None, "ACGU"),
        ("RNA", "<rna>ACGN</rna>", None, None),
        ("RNA", "", None, None),
        ("protein", "<protein>MK;L XX-v</protein>", "MKL-V", None),
        ("protein", "<protein>MKL\nV</protein>", "MKLV", "MKLV"),
        ("protein", "<protein>MK</protein> or <protein>LV</protein>", "LV", "LV"),
        ("protein", "MKLV", None, None),
        ("molecule", "<SMILES> OCC </SMILES>", "OCC", "CCO"),
        ("molecule", "<SMILES>OCC</SMILES>", None, "CCO"),
        ("molecule", "OCCO", "OCCO", "OCCO"),
        ("molecule", "I cannot tell", "I cannot tell", None),
        ("molecule", "see CC(=O)OCC here", "CC(=O)OCC", None),
        ("molecule", "<SMILES> C(C </SMILES>", None, None),
    ],
)
def test_readings(kind: str, reply: str, upstream: object, strict: object) -> None:
    assert read(kind, reply) == (upstream, strict)


def pairs(predictions: Sequence[str | None]) -> list[Pair]:
    return [Pair(gold="", prediction=prediction) for prediction in predictions]


def test_strict_counts_what_is_new() -> None:
    compat, strict = generation.PROFILES["protein"]
    made = pairs(["MK", "MK", None, "LV"])
    assert compat.metric(made) == {"score": 0.75}
    assert strict.metric(made) == {"score": 0.5, "valid": 0.75}


def test_charges_of_materials() -> None:
    pytest.importorskip("smact")
    compat, strict = generation.PROFILES["material"]
    made = pairs(["Cl1Na1", "Cl1Na1", "Cl3Na1", None])
    assert compat.metric(made)["score"] == pytest.approx(50.0)
    assert strict.metric(pairs(["Cl1Na1 225", "Cl1Na1 225", "Cl3Na1 1", None]))["score"] == pytest.approx(25.0)


def test_energies_of_rna() -> None:
    folding = pytest.importorskip("RNA")
    hairpin, other = "GGGGAAAACCCC", "GGCGAAAAGCC"
    energies = [folding.fold(sequence)[1] for sequence in (hairpin, other)]
    made = pairs([hairpin, hairpin, other, None])
    assert generation.mean_energy(made)["score"] == pytest.approx((2 * energies[0] + energies[1]) / 3)
    assert generation.mean_energy_of_new(made)["score"] == pytest.approx(sum(energies) / 4)
    assert generation.free_energy("A" * (generation.LONGEST_RNA + 1)) == 0.0


class Draws:
    """Says another protein for every seed."""

    def __init__(self) -> None:
        self.seeds: list[int | None] = []

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.seeds.append(sampling.seed)
        return Completion(text=f"<protein>{'MKLV'[(sampling.seed or 0) % 4] * 3}</protein>", finish_reason="stop")

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def test_one_prompt_is_drawn_many_times(tmp_path: Path) -> None:
    tasks = load("scireasoner", tmp_path / "none", 6, subtasks=["Unconditional_Generation/protein"])
    client, cache = Draws(), CompletionCache(folder=tmp_path / "cache", model="m")
    settings = runner.EvalSettings(sampling=Sampling(temperature=1.0, seed=10))
    for folder in ("a", "b"):  # the second run finds every draw in the cache
        (result,) = runner.run(tasks, client, tmp_path / folder, settings=settings, cache=cache)
        assert sorted(map(str, client.seeds)) == [str(seed) for seed in range(10, 16)]
        assert result.metrics["compat"] == 1.0 and result.metrics["strict"] == pytest.approx(4 / 6)
    with pytest.raises(InputError, match="asks one prompt 6 times; give a temperature"):
        runner.run(tasks, client, tmp_path / "c")
    (whole,) = load("scireasoner", tmp_path / "none", subtasks=["Unconditional_Generation/molecule"])
    assert len(whole.items()) == 800
    assert asyncio.run(whole.score(whole.items()[0], "<SMILES> CCO </SMILES>")).value == 1.0


@given(st.text(alphabet=st.sampled_from("<>/ materilNCOsgrnpo12(=)\n\u27e8\u27e9AUG"), max_size=60))
def test_no_reply_breaks_a_reader(text: str) -> None:
    for compat, strict in generation.PROFILES.values():
        for profile in (compat, strict):
            assert isinstance(profile.extract(f"<material>{text}", {}), str | None)
            assert isinstance(profile.extract(text, {}), str | None)
