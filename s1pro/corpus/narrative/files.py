"""Files whose format says what they mean: molecules, crystals, sequences, NetCDF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.narrative.sources import Loaded, Row, SourceSettings, collect
from s1pro.science.facts import crystal_table
from s1pro.science.facts.molecule_table import molecule_row, molecule_schema
from s1pro.science.facts.schema import Schema
from s1pro.science.facts.sequence_table import cluster_sequences, kind_of, sequence_row, sequence_schema
from s1pro.science.facts.series_table import series_schema, signal_rows, signal_schema, year_rows
from s1pro.science.rdkit_access import UnreadableSmiles, chem

_FASTA = (".fasta", ".fa", ".faa", ".fna")
_GENBANK = (".gb", ".gbk", ".genbank")
_SECONDS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def read(path: Path, settings: SourceSettings) -> Loaded:
    """Records of a file or a folder of crystals, by its ending."""
    ending = path.suffix.lower()
    if ending in (".smi", ".smiles"):
        return collect(molecule_schema(path.stem), _smiles_rows(path), str(path), settings)
    if ending in (".sdf", ".sd"):
        return collect(molecule_schema(path.stem), _sdf_rows(path), str(path), settings)
    if path.is_dir() or ending in (".cif", ".json"):
        return collect(crystal_table.CRYSTALS, _crystal_rows(path, settings), str(path), settings)
    if ending in _FASTA + _GENBANK:
        return _sequences(path, settings)
    if ending in (".nc", ".nc4", ".h5"):
        return _netcdf(path, settings)
    known = ".csv .tsv .smi .sdf .cif .json .fasta .fa .faa .fna .gb .gbk .nc"
    raise InputError(f"{path}: no reader for this ending; known: {known}")


def _smiles_rows(path: Path) -> Iterator[Row | str]:
    """Lines of SMILES and, after white space, a name."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            smiles, _, name = line.strip().partition(" ") if " " in line.strip() else line.strip().partition("\t")
            if smiles and not smiles.startswith("#"):
                yield _molecule(smiles, name.strip(), f"{path}, line {number}")


def _sdf_rows(path: Path) -> Iterator[Row | str]:
    """Molecules of an SDF, named by their first line."""
    supplier = chem().SDMolSupplier(str(path))
    for number in range(len(supplier)):
        molecule = supplier[number]
        if molecule is None:
            yield "RDKit: not a molecule"
            continue
        name = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
        yield _molecule(chem().MolToSmiles(molecule), name, f"{path}, molecule {number + 1}")


def _molecule(smiles: str, name: str, where: str) -> Row | str:
    try:
        row, group = molecule_row(smiles, _plain(name))
    except UnreadableSmiles as error:
        return f"RDKit: {error.reason}"
    return row, where, group


def _crystal_rows(path: Path, settings: SourceSettings) -> Iterator[Row | str]:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".cif", ".json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .cif or .json files in it")
    names: set[str] = set()
    for file in files:
        if file.stat().st_size > 20 * 2**20:
            yield "file of more than 20 MiB"
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        kind = "cif" if file.suffix.lower() == ".cif" else "json"
        name = _plain(file.stem.replace("_", " ")) or f"crystal {len(names) + 1}"
        name = name if name not in names else f"{name} {len(names) + 1}"
        names.add(name)
        try:
            row, group = crystal_table.crystal_row(
                crystal_table.read_structure(text, kind),  # type: ignore[arg-type]
                name,
                settings.grouping,
            )
        except ValueError:
            yield "no crystal structure"
            continue
        row["formula"] = row["formula"] if row["formula"].replace("(", "").replace(")", "").isalnum() else None
        yield row, str(file), group


def _sequences(path: Path, settings: SourceSettings) -> Loaded:
    """Sequences of one kind: that of most of them; the others are counted."""
    try:
        from Bio import SeqIO
    except ImportError as error:
        raise MissingExtraError("biopython", "science") from error
    genbank = path.suffix.lower() in _GENBANK
    try:
        with path.open(encoding="utf-8") as file:
            entries = list(SeqIO.parse(file, "genbank" if genbank else "fasta"))
            kinds = [kind_of(str(entry.seq)) for entry in entries]
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a {'GenBank' if genbank else 'FASTA'} file ({error})") from error
    if not entries:
        raise InputError(f"{path}: no sequences in it")
    kind = max(sorted(set(kinds)), key=kinds.count)
    clusters = cluster_sequences([str(entry.seq).upper() for entry in entries], kind)
    rows: list[Row | str] = []
    for number, (entry, own) in enumerate(zip(entries, kinds, strict=True)):
        if own != kind:
            rows.append(f"{own} among {kind} sequences")
        else:
            rows.append(_sequence(entry, kind, f"{path}, sequence {number + 1}", clusters[number], settings))
    return collect(sequence_schema(kind, settings.max_sequence), rows, str(path), settings)


def _sequence(entry: Any, kind: str, where: str, group: str, settings: SourceSettings) -> Row | str:
    organism = _plain(str(entry.annotations.get("organism", "")))
    features = sum(feature.type == "CDS" for feature in entry.features) if entry.features else None
    try:
        row = sequence_row(_plain(entry.id), str(entry.seq), kind, organism, features)
    except ValueError:
        return f"letters that no {kind} has"
    if len(row["sequence"]) > settings.max_sequence:
        row["sequence"] = None
    return row, where, group


def _netcdf(path: Path, settings: SourceSettings) -> Loaded:
    """One variable with a time axis: calendar years if its times are dates, windows if they are seconds."""
    try:
        import h5netcdf
    except ImportError as error:
        raise MissingExtraError("h5netcdf", "earth") from error
    try:
        with h5netcdf.File(path, "r", decode_vlen_strings=True) as file:
            name = _variable(file, path, settings)
            variable, time = file.variables[name], file.variables["time"]
            values = _masked(variable)
            attributes = {key: str(variable.attrs.get(key, "")) for key in ("units", "long_name", "standard_name")}
            times, unit = np.asarray(time[...], np.float64), str(time.attrs.get("units", ""))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a NetCDF-4 file that can be read ({error})") from error
    words = _plain(attributes["long_name"] or attributes["standard_name"] or name).replace("_", " ").lower()
    return collect(*_series(path, words, attributes["units"], values, times, unit, settings), str(path), settings)


def _series(
    path: Path, words: str, unit: str, values: Any, times: Any, time_unit: str, settings: SourceSettings
) -> tuple[Schema, list[Row | str]]:
    columns = values.reshape(len(times), -1)
    step, _, epoch = time_unit.partition(" since ")
    found: list[Row | str] = []
    if not epoch and step in _SECONDS:
        rate = 1 / (float(np.median(np.diff(times))) * _SECONDS[step])
        for i in range(columns.shape[1]):
            label = path.stem if columns.shape[1] == 1 else f"{path.stem} {i + 1}"
            found += [(row, str(path), g) for row, g in signal_rows(label, columns[:, i], rate, window=settings.window)]
        return signal_schema(words, unit), found
    years, fractions = _years(path, times, step, epoch)
    for i in range(columns.shape[1]):
        label = path.stem if columns.shape[1] == 1 else f"{path.stem} {i + 1}"
        found += [(row, str(path), group) for row, group in year_rows(label, years, fractions, columns[:, i])]
    return series_schema(words, unit, "earth"), found


def _years(path: Path, times: Any, step: str, epoch: str) -> tuple[list[int], Any]:
    """Calendar years and years with fractions of CF times (standard calendar)."""
    lengths = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
    try:
        start = np.datetime64(epoch.strip().replace(" ", "T").removesuffix("Z"), "s")
        seconds = np.round(times * lengths[step]).astype(np.int64)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path}: time units {step!r} since {epoch!r}: expected days since 1990-01-01 ({error})"
        ) from error
    dates = start + seconds.astype("timedelta64[s]")
    years = dates.astype("datetime64[Y]")
    fractions = 1970 + years.astype(np.int64) + (dates - years) / np.timedelta64(31_556_952, "s")
    return [int(year) + 1970 for year in years.astype(np.int64)], fractions


def _variable(file: Any, path: Path, settings: SourceSettings) -> str:
    if "time" not in file.variables:
        raise InputError(f"{path}: there is no variable 'time'")
    along = [
        n for n, v in file.variables.items() if n != "time" and v.dimensions[:1] == ("time",) and v.dtype.kind in "fiu"
    ]
    if settings.variable:
        if settings.variable not in along:
            raise InputError(f"{path}: variable: no {settings.variable!r} along time; there are {', '.join(along)}")
        return settings.variable
    if len(along) != 1:
        raise InputError(f"{path}: {len(along)} variables along time ({', '.join(along)}): name one with --variable")
    return str(along[0])


def _masked(variable: Any) -> Any:
    """Float values with fill values as NaN, scale and offset applied."""
    values = np.asarray(variable[...], np.float64)
    for name in ("_FillValue", "missing_value"):
        if name in variable.attrs:
            values = np.where(values == float(np.ravel(variable.attrs[name])[0]), np.nan, values)
    scale, offset = (
        float(np.ravel(variable.attrs.get(name, default))[0])
        for name, default in (("scale_factor", 1), ("add_offset", 0))
    )
    return values * scale + offset


def _plain(text: str) -> str:
    """A name that can stand in a sentence."""
    return " ".join(text.translate({ord(c): " " for c in "<>;{}|\r\n\t"}).split())[:120]
