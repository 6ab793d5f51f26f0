from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.records import (
    CaptionRow,
    DocumentRow,
    DuplicateRow,
    ElementRow,
    Mention,
    PageRow,
    QualityRow,
    RouteRow,
)
from s1pro.corpus.tables import arrow_schema, file_settings, from_plain, read_column, read_rows, to_plain, write_rows

ELEMENT = ElementRow(
    element_id="e", doc_id="d", page=3, type="chart", box=(1.0, 2.5, 3.0, 4.0), page_width=612.0, page_height=792.0,
    caption="Größe α → β", caption_box=None, mentions=(Mention(page=1, text="see Figure 1"),), image=b"\x89PNG" * 500,
)  # fmt: skip
ROWS = {
    ElementRow: [ELEMENT, dataclasses.replace(ELEMENT, element_id="f", caption_box=(0.0, 1.0, 2.0, 3.0), mentions=())],
    DocumentRow: [DocumentRow(doc_id="d", source_uri="", byte_size=1, status="partial", pages_failed=(1, 4))],
    PageRow: [PageRow(doc_id="d", page=0, width=1.0, height=2.0, reasons=("scan",))],
    DuplicateRow: [DuplicateRow(element_id="e", representative="e", decision="unique")],
    RouteRow: [RouteRow(element_id="e", topic="t", topic_probability=0.5, scientific_probability=1.0, route="r")],
    CaptionRow: [CaptionRow(request_id="r", element_id="e", template_id="t", model="m", text="x", flags=("number",))],
    QualityRow: [QualityRow(text_id="r", tier="rules", score=0.1, probability=0.2, keep=False, reasons=("loop",))],
}


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_rows_come_back_and_files_are_equal(kind: type, tmp_path: Path) -> None:
    for name in "ab":
        assert write_rows(tmp_path / name, kind, ROWS[kind], settings="0f") == len(ROWS[kind])
    assert read_rows(tmp_path / "a", kind) == ROWS[kind]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert file_settings(tmp_path / "a") == "0f"
    write_rows(tmp_path / "empty", kind, [], settings="")
    assert read_rows(tmp_path / "empty", kind) == []
    pictures: list[bytes] = []
    plain = json.loads(json.dumps([to_plain(row, pictures) for row in ROWS[kind]]))
    assert [from_plain(kind, row, pictures) for row in plain] == ROWS[kind]


def test_pictures_are_stored_as_they_are_and_may_be_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", ElementRow, [ELEMENT] * 300, settings="")
    columns = {
        pq.ParquetFile(tmp_path / "a").metadata.row_group(0).column(i).path_in_schema: i
        for i in range(pq.ParquetFile(tmp_path / "a").metadata.num_columns)
    }
    group = pq.ParquetFile(tmp_path / "a").metadata.row_group(0)
    assert group.num_rows == 128
    assert group.column(columns["image"]).compression == "UNCOMPRESSED"
    assert {group.column(i).compression for name, i in columns.items() if name != "image"} == {"ZSTD"}
    assert ELEMENT.image in (tmp_path / "a").read_bytes()
    assert read_column(tmp_path / "a", "image", 2) == [ELEMENT.image] * 44
    assert read_rows(tmp_path / "a", ElementRow, without=("image",))[0] == dataclasses.replace(ELEMENT, image=b"")


def test_text_that_is_no_unicode_is_repaired(tmp_path: Path) -> None:
    row = dataclasses.replace(ELEMENT, caption="\ud835\udc65 and \udb62", mentions=(Mention(page=0, text="\udc00"),))
    write_rows(tmp_path / "a", ElementRow, [row], settings="")
    (read,) = read_rows(tmp_path / "a", ElementRow)
    assert (read.caption, read.mentions[0].text) == ("𝑥 and \ufffd", "\ufffd")


def test_old_files_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", PageRow, ROWS[PageRow], settings="")
    table = pq.read_table(tmp_path / "a")
    pq.write_table(table.drop_columns(["reasons"]), tmp_path / "old")
    assert read_rows(tmp_path / "old", PageRow)[0].reasons == ()
    pq.write_table(table.append_column("mood", pa.array(["good"])), tmp_path / "new")
    with pytest.raises(InputError, match="unknown column mood; it comes from a newer version"):
        read_rows(tmp_path / "new", PageRow)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", PageRow, ROWS[PageRow], settings="")
    with pytest.raises(InputError, match="holds PageRow rows, not ElementRow"):
        read_rows(tmp_path / "a", ElementRow)
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-9])
    for name in ("cut", "missing"):
        with pytest.raises(InputError, match=f"{name}: not a readable Parquet file"):
            read_rows(tmp_path / name, PageRow)
    with pytest.raises(InputError, match="PageRow: a field that must have a value is empty"):
        from_plain(PageRow, {"doc_id": None})
    assert arrow_schema(PageRow).field("reasons").type == pa.list_(pa.string())
