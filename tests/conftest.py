"""One torch thread per test process, and the folders that tests read.

The thread count is set before torch is imported anywhere: several processes with two OpenMP threads each wait for
one another in spin barriers and become many times slower.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import contextlib
import sys
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Properties hold on a machine that is slow or busy, too.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# absl, which rouge-score imports, keeps the stderr of that moment and closes it when a server sets up its logging. In a
# test that would be pytest's own, and the process would end without a word.
with contextlib.suppress(ImportError), contextlib.redirect_stderr(sys.__stderr__):
    import absl.logging  # noqa: F401


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Without importing torch for tests that do not need it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _outside(*parts: str) -> Path:
    """A folder of other people's files that lies beside a checkout; tests that need it skip without it."""
    folder = REPOSITORY.parent.joinpath("shared", *parts)
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{'/'.join(parts)}, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def released_dir() -> Path:
    """Configuration and tokenizer files of the released Intern-S1-Pro."""
    return _outside("released", "Intern-S1-Pro")


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Real papers and agent data of others."""
    return _outside("samples")


@pytest.fixture(scope="session")
def goldens_dir() -> Path:
    """Measured numbers. They belong to the repository, so their absence is a failure."""
    folder = REPOSITORY / "tests" / "goldens"
    if not folder.is_dir():
        pytest.fail(f"the goldens are missing: {folder}")
    return folder
