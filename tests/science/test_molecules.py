from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.science.compounds import FILES, Compound, read_compounds
from s1pro.science.formula import element_accuracy, hill, parse_formula
from s1pro.science.molecules import EVERYTHING, SMALL_MOLECULES, Loaded, Molecule, Selection, load_molecules
from s1pro.science.rdkit_access import UnreadableSmiles, canonical_smiles, read_smiles
from s1pro.science.split import SPLITS, select, split_of


def compound(smiles: str, formula: str, name: str = "some name", cas: str = "50-00-0", common: str = "") -> Compound:
    return Compound(cas=cas, formula=formula, mass=1.0, smiles=smiles, iupac_name=name, common_name=common)


def one(smiles: str, formula: str, **changes: object) -> Molecule:
    return load_molecules(EVERYTHING, compounds=[compound(smiles, formula, **changes)]).molecules[0]  # type: ignore[arg-type]


def test_labels_of_known_molecules() -> None:
    aspirin = one("CC(=O)OC1=CC=CC=C1C(=O)O", "C9H8O4", name="2-acetyloxybenzoic acid", common="Aspirin")
    assert aspirin.smiles == "CC(=O)Oc1ccccc1C(=O)O" and aspirin.synonym == "aspirin"
    assert aspirin.formula == "C9H8O4" and aspirin.atoms == {"C": 9, "H": 8, "O": 4}
    assert (aspirin.heavy_atoms, aspirin.rings, aspirin.aromatic_rings) == (13, 1, 1)
    assert aspirin.mass == pytest.approx(180.159, abs=0.01)
    assert set(aspirin.groups) == {"carboxylic acid", "ester", "benzene ring"}
    assert aspirin.cluster == "c1ccccc1"


@pytest.mark.parametrize(
    ("smiles", "groups"),
    [
        ("CCO", {"alcohol"}),
        ("Oc1ccccc1", {"phenol", "benzene ring"}),
        ("CC(=O)O", {"carboxylic acid"}),
        ("COC=O", {"ester"}),
        ("CC(=O)OC(C)=O", set()),
        ("CC(N)=O", {"amide"}),
        ("CC(C)=O", {"ketone"}),
        ("CC=O", {"aldehyde"}),
        ("CCN(C)C", {"amine"}),
        ("CC#N", {"nitrile"}),
        ("C[N+](=O)[O-]", {"nitro group"}),
        ("CCl", {"halide"}),
        ("COC", {"ether"}),
        ("c1ccoc1", set()),
        ("CS", {"thiol"}),
        ("CSC", {"sulfide"}),
        ("C=C", {"alkene"}),
        ("C#C", {"alkyne"}),
        ("NC(N)=O", set()),
    ],
)
def test_functional_groups(smiles: str, groups: set[str]) -> None:
    assert set(one(smiles, "C").groups) == groups


def test_every_record_is_accounted_for(loaded: Loaded) -> None:
    assert loaded.read > 76_000
    assert loaded.read == len(loaded.molecules) + sum(loaded.dropped.values())
    assert len(loaded.molecules) >= 1190
    assert len({m.smiles for m in loaded.molecules}) == len({m.name for m in loaded.molecules}) == len(loaded.molecules)


def test_the_selection_holds(loaded: Loaded) -> None:
    for molecule in loaded.molecules:
        assert molecule.heavy_atoms <= SMALL_MOLECULES.max_heavy_atoms
        assert len(molecule.name) <= SMALL_MOLECULES.max_name_length
        assert not set(molecule.smiles) & set("@/\\.")
        assert hill(molecule.atoms) == molecule.formula
        assert parse_formula(molecule.formula) == dict(molecule.atoms)
        assert canonical_smiles(molecule.smiles) == molecule.smiles
        assert re.search("[a-z]{3}", molecule.name)


def test_samples_are_stable_under_order() -> None:
    records = [c for i, c in enumerate(read_compounds()) if i % 40 == 0]
    shuffled = random.Random(0).sample(records, len(records))
    few, more = load_molecules(limit=50, compounds=records), load_molecules(limit=120, compounds=shuffled)
    assert load_molecules(limit=120, compounds=records).molecules == more.molecules
    assert {m.smiles for m in few.molecules} <= {m.smiles for m in more.molecules}
    assert load_molecules(limit=50, seed=1, compounds=records).molecules != few.molecules


def test_what_is_left_out_has_a_reason() -> None:
    records = [
        compound("CCO", "C2H6O", "ethanol", "64-17-5"),
        compound("OCC", "C2H6O", "ethyl alcohol", "64-17-6"),
        compound("CC(", "C2H6O", "broken", "10-00-1"),
        compound("C" * 500, "C500H1002", "long", "10-00-2"),
        compound("C(C)(C)(C)(C)C", "C6H14", "five bonds", "10-00-3"),
        compound("CCN", "C2H6O", "wrong formula", "10-00-4"),
        compound("CCS", "C2H6S", "76-12-3", "10-00-5"),
        compound("CCCl", "C2H5Cl", "ethanol", "10-00-6"),
    ]
    loaded = load_molecules(EVERYTHING, compounds=records)
    assert [m.name for m in loaded.molecules] == ["wrong formula", "ethanol"]
    # the record with the smallest number among those of one name is kept
    assert loaded.molecules[1].cas == "10-00-6"
    assert loaded.dropped == {
        "RDKit: SMILES too long": 1,
        "RDKit: impossible valence or aromaticity": 1,
        "RDKit: not a SMILES": 1,
        "no readable name": 1,
        "same SMILES as another record": 1,
        "same name as another record": 1,
    }
    strict = load_molecules(Selection(), compounds=records)
    assert strict.dropped["formula of the record disagrees with its SMILES"] == 1
    with pytest.raises(InputError, match="none of 1 compounds"):
        load_molecules(compounds=records[2:3])


def test_synonyms_that_belong_to_two_molecules_are_taken_away() -> None:
    records = [
        compound("CCO", "C2H6O", "ethanol", "64-17-5", common="spirit"),
        compound("CO", "CH4O", "methanol", "67-56-1", common="spirit"),
        compound("CCC", "C3H8", "propane", "74-98-6", common="ethanol"),
        compound("CC", "C2H6", "ethane", "74-84-0", common="dimethyl"),
    ]
    synonyms = {m.name: m.synonym for m in load_molecules(EVERYTHING, compounds=records).molecules}
    assert synonyms == {"ethanol": None, "methanol": None, "propane": None, "ethane": "dimethyl"}


def test_records_survive_the_dictionary(loaded: Loaded) -> None:
    for molecule in loaded.molecules[:50]:
        assert Molecule.from_dict(molecule.as_dict()) == molecule


@pytest.mark.parametrize(
    "smiles", ["", "C C", "CC(", "C1CC", "é", "C" * 401, "*" * 300, "[Xx]", "C(C)(C)(C)(C)C", "c1cccc1C"]
)
def test_unreadable_smiles_are_refused_quickly(smiles: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreadableSmiles):
        read_smiles(smiles)
    assert capfd.readouterr() == ("", "")


def test_a_changed_collection_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keeps its records elsewhere"):
        list(read_compounds(tmp_path))
    (tmp_path / FILES[0]).write_text("1\t50-00-0\tCH2O\n")
    with pytest.raises(InputError, match=r"line 1: expected at least 8 columns, got 3"):
        list(read_compounds(tmp_path))
    (tmp_path / FILES[0]).write_text("1\t50-00-0\tCH2O\tx\tC=O\ta\tb\tmethanal\n")
    with pytest.raises(InputError, match="mass 'x' is not a number"):
        list(read_compounds(tmp_path))


def test_splits_depend_on_the_cluster_alone(loaded: Loaded) -> None:
    parts = {split: select(loaded.molecules, split) for split in SPLITS}
    assert sum(map(len, parts.values())) == len(loaded.molecules)
    clusters = {split: {m.cluster for m in part} for split, part in parts.items()}
    assert not clusters["train"] & clusters["test"] and not clusters["train"] & clusters["validation"]
    assert split_of("c1ccccc1") == "train"
    # frozen: these decide what old models have seen
    known = {"c1ccncc1": "train", "C1CC1": "test", "acyclic:CCCCCCC": "train", "acyclic:CCCCCCCC": "test"}
    assert {cluster: split_of(cluster) for cluster in known} == known


def test_stereoisomers_and_homologues_share_a_cluster() -> None:
    def cluster(smiles: str) -> str:
        return one(smiles, "C").cluster

    assert cluster("C/C=C/CO") == cluster("C/C=C\\CO") == cluster("CCCCN") == "acyclic:CCCCC"
    assert cluster("CC1CCCCC1") == cluster("OC1CCCCC1Cl") == "C1CCCCC1"


def test_formulas() -> None:
    assert hill({"O": 1, "H": 6, "C": 2}) == "C2H6O" and hill({"O": 1, "H": 2}) == "H2O"
    assert parse_formula("C2H6O") == {"C": 2, "H": 6, "O": 1}
    assert parse_formula("CH3CH3") == {"C": 2, "H": 6}
    assert [parse_formula(text) for text in ("", "c2", "C0", "C2H6O-", "C" * 61, "2C")] == [None] * 6
    assert element_accuracy({"C": 2, "H": 5}, {"C": 2, "H": 6, "O": 1}) == pytest.approx(1 / 3)


def test_missing_rdkit_is_named(monkeypatch: pytest.MonkeyPatch, loaded: Loaded) -> None:
    import sys

    from s1pro.base.errors import MissingExtraError
    from s1pro.science import rdkit_access

    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingExtraError, match=r"s1pro\[science\]"):
        rdkit_access.chem.__wrapped__()
    assert replace(loaded.molecules[0], cas="1") != loaded.molecules[0]
