"""One call for all inputs: files and installed collections as typed records.

| input | records |
|---|---|
| `.csv`, `.tsv` with a schema | one per row; a column of type `smiles` or `formula` brings computed columns along |
| `.smi`, `.sdf` | molecules (RDKit) |
| `.cif`, pymatgen `.json`, or a folder of them | crystals (pymatgen) |
| `.fasta`, `.fa`, `.faa`, `.fna`, `.gb`, `.gbk` | proteins and nucleic acids (Biopython) |
| `.nc` | variables along time (h5netcdf): years of dated series, windows of signals |
| `elements`, `crystals`, `co2`, `sea-temperature`, `sunspots` | what installed packages carry |
"""

from __future__ import annotations

from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.corpus.narrative import files, installed
from s1pro.corpus.narrative.sources import Loaded, SourceSettings, from_table
from s1pro.science.facts.schema import Schema


def load(source: str, schema: Schema | None = None, settings: SourceSettings | None = None) -> Loaded:
    """Records of a file, folder or named collection.

    Raises:
        InputError: nothing of that name, no or a useless schema, a wrong cell, or no records.
        MissingExtraError: a package for this kind of input is not installed.
    """
    settings = settings or SourceSettings()
    path = Path(source)
    if source in installed.NAMED:
        if schema is not None:
            raise InputError(f"{source}: this collection brings its own schema; leave --schema out")
        return installed.NAMED[source](settings)
    if not path.exists():
        raise InputError(f"{source}: no such file, and no collection; collections: {', '.join(installed.NAMED)}")
    if path.is_file() and path.stat().st_size > settings.max_bytes:
        raise InputError(f"{source}: {path.stat().st_size} bytes, more than {settings.max_bytes} (max_bytes)")
    if path.suffix.lower() in (".csv", ".tsv"):
        if schema is None:
            raise InputError(f"{source}: a table needs a schema: --schema FILE.json (see docs/narratives.md)")
        return from_table(path, schema, settings)
    if schema is not None:
        raise InputError(f"{source}: only tables take a schema; this kind of file brings its own")
    return files.read(path, settings)
