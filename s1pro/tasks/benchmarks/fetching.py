"""Data of benchmarks from the Hugging Face Hub, where licence and layout allow it; for the others, why not.

Three kinds. What has a free licence is fetched. What has terms (no commercial use, a gate, a licence that nobody here
has verified) is fetched by who accepts them. The rest is not, with the reason and where it is to be had: another layout
than the scorer reads, no licence, or no place on the Hub. A licence that the Hub states otherwise than this table must
be accepted too. Beside the files lies `fetched.json`: repository, commit, licence, digests.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from s1pro.base.errors import InputError
from s1pro.base.hub import Hub, HubFile, HubListing, fitting
from s1pro.tasks.benchmarks.registry import benchmark_named

Progress = Callable[[str, int, int], None]
"""File, bytes there, bytes of it."""


@dataclass(frozen=True, kw_only=True)
class Fetchable:
    """One row of the table.

    Attributes:
        files: name patterns, each with alternatives behind "|" of which the first that fits counts; all are needed.
        licence: as the Hub's card names it; empty if that is not known here.
        terms: that a user must accept.
        has_gate: whoever fetches needs a token of an account that was let in.
        keeps_folders: whether the names of folders count; without, files come into one folder.
        then: what is left to do.
    """

    repo: str
    files: tuple[str, ...]
    licence: str
    terms: str = ""
    has_gate: bool = False
    keeps_folders: bool = False
    then: str = ""


_NOT_COMMERCIAL = "for non-commercial use only, and not to be passed on"
_UNVERIFIED = "its licence is not verified here: read the page of the data set"
FETCHABLE: Mapping[str, Fetchable] = {
    "scits": Fetchable(
        repo="OpenTSLab/SciTS", files=("**",), licence="cc-by-nc-sa-4.0", terms=_NOT_COMMERCIAL, keeps_folders=True
    ),
    "xlrs-bench": Fetchable(
        repo="initiacms/XLRS-Bench-lite_VLM", files=("XLRS-Bench-lite_part*.jsonl|XLRS-Bench-lite.tsv",),
        licence="cc-by-nc-sa-4.0", terms=_NOT_COMMERCIAL,
    ),
    "refcoco": Fetchable(
        repo="mjuicem/RefCOCO-VLMEvalKit", files=("RefCOCO.tsv",), licence="", terms=_UNVERIFIED
    ),
    "ocrbench-v2": Fetchable(
        repo="QYWH/ocrbench_v2", files=("OCRBench_v2.tsv|OCRBench_v2*.tsv",), licence="", terms=_UNVERIFIED
    ),
    "ocrbench-v2-zh": Fetchable(
        repo="QYWH/ocrbench_v2", files=("OCRBench_v2.tsv|OCRBench_v2*.tsv",), licence="", terms=_UNVERIFIED
    ),
    "screenspot-v2": Fetchable(
        repo="OS-Copilot/ScreenSpot-v2", files=("screenspot_*_v2.json", "*image*.zip"), licence="apache-2.0",
        then="unpack the archive of pictures there",
    ),
    "mmlu-pro": Fetchable(repo="TIGER-Lab/MMLU-Pro", files=("data/test-*.parquet|data/test*.jsonl",), licence="mit"),
    "gpqa": Fetchable(
        repo="Idavidrein/gpqa", files=("gpqa_diamond.csv",), licence="cc-by-4.0", terms="items are not to be published",
        has_gate=True,
    ),
    "ifeval": Fetchable(repo="google/IFEval", files=("ifeval*.jsonl|*.parquet",), licence="apache-2.0"),
    "ifbench": Fetchable(
        repo="allenai/IFBench_test", files=("IFBench_test.jsonl|data/*.parquet",), licence="apache-2.0"
    ),
    "gaia": Fetchable(
        repo="gaia-benchmark/GAIA", files=("2023/validation/metadata.jsonl|2023/validation/metadata.parquet",),
        licence="", terms="not to be redistributed", has_gate=True,
    ),
    "livecodebench": Fetchable(
        repo="livecodebench/code_generation_lite", files=("test*.jsonl",), licence="", terms=_UNVERIFIED
    ),
}  # fmt: skip
_OTHER_TABLE = "the scorer reads the table of VLMEvalKit, which is not on the Hub; run VLMEvalKit once, it downloads it"
_ARCHIVE = "the scorer reads the archive that OpenCompass downloads, which is not on the Hub; run OpenCompass once"
NOT_FETCHED: Mapping[str, str] = {
    "smolinstruct": "the Hub has a script and an archive, which `datasets` 4 and later refuse; export "
    "osunlp/SMolInstruct once with an earlier one (split test, to JSONL)",
    "mol-instructions": f"{_ARCHIVE} (zjunlp/Mol-Instructions on the Hub has another layout)",
    "biology-instructions": f"no licence is stated; {_ARCHIVE}",
    "matbench": _ARCHIVE,
    "scireasoner": f"its licence is not verified here; {_ARCHIVE}",
    "microvqa": f"{_OTHER_TABLE} (jmhb/microvqa on the Hub has another layout)",
    "msearth-mcq": f"its licence is not verified here; {_OTHER_TABLE}",
    "mmmu-pro": f"{_OTHER_TABLE} (MMMU/MMMU_Pro on the Hub has another layout)",
    "sfe": f"{_OTHER_TABLE} (InternScience/SFE on the Hub has another layout)",
    "aime-2025": "no licence is stated; write the 30 problems to JSONL yourself",
    "imo-answer-bench": "it is on GitHub (google-deepmind/superhuman, IMO-Bench, answerbench.csv), not on the Hub",
    "sarena": "it cannot be scored here",
    "tau2": "it is on GitHub: git clone https://github.com/sierra-research/tau2-bench, then --tau2 "
    "data/tau2/domains/DOMAIN",
}


def fetchable(name: str, *, accepted: bool, has_token: bool) -> Fetchable:
    """The row of a benchmark that may be fetched.

    Raises:
        InputError: an unknown one, one that is not fetched, or whose terms nobody accepted.
    """
    benchmark_named(name)
    if name in NOT_FETCHED:
        raise InputError(f"{name} is not fetched: {NOT_FETCHED[name]}")
    row = FETCHABLE[name]
    page = f"https://huggingface.co/datasets/{row.repo}"
    if row.terms and not accepted:
        licence = row.licence or "licence unknown"
        raise InputError(f"{name} ({licence}): {row.terms}; see {page}, then say --accept-licence")
    if row.has_gate and not has_token:
        raise InputError(
            f"{name} is behind a gate: ask for access on {page}, and put a token of your account into the environment "
            "variable that --token-variable names"
        )
    return row


def selected(listing: HubListing, row: Fetchable, *, accepted: bool, max_bytes: int) -> dict[str, HubFile]:
    """The files by the names under which they are kept.

    Raises:
        InputError: a pattern fits nothing, two files would have one name, the licence is another, or too large.
    """
    if listing.licence.lower() != row.licence and row.licence and not accepted:
        raise InputError(
            f"{row.repo}: the Hub states the licence {listing.licence or '(none)'}, expected was {row.licence}; read "
            "it, then say --accept-licence"
        )
    chosen: dict[str, HubFile] = {}
    for alternatives in row.files:
        fits = next(filter(None, (fitting(listing.files, one) for one in alternatives.split("|"))), None)
        if fits is None:
            there = ", ".join(file.name for file in listing.files[:10]) or "nothing"
            raise InputError(f"{row.repo}: there is no {alternatives.replace('|', ' or ')}; there is {there}")
        for file in fits:
            name = file.name if row.keeps_folders else PurePosixPath(file.name).name
            if chosen.setdefault(name, file) != file:
                raise InputError(f"{row.repo}: {file.name} and {chosen[name].name} have one name")
    total = sum(file.size for file in chosen.values())
    if total > max_bytes:
        raise InputError(
            f"{row.repo}: {total / 1e9:.2f} GB in {len(chosen)} files are more than {max_bytes / 1e9:g}; see --max-gb"
        )
    return chosen


def _tell(progress: Progress, name: str, size: int, done: int) -> None:
    progress(name, done, size)


def fetch(
    hub: Hub, row: Fetchable, folder: Path, *, accepted: bool, max_bytes: int, progress: Progress
) -> tuple[HubListing, dict[str, HubFile]]:
    """Brings the files of a row into a folder; what is there already stays.

    Raises:
        InputError: as `selected`; no network; no room on the disk.
    """
    listing = hub.look(row.repo)
    chosen = selected(listing, row, accepted=accepted, max_bytes=max_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    missing = sum(file.size for name, file in chosen.items() if not (folder / name).is_file())
    if missing > shutil.disk_usage(folder).free:
        raise InputError(f"{folder}: there is no room for {missing / 1e9:.2f} GB")
    for name, file in chosen.items():
        hub.fetch(listing, file, folder / name, partial(_tell, progress, name, file.size))
    note = {
        "repo": row.repo, "commit": listing.commit, "licence": listing.licence, "terms": row.terms,
        "files": {name: asdict(file) for name, file in chosen.items()},
    }  # fmt: skip
    unfinished = folder / ".fetched.json.part"
    unfinished.write_text(json.dumps(note, indent=1), encoding="utf-8")
    unfinished.replace(folder / "fetched.json")
    return listing, chosen
