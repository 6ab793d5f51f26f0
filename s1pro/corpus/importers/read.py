"""One call for all formats: a file, or a folder in which the best file is taken, becomes rows.

    read_layout(Path("out/paper/auto"))                          MinerU's folder
    read_layout(Path("paper.docling.json"), pdf=Path("paper.pdf"))

The format is recognised by the content. Sizes of pages come from the file itself, from the `*_middle.json` beside a
content list, or from the PDF (given, or `*_origin.pdf` beside it). The document is named by the digest of the PDF where
there is one, so that its rows join those of the project's own extractor, and otherwise by the digest of the JSON file.

Pages are those of the file; a PDF with another number of pages is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.corpus.importers.assemble import Found, element_rows
from s1pro.corpus.importers.docling import DoclingReader, page_sizes
from s1pro.corpus.importers.json_file import Field, read_json
from s1pro.corpus.importers.mineru import MineruReader, Sizes, middle_sizes
from s1pro.corpus.importers.pictures import PictureLimits
from s1pro.corpus.records import DocumentRow, ElementRow, PageRow, document_id

Format = Literal["mineru_middle", "mineru_content_list", "mineru_content_list_v2", "docling"]
_PATTERNS = ("*_middle.json", "middle.json", "*_content_list_v2.json", "*content_list.json", "*.json")


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Limits, and whether the crops of the other program are read."""

    max_json_bytes: int = 256 * 2**20
    max_elements: int = 200_000
    pictures: bool = True
    picture_limits: PictureLimits = field(default_factory=PictureLimits)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Rows of one document, in the order of pages and reading."""

    document: DocumentRow
    pages: tuple[PageRow, ...]
    elements: tuple[ElementRow, ...]


def read_layout(path: Path, settings: ImportSettings | None = None, *, pdf: Path | None = None) -> Imported:
    """Reads the output of MinerU or Docling.

    Raises:
        InputError: not one of the formats, or a field that is not as it should be; the message names file and field.
        MissingExtraError: a PDF must be opened for its page sizes, and pypdfium2 is not installed.
    """
    settings = settings or ImportSettings()
    file = layout_file(path)
    root = read_json(file, settings.max_json_bytes)
    format_ = recognise(root)
    pdf = pdf or _beside(file, "_origin.pdf")
    limits = settings.picture_limits if settings.pictures else None
    found, sizes, extractor = _things(root, format_, file, pdf, settings, limits)
    if len(found) > settings.max_elements:
        raise InputError(f"{file}: {len(found)} blocks, more than {settings.max_elements} (max_elements)")
    data = (pdf or file).read_bytes()
    doc_id = document_id(data)
    source = "docling" if format_ == "docling" else "mineru"
    document = DocumentRow(
        doc_id=doc_id,
        source_uri=str(pdf or file),
        byte_size=len(data),
        status="ok" if sizes else "empty",
        num_pages=len(sizes),
        pages_ok=len(sizes),
        extractor=extractor,
    )
    characters = [0] * len(sizes)
    for thing in found:
        characters[thing.page] += len(thing.text)
    pages = tuple(
        PageRow(doc_id=doc_id, page=i, width=width, height=height, num_chars=characters[i])
        for i, (width, height) in enumerate(sizes)
    )
    elements = tuple(element_rows(found, doc_id, sizes, source, extractor))  # type: ignore[arg-type]
    return Imported(document=document, pages=pages, elements=elements)


def recognise(root: Field) -> Format:
    """The format of a file. Raises `InputError` if it is none of them."""
    value = root.value
    if isinstance(value, dict) and value.get("schema_name") == "DoclingDocument":
        return "docling"
    if isinstance(value, dict) and "pdf_info" in value:
        return "mineru_middle"
    if isinstance(value, list) and all(isinstance(item, list) for item in value) and value:
        return "mineru_content_list_v2"
    if isinstance(value, list) and all(isinstance(item, dict) and "type" in item for item in value) and value:
        return "mineru_content_list"
    raise InputError(
        f"{root.file}: not a layout file that is known: expected MinerU's middle.json or content_list.json (v1 or v2) "
        "or a DoclingDocument"
    )


def _things(
    root: Field, format_: Format, file: Path, pdf: Path | None, settings: ImportSettings, limits: PictureLimits | None
) -> tuple[list[Found], Sizes, str]:
    """Things, page sizes, and the name of the extractor."""
    if format_ == "docling":
        sizes: Sizes = page_sizes(root)
        things = DoclingReader(root, file.parent, limits).things(sizes)
        return list(things), sizes, f"docling {root.optional_text('version')}".strip()
    reader = MineruReader(file.parent, limits)
    if format_ == "mineru_middle":
        sizes = middle_sizes(root)
        return list(reader.middle(root, sizes)), sizes, f"mineru {root.optional_text('_version_name')}".strip()
    sizes = _sizes_from_elsewhere(file, pdf, settings)
    if format_ == "mineru_content_list_v2":
        if len(list(root.items())) != len(sizes):
            raise InputError(f"{file}: {len(root.value)} pages, but {len(sizes)} page sizes")
        return list(reader.content_list_v2(root, sizes)), sizes, "mineru content_list_v2"
    return list(reader.content_list(root, sizes)), sizes, "mineru content_list"


def _sizes_from_elsewhere(file: Path, pdf: Path | None, settings: ImportSettings) -> Sizes:
    middle = _beside(file, "_middle.json")
    if middle is not None:
        return middle_sizes(read_json(middle, settings.max_json_bytes))
    if pdf is None:
        raise InputError(
            f"{file}: a content list does not say how large its pages are; give the PDF, or put *_middle.json or "
            "*_origin.pdf beside it"
        )
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtraError("pypdfium2", "papers") from error
    try:
        document = pypdfium2.PdfDocument(pdf)
        sizes = [document.get_page_size(i) for i in range(len(document))]
        document.close()
    except (pypdfium2.PdfiumError, OSError) as error:
        raise InputError(f"{pdf}: cannot be opened as a PDF ({error})") from error
    return sizes


def layout_file(path: Path) -> Path:
    """The file that `read_layout` reads. Raises `InputError` if there is none, or several."""
    if path.is_file():
        return path
    for pattern in _PATTERNS:
        found = sorted(path.glob(pattern))
        if len(found) > 1 and pattern != "*.json":
            raise InputError(f"{path}: {len(found)} files {pattern}; name one of them")
        if found:
            return found[0]
    raise InputError(
        f"{path}: neither a file nor a folder with *_middle.json, *_content_list.json or a DoclingDocument"
    )


def _beside(file: Path, ending: str) -> Path | None:
    """The file with the same stem and another ending: `paper_content_list.json` → `paper_middle.json`."""
    for own in ("_content_list_v2.json", "_content_list.json", "_middle.json"):
        if file.name.endswith(own):
            other = file.with_name(file.name.removesuffix(own) + ending)
            return other if other.is_file() else None
    return None
