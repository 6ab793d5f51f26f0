"""The confusion matrix of domains and system prompts over whole corpora: what training will see, counted.

Writers refuse single samples under the wrong prompt (`corpus.write`); this counts what the manifests of several folders
say (chemistry, media, narratives, general English), so that a mixture is checked as a whole before it trains.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.corpus.manifest import MANIFEST


def isolation_matrix(folders: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Samples by group of their domain (row) and group of their prompt (column).

    Raises:
        InputError: a folder without a manifest, or a count off the diagonal; names folder and file.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for folder in folders:
        path = folder / MANIFEST
        try:
            files: Mapping[str, Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))["files"]
            entries = {name: dict(entry["isolation"]) for name, entry in files.items()}  # type: ignore[call-overload]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not the manifest of a corpus ({error})") from error
        for name, isolation in entries.items():
            for pair, number in isolation.items():
                domain, _, prompt = pair.partition("/")
                if domain != prompt:
                    raise InputError(f"{folder / name}: {number} samples of {domain} under the {prompt} prompt")
                counts[domain, prompt] += int(number)
    groups = sorted({group for pair in counts for group in pair})
    return {row: {column: counts[row, column] for column in groups} for row in groups}
