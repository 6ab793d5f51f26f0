"""Real and made files of every kind become records; what is left out is counted, what is wrong is named."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.narrative.load import load
from s1pro.corpus.narrative.sources import Loaded, SourceSettings
from s1pro.science.facts.forms import FORMS, Forms
from s1pro.science.facts.grammar import Grammar, agrees, same_value
from s1pro.science.facts.lint import lint_text, lint_values
from s1pro.science.facts.schema import schema_from_json
from s1pro.science.facts.sequence_table import cluster_sequences
from tests.science.facts.alloys import ALLOYS, alloy_rows, alloy_schema

CIF = """data_NaCl
_cell_length_a 5.6402
_cell_length_b 5.6402
_cell_length_c 5.6402
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'x, y+1/2, z+1/2'
'x+1/2, y, z+1/2'
'x+1/2, y+1/2, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


def check_narratives(loaded: Loaded, *, tasks: int = 12) -> None:
    """Every text about these records comes back, without a fault."""
    grammar = Grammar(loaded.schema)
    forms = Forms(grammar)
    rng = random.Random(0)
    assert loaded.read == len(loaded.records) + sum(loaded.dropped.values())
    for record in loaded.records[:150]:
        told = grammar.describe(record, rng)
        found = grammar.parse(told.text)
        assert found is not None and agrees(found, told.shown), told.text
        assert lint_text(told.text) == [] and lint_values(found, loaded.schema) == [], told.text
        assert all(same_value(value, record.values[name]) for name, value in found.items()), told.text
    for form in FORMS:
        for task in forms.make(form, loaded.records, tasks, rng):
            assert lint_text(task.prompt.replace("_____", "Y")) == []
            assert forms.parse(form, task.column, task.prompt) == task.asked


def write_table(path: Path, count: int = 40) -> Path:
    rows = alloy_rows(count)
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_tables(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv")
    loaded = load(str(path), alloy_schema())
    assert len(loaded.records) == 40 and loaded.dropped == {}
    check_narratives(loaded)
    path.write_text(path.read_text() + path.read_text().split("\n")[1] + "\nX-99,F1,,,,300,,,\n")
    assert load(str(path), alloy_schema()).dropped == {
        "no property has a value": 1,
        "same entity and conditions as an earlier row": 1,
    }


def test_wrong_tables_are_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", 3)
    text = path.read_text()
    with pytest.raises(InputError, match="needs a schema"):
        load(str(path))
    path.write_text(text.replace("density", "thickness", 1))
    with pytest.raises(InputError, match=r"no column 'density'; the header has alloy, .*thickness"):
        load(str(path), alloy_schema())
    path.write_text(text.replace("77.35", "cold", 1))
    with pytest.raises(InputError, match=r"a\.csv, line 2, column 'temp'"):
        load(str(path), alloy_schema())
    path.write_text(text.split("\n")[0] + "\n")
    with pytest.raises(InputError, match="none of 0 rows"):
        load(str(path), alloy_schema())
    path.write_text(text)
    with pytest.raises(InputError, match="max_bytes"):
        load(str(path), alloy_schema(), SourceSettings(max_bytes=10))
    with pytest.raises(InputError, match="max_rows"):
        load(str(path), alloy_schema(), SourceSettings(max_rows=2))
    with pytest.raises(InputError, match="collections: elements"):
        load("nonsense")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(InputError, match="no reader for this ending"):
        load(str(tmp_path / "a.doc"))


def test_tables_with_molecules(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    value = {
        "name": "solubility",
        "domain": "chemistry",
        "noun": "compound",
        "columns": {
            "compound": {"role": "entity", "type": "text"},
            "smiles": {"role": "structure", "type": "smiles", "words": ["SMILES"]},
            "logs": {"type": "number", "decimals": 2, "words": ["logarithm of the solubility in mol/L"]},
        },
    }
    path = tmp_path / "s.csv"
    path.write_text("compound,smiles,logs\nethanol,OCC,1.10\nbenzene,C1=CC=CC=C1,-1.64\nbad,C1CC,0\nnone,,1\n")
    loaded = load(str(path), schema_from_json(value, "s.json"))
    assert loaded.dropped == {"RDKit: not a SMILES": 1, "no structure": 1}
    ethanol, benzene = loaded.records
    assert ethanol.values["smiles"] == "CCO" and str(ethanol.values["mass"]) == "46.1 g/mol"
    assert benzene.group == "c1ccccc1" and benzene.values["rings"] == 1
    check_narratives(loaded)


def test_compositions(tmp_path: Path) -> None:
    pytest.importorskip("pymatgen")
    value = {
        "name": "oxides",
        "domain": "materials",
        "noun": "oxide",
        "columns": {
            "formula": {"role": "structure", "type": "formula", "words": ["formula"]},
            "label": {"role": "entity", "type": "text"},
            "gap": {"unit": "eV", "digits": 3, "words": ["band gap"]},
        },
    }
    path = tmp_path / "o.csv"
    path.write_text("formula,label,gap\nTiO2,a,3.2\nTi2O4,b,3.1\nFe2O3,c,2.2\nXx9,d,1\n")
    schema = schema_from_json(value, "o.json")
    loaded = load(str(path), schema)
    assert loaded.dropped == {"no formula": 1} and [r.group for r in loaded.records] == ["TiO2", "TiO2", "Fe2O3"]
    assert str(loaded.records[0].values["molar_mass"]) == "79.87 g/mol"
    systems = load(str(path), schema, SourceSettings(grouping="prototype"))
    assert systems.records[0].group == "AB2" != systems.records[2].group


def test_molecule_files(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "m.smi").write_text("CCO ethanol\nc1ccccc1\tbenzene\nnope x\n\nCCO again\n# remark\n")
    loaded = load(str(tmp_path / "m.smi"))
    assert [r.entity for r in loaded.records] == ["ethanol", "benzene", "again"]
    assert loaded.dropped == {"RDKit: not a SMILES": 1}
    root = Path(str(importlib.util.find_spec("rdkit").origin)).parent  # type: ignore[union-attr]
    real = root / "Data" / "NCI" / "first_200.props.sdf"
    if real.exists():
        loaded = load(str(real))
        assert len(loaded.records) == 200 and len({r.group for r in loaded.records}) > 50
        check_narratives(loaded)


def test_crystals(tmp_path: Path) -> None:
    pytest.importorskip("pymatgen")
    (tmp_path / "rock_salt.cif").write_text(CIF)
    (tmp_path / "broken.cif").write_text("data_x\nnothing")
    loaded = load(str(tmp_path))
    (salt,) = loaded.records
    assert loaded.dropped == {"no crystal structure": 1} and salt.entity == "rock salt" and salt.group == "NaCl"
    assert salt.values["spacegroup"] == "Fm-3m" and salt.values["system"] == "cubic"
    assert str(salt.values["density"]) == "2.163 g/cm^3" and str(salt.values["a"]) == "5.640 Å"
    by_prototype = load(str(tmp_path / "rock_salt.cif"), settings=SourceSettings(grouping="prototype"))
    assert by_prototype.records[0].group == "AB Fm-3m"


def mutated(sequence: str, rng: random.Random, share: float) -> str:
    return "".join(rng.choice("ACDEFGHIKLMNPQRSTVWY") if rng.random() < share else c for c in sequence)


def test_sequences(tmp_path: Path) -> None:
    pytest.importorskip("Bio")
    rng = random.Random(2)
    founders = ["".join(rng.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(rng.randint(60, 500))) for _ in range(12)]
    entries = [(f"P{i}.{j}", mutated(f, rng, 0.1)) for i, f in enumerate(founders) for j in range(3)]
    text = "".join(f">{name} made up\n{sequence}\n" for name, sequence in entries) + ">d\n" + "ACGT" * 20 + "\n"
    (tmp_path / "p.fasta").write_text(text)
    loaded = load(str(tmp_path / "p.fasta"))
    assert loaded.dropped == {"dna among protein sequences": 1} and len(loaded.records) == 36
    groups = {record.entity: record.group for record in loaded.records}
    assert len(set(groups.values())) == 12 and len({groups[f"P3.{j}"] for j in range(3)}) == 1
    shown = [record.values["sequence"] is not None for record in loaded.records]
    assert any(shown) and not all(shown)  # longer ones are not shown
    check_narratives(loaded)
    (tmp_path / "empty.fa").write_text("")
    with pytest.raises(InputError, match="no sequences"):
        load(str(tmp_path / "empty.fa"))


def test_clusters_do_not_depend_on_the_order() -> None:
    rng = random.Random(5)
    founders = ["".join(rng.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(120)) for _ in range(8)]
    sequences = [mutated(f, rng, 0.12) for f in founders for _ in range(4)]
    clusters = dict(zip(sequences, cluster_sequences(sequences, "protein"), strict=True))
    rng.shuffle(sequences)
    assert dict(zip(sequences, cluster_sequences(sequences, "protein"), strict=True)) == clusters
    assert len(set(clusters.values())) == 8


def test_genbank(tmp_path: Path) -> None:
    seq_io = pytest.importorskip("Bio.SeqIO")
    from Bio.Seq import Seq
    from Bio.SeqFeature import FeatureLocation, SeqFeature
    from Bio.SeqRecord import SeqRecord

    record = SeqRecord(Seq("ATGGCC" * 20 + "TAA"), id="AB1.1", name="AB1", description="made")
    record.annotations = {"molecule_type": "DNA", "organism": "Escherichia coli K-12"}
    record.features = [SeqFeature(FeatureLocation(0, 123), type="CDS")]
    seq_io.write([record], tmp_path / "g.gb", "genbank")
    (row,) = load(str(tmp_path / "g.gb")).records
    assert row.values["organism"] == "Escherichia coli K-12" and row.values["features"] == 1
    assert str(row.values["gc"]) == "65.0 %" and row.values["length"] == 123


def test_netcdf(tmp_path: Path) -> None:
    h5netcdf = pytest.importorskip("h5netcdf")
    days = np.arange(0, 365 * 6, dtype=np.float64)
    true = 10 + 5 * np.sin(days / 58)
    with h5netcdf.File(tmp_path / "lake.nc", "w") as file:
        file.dimensions = {"time": len(days)}
        time = file.create_variable("time", ("time",), data=days)
        time.attrs["units"] = "days since 1990-01-01"
        packed = np.round((true - 10) / 0.01).astype(np.int16)
        packed[:3] = -9999
        variable = file.create_variable("t", ("time",), data=packed)
        variable.attrs.update({"units": "°C", "long_name": "Water temperature", "_FillValue": -9999})
        variable.attrs.update({"scale_factor": 0.01, "add_offset": 10.0})
    loaded = load(str(tmp_path / "lake.nc"))
    years = {record.entity: record for record in loaded.records}
    assert set(years) >= {"lake in 1990", "lake in 1995"} and years["lake in 1990"].group == "lake/1990"
    assert float(years["lake in 1990"].values["mean"].number) == pytest.approx(true[3:365].mean(), abs=0.01)
    assert years["lake in 1991"].values["range"].unit == "K" and years["lake in 1991"].values["mean"].unit == "°C"
    check_narratives(loaded)
    with pytest.raises(InputError, match="variable: no 'x'"):
        load(str(tmp_path / "lake.nc"), settings=SourceSettings(variable="x"))
    (tmp_path / "bad.nc").write_bytes(b"no netcdf")
    with pytest.raises(InputError, match="not a NetCDF"):
        load(str(tmp_path / "bad.nc"))


def test_signals(tmp_path: Path) -> None:
    h5netcdf = pytest.importorskip("h5netcdf")
    times = np.arange(4096) / 1000
    with h5netcdf.File(tmp_path / "tone.nc", "w") as file:
        file.dimensions = {"time": len(times)}
        file.create_variable("time", ("time",), data=times).attrs["units"] = "seconds"
        tone = file.create_variable("u", ("time",), data=2 * np.sin(2 * np.pi * 125 * times))
        tone.attrs.update({"units": "mV", "long_name": "voltage"})
    loaded = load(str(tmp_path / "tone.nc"))
    assert len(loaded.records) == 8 and len({record.group for record in loaded.records}) == 2
    values = loaded.records[0].values
    shown = [str(values[name]) for name in ("frequency", "rms", "rate")]
    assert shown == ["125.0 Hz", "1.414 mV", "1000 Hz"]
    check_narratives(loaded)


@pytest.mark.parametrize(
    ("name", "package", "count", "fact"),
    [
        ("elements", "pymatgen", 103, ("iron", "melting", "1810 K")),
        ("crystals", "pymatgen", 20, ("CsCl", "spacegroup", "Pm-3m")),
        ("co2", "statsmodels", 40, ("Mauna Loa in 1980", "mean", "338.6 ppm")),
        ("sea-temperature", "statsmodels", 61, ("Niño 1+2 region in 1950", "highest", None)),
        ("sunspots", "statsmodels", 14, None),
    ],
)
def test_installed_collections(name: str, package: str, count: int, fact: tuple[str, str, str | None] | None) -> None:
    pytest.importorskip(package)
    loaded = load(name)
    assert len(loaded.records) >= count
    if fact is not None and fact[2] is not None:
        record = next(r for r in loaded.records if r.entity == fact[0])
        assert str(record.values[fact[1]]) == fact[2]
    check_narratives(loaded)
    with pytest.raises(InputError, match="brings its own schema"):
        load(name, schema_from_json(ALLOYS, "a.json"))
