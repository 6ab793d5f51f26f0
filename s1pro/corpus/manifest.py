"""A corpus folder that can be built in several goes.

`manifest.json` names every finished file with its digest and the settings it was made with. A build that was
interrupted goes on: a file that the manifest names, with the same settings and the right digest, is not made again.
Other settings start from nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.base.stamp import stamp, write_json
from s1pro.corpus.write import Written, file_digest, write_samples

MANIFEST = "manifest.json"

Progress = Callable[[str], None]


class ResumableFolder:
    """The state of one build: what the manifest says, what was made, what could be kept.

    Args:
        wanted: the settings; JSON values.
        progress: called with a line of text before every step.

    Raises:
        InputError: there is a manifest that cannot be read.
    """

    def __init__(self, folder: Path, wanted: Mapping[str, Any], progress: Progress | None = None) -> None:
        self.folder, self.progress = folder, progress or (lambda line: None)
        old = _read_manifest(folder / MANIFEST)
        fresh: dict[str, Any] = {"settings": dict(wanted), "files": {}}
        self.manifest = old if old.get("settings") == wanted else fresh
        self.reused: list[str] = []

    def file(
        self, name: str, make: Callable[[], Iterable[Sample]], *, intact: Callable[[Path], bool] | None = None
    ) -> None:
        """Writes `name`.parquet, unless it is there.

        Args:
            intact: says of a file that is there whether what it refers to is there as well.
        """
        path = self.folder / f"{name}.parquet"
        known = self.manifest["files"].get(name)
        there = known is not None and path.exists() and file_digest(path) == known["sha256"]
        if there and (intact is None or intact(path)):
            self.reused.append(name)
            return
        self.progress(f"writing {name}")
        self.manifest["files"][name] = dataclasses.asdict(write_samples(make(), path))
        self.save()

    def files(self) -> dict[str, Written]:
        """All files that the manifest names."""
        return {name: Written(**entry) for name, entry in self.manifest["files"].items()}

    def finish(self, **values: Any) -> None:
        """Adds what is known at the end, and the stamp."""
        self.manifest |= {**values, "stamp": stamp()}
        self.save()

    def save(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a manifest ({error}); remove it to build anew") from error
