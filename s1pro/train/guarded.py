"""Training data without the questions of evaluations: what was found is counted per source and written down.

    contamination.json of a run     {"source": {"checked": 81000, "words": 12, "molecules": 3, "dropped": 12, ...}}

A tokenised source that lies in a cache was searched when it was made; its counts lie beside it. The index is part of
what the cache depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from s1pro.base.config import config_to_json
from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.base.stamp import write_json
from s1pro.science.contamination import ContaminationSettings, Decontaminator

FILE = "contamination.json"


class Guarded:
    """Applies `DataConfig.contamination` to sources; None lets everything pass.

    Attributes:
        fingerprint: of index and settings; empty if everything passes.
    """

    def __init__(self, settings: ContaminationSettings | None) -> None:
        self.settings, self.fingerprint = settings, ""
        self._counts: dict[str, Mapping[str, int]] = {}
        self._kept: dict[str, Path] = {}
        if settings is not None:
            try:
                digest = hashlib.sha256(settings.index.read_bytes())
            except OSError as error:
                raise InputError(f"data.contamination.index: {settings.index} cannot be read ({error})") from error
            digest.update(json.dumps([config_to_json(settings)["found"], settings.molecules]).encode())
            self.fingerprint = f"+{digest.hexdigest()}"

    def samples(self, name: str, samples: Iterable[Sample], cache: Path | None) -> Iterator[Sample]:
        """The samples of a source that may be trained on. They are read only if the cache has not got them."""
        if self.settings is None:
            return iter(samples)
        if cache is not None:
            self._kept[name] = cache / f"{name}.{FILE}"
        return self._searched(name, samples, Decontaminator(self.settings))

    def write(self, folder: Path) -> None:
        """Writes the counts of all sources, when all are tokenised."""
        if self.settings is None:
            return
        known = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in self._kept.items()}
        write_json(folder / FILE, {**known, **self._counts})

    def _searched(self, name: str, samples: Iterable[Sample], guard: Decontaminator) -> Iterator[Sample]:
        yield from guard.filter(samples)
        self._counts[name] = dict(guard.counts)
        if name in self._kept:
            write_json(self._kept[name], self._counts[name])
