"""Where a result comes from: commit, versions, machine. Written into every run folder and report.

The stamp holds no user name, host name or path: run folders are shared.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("s1pro", "torch", "numpy", "transformers", "tokenizers", "safetensors", "rdkit", "pyarrow")


def stamp(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """Commit (with `-dirty` when files differ from it), Python, operating system, CPU and package versions."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "versions": {name: version for name in packages if (version := _version(name)) is not None},
    }


def commit(folder: Path | None = None) -> str | None:
    """Commit of the repository that holds this package; None outside a repository or before its first commit."""
    root = folder or Path(__file__).resolve().parents[2]
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None
    return f"{head}-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else head


def write_json(path: Path, value: Any) -> None:
    """Writes JSON through a temporary file, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    if sys.platform.startswith("linux") and (info := Path("/proc/cpuinfo")).exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
