from __future__ import annotations

import importlib.metadata
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus import general
from s1pro.corpus.write import check_isolation

DOCSTRING = """
    Compute the mean of the values along an axis of the :class:`~some.Array`.

    The result is as long as the other axes. It is **not** weighted; see `[1]` for more about this [2]_.

    Parameters
    ----------
    a : array
        The values that the mean is taken of, as numbers.

    Notes
    -----
    The sum is made in pairs, which keeps the error small even for long arrays.

    >>> mean([1, 2, 3])
    2.0

    Examples
    --------
    This sentence stands in a section that is not prose at all.
    """


def test_only_prose_stays() -> None:
    assert general.prose(DOCSTRING) == [
        "Compute the mean of the values along an axis of the some.Array.",
        "The result is as long as the other axes. It is not weighted; see [1] for more about this.",
        "The sum is made in pairs, which keeps the error small even for long arrays.",
    ]
    assert general.prose("") == [] and general.prose("x = 1\ny = 2") == []


def test_installed_packages_give_documents_without_being_imported() -> None:
    packages = general.licensed_packages()
    assert "numpy" in packages and "torch" not in packages
    loaded = set(sys.modules)
    found = list(general.documents(max_documents=300))
    assert set(sys.modules) - loaded <= {name for name in sys.modules if name.startswith(("email", "importlib", "csv"))}
    assert len(found) == 300 and len({d.package for d in found}) >= 2
    paragraphs = [paragraph for document in found for paragraph in document.paragraphs]
    assert len(set(paragraphs)) == len(paragraphs)
    assert found == list(general.documents(max_documents=300))
    for sample in (*general.general_texts(found), *general.general_conversations(found)):
        check_isolation(sample)
        assert sample.prompt_group == "general"


def test_a_package_without_bsd_licence_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import email.message

    metadata = email.message.Message()
    metadata["License-Expression"] = "GPL-3.0-only"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)
    assert general.licensed_packages(["numpy"]) == []
    with pytest.raises(InputError, match="BSD"):
        list(general.documents(["numpy"]))


def test_odd_sources_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def member(name: str, content: str) -> SimpleNamespace:
        (tmp_path / name).write_text(content)
        return SimpleNamespace(name=name, as_posix=lambda: f"pkg/{name}", locate=lambda: tmp_path / name)

    private = 'class _Hidden:\n    """Nobody should ever read this hidden sentence."""\n'
    shown = 'def shown():\n    """Everybody may read this short sentence here."""\n'
    files = [member("a.py", "def broken(:"), member("b.py", private + shown), member("test_c.py", shown)]
    files += [member("d.txt", "A narrative file of plain words has a sentence."), member("e.py", "x" * 500_000)]
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    monkeypatch.setattr(general, "licensed_packages", lambda names=(): ["pkg"])
    found = {d.name: d.paragraphs for d in itertools.islice(general.documents(), 10)}
    assert found == {
        "pkg.b.shown": ("Everybody may read this short sentence here.",),
        "d.txt": ("A narrative file of plain words has a sentence.",),
    }
