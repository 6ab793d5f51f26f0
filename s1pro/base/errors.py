"""Errors that a user can cause and repair.

`InputError` names the file, the field and the value, and says what to do; the command line prints it without a
traceback and exits with code 2. `MissingExtraError` names the optional dependency group to install.
"""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Something that came from outside is wrong: a file, a configuration value, an argument."""


def no_folder(path: Path) -> str:
    """What to say of a path that should be a folder and is none."""
    return "this is a file, not a folder" if path.exists() else "there is no such folder"


class MissingExtraError(InputError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}; install it with: pip install 's1pro[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """As an error of another process it arrives whole."""
        return MissingExtraError, (self.package, self.extra)
