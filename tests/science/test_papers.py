"""Papers whose content is known: readable PDFs with the words and numbers that they say they hold."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest

from s1pro.base.errors import InputError
from s1pro.science.papers import paper, write_papers


def text_of(data: bytes) -> list[str]:
    document = pypdfium2.PdfDocument(data)
    return [page.get_textpage().get_text_bounded() for page in document]


def test_what_is_known_is_there() -> None:
    data, known = paper(3, seed=1)
    pages = text_of(data)
    assert len(pages) == 2 and known.title.split()[0] in pages[0]
    assert "Table 1" in pages[1] and len(known.figures) == 2
    for figure in known.figures:
        text = " ".join(pages[figure.page].split())
        assert f"{figure.label}: Dependence" in text
        assert figure.x_label in text
        assert all(name in text for name in figure.series)


def test_numbers_decide() -> None:
    assert paper(0)[0] == paper(0)[0]
    assert paper(0)[1] != paper(1)[1] and paper(0, seed=1)[1] != paper(0)[1]


def test_a_folder_of_them(tmp_path: Path) -> None:
    known = write_papers(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paper-0000.pdf", "paper-0001.pdf"]
    assert known[1] == paper(1)[1]
    with pytest.raises(InputError, match="at least 1"):
        write_papers(tmp_path, 0)
