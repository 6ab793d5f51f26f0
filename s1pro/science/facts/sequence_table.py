"""Proteins and nucleic acids as records, by Biopython's ProtParam; grouped by likeness.

Clusters are greedy and depend on nothing but the set of sequences: longest first (then by letters), a sequence joins
the first founder that has at least `threshold` of its k-mers, else it founds a cluster itself. That is how CD-HIT and
MMseqs2 proceed, without their alignment; k-mers have 3 residues or 8 nucleotides. With 0.3, proteins of about 70 %
identity and more are joined; remote relatives are not found.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.science.facts.schema import Column, Schema

KMER = {"protein": 3, "dna": 8, "rna": 8}
THRESHOLD = 0.3
_LENGTH = {"protein": "residue", "dna": "nucleotide", "rna": "nucleotide"}
_CANONICAL = "ACDEFGHIKLMNPQRSTVWY"

_PROTEIN = (
    Column(name="length", type="count", noun="residue"),
    Column(name="weight", unit="kDa", digits=4, words=("molecular weight", "molecular mass"), also=("Da",)),
    Column(name="pi", decimals=2, words=("isoelectric point", "calculated isoelectric point")),
    Column(name="gravy", decimals=3, words=("GRAVY score", "mean hydropathy after Kyte and Doolittle")),
    Column(name="aromaticity", unit="%", decimals=1, words=("share of aromatic residues", "aromaticity")),
    Column(name="commonest", type="category", words=("most frequent residue",)),
)
_NUCLEIC = (
    Column(name="length", type="count", noun="nucleotide"),
    Column(name="gc", unit="%", decimals=1, words=("GC content", "share of G and C")),
    Column(name="commonest", type="category", words=("most frequent base",)),
    Column(name="features", type="count", noun="annotated coding sequence"),
)


def sequence_schema(kind: str, max_shown: int) -> Schema:
    """Columns for `protein`, `dna` or `rna`; sequences longer than `max_shown` letters are not shown."""
    columns = (
        Column(name="name", type="text", role="entity"),
        Column(name="sequence", type=kind, role="structure", words=("sequence",)),  # type: ignore[arg-type]
        Column(name="organism", type="category", words=("organism", "source organism")),
        *(_PROTEIN if kind == "protein" else _NUCLEIC),
    )
    noun = {"protein": "protein", "dna": "DNA sequence", "rna": "RNA sequence"}[kind]
    return Schema(name=f"{kind} sequences", domain="life", noun=noun, columns=columns, description=f"up to {max_shown}")


def kind_of(sequence: str) -> str:
    """`dna` or `rna` for letters of nucleic acids only, else `protein`."""
    letters = set(sequence.upper())
    if letters <= set("ACGTN"):
        return "dna"
    return "rna" if letters <= set("ACGUN") else "protein"


def sequence_row(
    name: str, sequence: str, kind: str, organism: str = "", features: int | None = None
) -> dict[str, Any]:
    """The row of one sequence.

    Raises:
        ValueError: letters that are none of the kind.
    """
    sequence = sequence.upper().rstrip("*")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if kind == "protein" else "ACGTUN"
    odd = sorted(set(sequence) - set(letters))
    if odd or not sequence:
        raise ValueError(f"not a {kind} sequence: {''.join(odd)[:10]!r}")
    row: dict[str, Any] = {"name": name, "organism": organism or None, "length": len(sequence), "sequence": sequence}
    counts = Counter(sequence)
    row["commonest"] = min(counts, key=lambda letter: (-counts[letter], letter))
    if kind != "protein":
        known = sum(counts[letter] for letter in "ACGTU")
        row["gc"] = 100 * (counts["G"] + counts["C"]) / known if known else None
        return {**row, "features": features}
    return {**row, **_protein_values(sequence)}


def _protein_values(sequence: str) -> Mapping[str, Any]:
    """What ProtParam computes; nothing for sequences with unknown residues."""
    if not re.fullmatch(f"[{_CANONICAL}]+", sequence):
        return {}
    try:
        from Bio.SeqUtils.ProtParam import ProteinAnalysis
    except ImportError as error:
        raise MissingExtraError("biopython", "science") from error
    analysis = ProteinAnalysis(sequence)
    return {
        "weight": analysis.molecular_weight() / 1000,
        "pi": analysis.isoelectric_point(),
        "gravy": analysis.gravy(),
        "aromaticity": 100 * analysis.aromaticity(),
    }


def cluster_sequences(sequences: Sequence[str], kind: str, threshold: float = THRESHOLD) -> list[str]:
    """For every sequence the name of its cluster; see the module docstring."""
    k = KMER[kind]
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), sequences[i]))
    founders: list[int] = []
    having: dict[str, list[int]] = defaultdict(list)  # k-mer -> founders with it
    cluster = [""] * len(sequences)
    for i in order:
        kmers = _kmers(sequences[i], k)
        shared: Counter[int] = Counter()
        for kmer in kmers:
            shared.update(having.get(kmer, ()))
        best = [founder for founder, count in shared.items() if count >= threshold * len(kmers)]
        if best:
            cluster[i] = cluster[founders[min(best)]]
            continue
        for kmer in kmers:
            having[kmer].append(len(founders))
        founders.append(i)
        cluster[i] = f"{kind}:{_digest(sequences[i])}"
    return cluster


def _kmers(sequence: str, k: int) -> set[str]:
    return {sequence[i : i + k] for i in range(len(sequence) - k + 1)} or {sequence}


def _digest(sequence: str) -> str:
    import hashlib

    return hashlib.blake2b(sequence.encode(), digest_size=10).hexdigest()
