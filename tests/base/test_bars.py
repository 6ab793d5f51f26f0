"""Progress bars: silent where nobody looks, one line per job on the error stream where somebody does."""

from __future__ import annotations

import pytest

from s1pro.cli.bytes_bar import BytesBar
from s1pro.eval.progress import ProgressBar


def test_nothing_is_written_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as bar:
        bar.update("smiles", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_one_line_per_job_on_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(shown=True) as bar:
        bar.update("smiles", 1, 2)
        bar.update("formulas", 1_000, 4_000)
        bar.update("smiles", 2, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("smiles") == err.count("formulas") == 1
    assert "2/2" in err
    assert "1,000/4,000" in err


def test_bytes_are_told_in_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    with BytesBar("convert", shown=True) as bar:
        bar.update(1_500_000, 2_000_000)
    assert "1.5/2.0 MB" in capsys.readouterr().err
