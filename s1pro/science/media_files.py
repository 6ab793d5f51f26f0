"""Media in a folder, named by what is in them.

    root/media/3f/3f9a....png    pictures, PNG
    root/media/c1/c1d0....npy    videos and signals, arrays without pickle

The name is the SHA-256 of dtype, shape and bytes of the array: equal media are one file, whoever writes them and
however often. A file appears under its name when it is complete, so a reader never sees half of it and an interrupted
run leaves at most a temporary file with a `.tmp` name behind.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from s1pro.base.errors import MissingExtraError
from s1pro.science.media import Medium

FOLDER = "media"
# PNG's fastest setting: a tenth larger than the default, several times faster.
_PNG_LEVEL = 1


class MediaFolder:
    """Writes media below `root`.

    Args:
        seen_from: the folder that parts of messages name them from; None for their whole paths.
    """

    def __init__(self, root: Path, *, seen_from: Path | None = None) -> None:
        self.root = root.resolve()
        self._prefix = str(self.root) if seen_from is None else os.path.relpath(self.root, seen_from.resolve())
        self._folders: set[Path] = set()

    def write(self, medium: Medium) -> dict[str, Any]:
        """Writes the file unless it is there; gives the part of a message that stands for it."""
        digest, suffix = media_digest(medium), ".png" if medium.kind == "image" else ".npy"
        path = Path(FOLDER) / digest[:2] / f"{digest}{suffix}"
        target = self.root / path
        if not target.exists():
            if target.parent not in self._folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(target.parent)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                with temporary.open("wb") as file:
                    _write(medium, file)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return medium.part((Path(self._prefix) / path).as_posix())


def media_digest(medium: Medium) -> str:
    """SHA-256 of what the file will hold, in hexadecimal."""
    array = np.ascontiguousarray(medium.array)
    head = f"{medium.kind} {array.dtype.str} {array.shape}\n".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def _write(medium: Medium, file: IO[bytes]) -> None:
    if medium.kind != "image":
        np.save(file, medium.array, allow_pickle=False)
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "science") from error
    Image.fromarray(medium.array).save(file, format="PNG", compress_level=_PNG_LEVEL)
