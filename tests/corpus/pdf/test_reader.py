"""Reading a page: coordinates under every rotation and crop, forms, clips, lines and words, caps, typed errors."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from s1pro.corpus.pdf.drawing import ReadLimits
from s1pro.corpus.pdf.reader import PdfError, close_page, open_document, read_page

pytest.importorskip("pypdfium2")
reportlab = pytest.importorskip("reportlab")


def raw_pdf(content: bytes, *, page: str = "", objects: tuple[bytes, ...] = (), resources: str = "") -> bytes:
    """A one-page PDF, object by object: 1 catalogue, 2 pages, 3 page, 4 contents, 5 Helvetica, 6... `objects`."""
    body = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 600] {page} /Contents 4 0 R "
        f"/Resources << /Font << /F1 5 0 R >> {resources} >> >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *objects,
    ]
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    offsets = []
    for number, text in enumerate(body, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, text))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(body) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(body) + 1, start))
    return out.getvalue()


HELLO = b"q 0 0 1 rg 50 100 60 30 re f Q BT /F1 20 Tf 100 500 Td (Hello brave) Tj ET"


@pytest.mark.parametrize("crop", [(0, 0, 400, 600), (40, 50, 390, 580)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("unit", ["", "/UserUnit 2"])
def test_boxes_lie_where_the_rendered_page_has_the_ink(
    rotation: int, crop: tuple[int, int, int, int], unit: str
) -> None:
    page = f"/CropBox [{crop[0]} {crop[1]} {crop[2]} {crop[3]}] /Rotate {rotation} {unit}"
    document = open_document(raw_pdf(HELLO, page=page))
    content = read_page(document, 0)
    picture = document[0].render(scale=2).to_numpy()[:, :, :3].astype(int)  # blue, green, red
    assert picture.shape[:2] == (round(content.height * 2), round(content.width * 2))
    blue = np.argwhere((picture[:, :, 0] > 200) & (picture[:, :, 2] < 60))
    want = [blue[:, 1].min() / 2, blue[:, 0].min() / 2, (blue[:, 1].max() + 1) / 2, (blue[:, 0].max() + 1) / 2]
    np.testing.assert_allclose(content.paths.boxes[0], want, atol=0.6)
    black = np.argwhere(picture.max(axis=2) < 90)
    line = content.lines[0]
    ink = [black[:, 1].min() / 2, black[:, 0].min() / 2, (black[:, 1].max() + 1) / 2, (black[:, 0].max() + 1) / 2]
    np.testing.assert_allclose(line.box, ink, atol=1.0)
    assert line.text == "Hello brave"
    assert line.angle == (360 - rotation) % 360
    assert line.size == pytest.approx(20.0, rel=1e-3)
    assert [word.text for word in content.words] == ["Hello", "brave"]
    assert content.words[0].font.name == "Helvetica"


def test_forms_are_walked_with_their_matrices_and_clips() -> None:
    form = b"0 0 10 10 re f q 0 0 5 5 re W n 0 0 100 100 re f Q"
    inner = (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 200 200] /Matrix [2 0 0 2 0 0] /Length %d >>\n"
        b"stream\n%s\nendstream"
    )
    data = raw_pdf(
        b"q 1 0 0 1 30 40 cm /X Do Q", objects=(inner % (len(form), form),), resources="/XObject << /X 6 0 R >>"
    )
    content = read_page(open_document(data), 0)
    np.testing.assert_allclose(content.paths.boxes, [[30, 540, 50, 560], [30, 550, 40, 560]], atol=1e-3)
    assert content.paths.group.tolist() == [0, 0]
    outline = content.outline(0)
    assert {tuple(point) for point in outline.points.round(3).tolist()} == {(30, 560), (50, 560), (50, 540), (30, 540)}
    close_page(content)
    with pytest.raises(ValueError, match="closed"):
        content.outline(0)


def test_colours_line_widths_and_bezier_points() -> None:
    data = raw_pdf(b"q 2 0 0 2 0 0 cm 1 0 0 RG 3 w 10 10 m 20 20 30 30 40 10 c S Q 0 1 0 rg 5 5 5 5 re f")
    content = read_page(open_document(data), 0)
    assert content.paths.stroke[0].tolist() == [255, 0, 0, 255] and content.paths.fill[0, 3] == 0
    assert content.paths.fill[1].tolist() == [0, 255, 0, 255] and content.paths.stroke[1, 3] == 0
    assert content.paths.line_width[0] == pytest.approx(6.0)
    outline = content.outline(0)
    np.testing.assert_allclose(outline.points, [[20, 580], [40, 560], [60, 540], [80, 580]], atol=1e-3)
    assert outline.kinds.tolist() == [0, 2, 2, 2]


def test_lines_split_at_wide_gaps_and_keep_superscripts() -> None:
    stream = (
        b"BT /F1 10 Tf 50 500 Td (energy of 5 cm) Tj /F1 6 Tf 5 Ts (-1) Tj 0 Ts /F1 10 Tf ( is low) Tj ET "
        b"BT /F1 10 Tf 250 500 Td (other column) Tj ET BT /F1 10 Tf 0 1 -1 0 30 100 Tm (upwards) Tj ET"
    )
    content = read_page(open_document(raw_pdf(stream)), 0)
    texts = {line.text: line for line in content.lines}
    assert set(texts) == {"energy of 5 cm-1 is low", "other column", "upwards"}
    assert texts["upwards"].angle == 90.0 and texts["upwards"].box[3] - texts["upwards"].box[1] > 30
    assert texts["energy of 5 cm-1 is low"].size == pytest.approx(10.0)


def test_caps_are_named() -> None:
    stream = b"BT /F1 5 Tf 10 10 Td (" + b"x" * 300 + b") Tj ET " + b"1 1 2 2 re f " * 50
    content = read_page(open_document(raw_pdf(stream)), 0, ReadLimits(max_chars=100, max_objects=20))
    assert len(content.chars) == 100 and len(content.paths) < 20
    assert any(limit.startswith("chars") for limit in content.limits)
    assert any(limit.startswith("objects") for limit in content.limits)


def test_deeply_nested_forms_stop_at_the_cap() -> None:
    shell = (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 400 400] /Resources << /XObject << /X %d 0 R >> >> "
        b"/Length 5 >>\nstream\n/X Do\nendstream"
    )
    last = b"<< /Type /XObject /Subtype /Form /BBox [0 0 400 400] /Length 12 >>\nstream\n1 1 9 9 re f\nendstream"
    objects = (*[shell % (7 + i) for i in range(6)], last)
    data = raw_pdf(b"/X Do", objects=objects, resources="/XObject << /X 6 0 R >>")
    assert len(read_page(open_document(data), 0).paths) == 1
    content = read_page(open_document(data), 0, ReadLimits(max_depth=3))
    assert len(content.paths) == 0 and "nested" in content.limits[0]


def encrypted() -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, encrypt="secret")
    canvas.drawString(100, 100, "hidden")
    canvas.save()
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "not_pdf"),
        (b"<html>no</html>" * 100, "not_pdf"),
        (b"%PDF-1.7\n" + b"garbage" * 100, "corrupt"),
        (zlib.compress(b"x" * 1000), "not_pdf"),
    ],
)
def test_errors_have_a_status(data: bytes, status: str) -> None:
    with pytest.raises(PdfError) as caught:
        open_document(data)
    assert caught.value.status == status


def test_encrypted_is_told_from_corrupt() -> None:
    with pytest.raises(PdfError, match="password") as caught:
        open_document(encrypted())
    assert caught.value.status == "encrypted"
