"""PDFs that break readers, written byte by byte; what each does to one is in its name."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Mapping

Statuses = frozenset[str]

_CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
_KILLED = frozenset({"crash", "oom", "timeout"})
_FINE = frozenset({"ok"})


def hostile(*, bombs: bool = True) -> Mapping[str, tuple[bytes, Statuses]]:
    """Every hostile file with the statuses that are right for it (which of them depends on the speed of the machine).

    Args:
        bombs: with those that cost seconds or gigabytes.
    """
    return {**(_bombs() if bombs else {}), **_oddities()}


def _bombs() -> Mapping[str, tuple[bytes, Statuses]]:
    return {
        "recursive_form.pdf": (_recursive_form(), _KILLED),
        "exponential_forms.pdf": (_exponential_forms(28), _KILLED),
        "content_bomb.pdf": (_content_bomb(1 << 30), _KILLED),
        "many_paths.pdf": (_page(b"0 0 m 9 9 l S\n" * 1_500_000), _KILLED | {"ok"}),
        "many_characters.pdf": (_page(_characters(400_000)), _KILLED | {"ok"}),
        "bomb_image.pdf": (_bomb_image(50_000), _KILLED | {"ok"}),
    }


def _oddities() -> Mapping[str, tuple[bytes, Statuses]]:
    good = paper("victim", 4)
    rng = random.Random(0)
    return {
        "huge_page.pdf": (_page(b"0 0 m 9 9 l S", box=(14_000_000, 14_000_000)), _FINE),
        "strip.pdf": (_page(b"0 0 m 9 9 l S", box=(200_000, 10)), _FINE),
        "page_count.pdf": (_page(b"0 0 m 9 9 l S", count=2_000_000_000), frozenset({"ok", "partial", "corrupt"})),
        "action.pdf": (_page(b"", catalog=b"/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>"), _FINE),
        "owner_password.pdf": (paper("owner", 1, owner="secret"), _FINE),
        "user_password.pdf": (paper("user", 1, user="secret", owner="other"), frozenset({"encrypted"})),
        "truncated.pdf": (good[: len(good) // 3], frozenset({"corrupt", "partial", "ok"})),
        "bit_rot.pdf": (_rotten(good, rng), frozenset({"corrupt", "partial", "ok"})),
        "garbage.pdf": (rng.randbytes(50_000), frozenset({"not_pdf"})),
        "garbage_with_header.pdf": (b"%PDF-1.7\n" + rng.randbytes(50_000), frozenset({"corrupt"})),
        "empty.pdf": (b"", frozenset({"empty"})),
        "web_page.pdf": (b"<!DOCTYPE html><html><body>404</body></html>", frozenset({"not_pdf"})),
        "no_pages.pdf": (_file([_CATALOG, b"<</Type/Pages/Kids[]/Count 0>>"]), frozenset({"empty", "corrupt"})),
    }  # fmt: skip


def paper(name: str, pages: int, *, user: str = "", owner: str = "") -> bytes:
    """A small paper with one figure per page, by reportlab."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    lock = StandardEncryption(user, ownerPassword=owner) if owner else None
    canvas = Canvas(file, pagesize=(595, 842), encrypt=lock, invariant=1)
    for page in range(1, pages + 1):
        canvas.setFont("Times-Roman", 10)
        for line in range(20):
            canvas.drawString(
                72, 780 - 13 * line, f"{name}, line {line}: the samples were heated, as Figure {page} shows, for long."
            )
        canvas.rect(150, 320, 280, 160)
        canvas.bezier(160, 330, 250, 470 - 20 * page, 320, 340, 420, 460)
        canvas.drawString(230, 306, "Temperature (K)")
        canvas.drawString(120, 280, f"Figure {page}. The temperature of {name} rises with time.")
        for line in range(10):
            canvas.drawString(
                72, 250 - 13 * line, f"{name}, line {line + 20}: nothing else was seen in this long experiment at all."
            )
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _file(objects: list[bytes]) -> bytes:
    """Objects 1, 2, ... with a table of their places; the first is the catalog."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _stream(data: bytes, entries: bytes = b"", *, packed: bool = True) -> bytes:
    if packed:
        data, entries = zlib.compress(data, 9), entries + b"/Filter/FlateDecode"
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)


def _page(
    content: bytes, *, box: tuple[int, int] = (612, 792), count: int = 1, catalog: bytes = b"", more: bytes = b""
) -> bytes:
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%s>>>>" % (
        *box,
        more,
    )
    pages = b"<</Type/Pages/Kids[3 0 R]/Count %d>>" % count
    return _file([b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog, pages, page, _stream(content), font])


def _recursive_form() -> bytes:
    form = _stream(
        b"/X Do /X Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>", packed=False
    )
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
    pages = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    return _file([_CATALOG, pages, page, _stream(b"/X Do", packed=False), form])


def _exponential_forms(levels: int) -> bytes:
    """Every form draws the next one twice."""
    objects = [
        _CATALOG,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>",
        _stream(b"/X Do", packed=False),
    ]
    for level in range(levels):
        inner = b"/Resources<</XObject<</X %d 0 R>>>>" % (6 + level)
        objects.append(_stream(b"/X Do /X Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]" + inner, packed=False))
    objects.append(_stream(b"0 0 m 9 9 l S", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]", packed=False))
    return _file(objects)


def _repeated(block: bytes, times: int) -> bytes:
    """zlib of `block * times` without the work: one block is compressed and repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(times):
        check = zlib.adler32(block, check)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush(zlib.Z_FINISH)
    return b"\x78\x9c" + once * times + end + check.to_bytes(4, "big")


def _content_bomb(size: int) -> bytes:
    block = b"0 0 m 9 9 l S\n" * 70_000
    data = _repeated(block, size // len(block))
    head = _page(b"").replace(
        _stream(b""), b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(data), data)
    )
    return head


def _characters(count: int) -> bytes:
    lines = [b"BT /F 1 Tf 10 %d Td (%s) Tj ET" % (780 - n // 2, b"abcdefghi " * 40) for n in range(count // 400)]
    return b"\n".join(lines)


def _bomb_image(side: int) -> bytes:
    block = bytes(side) * 10
    data = _repeated(block, side // 10)
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8" % (side, side)
    image = b"<<%s/Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>"
    content = _stream(b"q 500 0 0 500 50 50 cm /I Do Q")
    return _file([_CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, content, image])


def _rotten(data: bytes, rng: random.Random) -> bytes:
    """One byte in two hundred is another one."""
    rotten = bytearray(data)
    for _ in range(len(data) // 200):
        rotten[rng.randrange(20, len(data))] ^= 1 << rng.randrange(8)
    return bytes(rotten)
