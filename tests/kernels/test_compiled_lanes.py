"""The tests of compiled kernels with the registers of other processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding

ROOT = Path(__file__).resolve().parents[2]
TESTS = ["tests/kernels/test_compiled.py", "tests/model/test_decoding.py"]


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 4])
def test_registers_of_other_processors(lanes: int, tmp_path: Path) -> None:
    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("shorter registers are tried on a processor with AVX2")
    variables = {"LANES": str(lanes), "NUMBA_CPU_NAME": "haswell", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.kernels.fewer_lanes", *TESTS]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert " passed" in run.stdout and " failed" not in run.stdout
