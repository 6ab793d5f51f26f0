"""A pen for reportlab: draws in points from the top left corner of the shown page and remembers what it covered.

The page itself may be rotated, cropped with an offset, or have another unit; drawings may be turned sideways. The pen
maps all that, so that the layout above it thinks in one coordinate system, and `boxes` are those of the shown page.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from tests.corpus.composed.truth import Box, union

Matrix = tuple[float, float, float, float, float, float]
CJK = "STSong-Light"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A page as shown, and how it is stored.

    Attributes:
        rotation: `/Rotate`; the content is stored so that it is upright when shown.
        crop_offset: lower left corner of the crop box inside a larger media box.
        user_unit: `/UserUnit`; sizes here are in default units, which is what readers report.
    """

    width: float
    height: float
    rotation: int = 0
    crop_offset: tuple[float, float] = (0.0, 0.0)
    user_unit: int = 1


class Pen:
    """Draws on a reportlab canvas; x to the right, y down."""

    def __init__(self, sheet: Sheet, seed: int) -> None:
        pdfmetrics.registerFont(UnicodeCIDFont(CJK))
        self._buffer = io.BytesIO()
        self.canvas = Canvas(self._buffer, pagesize=(sheet.width, sheet.height), invariant=1, pageCompression=1)
        self.canvas.setTitle(f"composed {seed}")
        self.canvas.setProducer("reportlab")
        self.units: list[int] = []
        self._records: list[list[Box]] = []
        self._turned: Matrix = (1, 0, 0, 1, 0, 0)
        self.begin(sheet)

    def begin(self, sheet: Sheet) -> None:
        """Starts a page."""
        self.sheet = sheet
        w, h = sheet.width, sheet.height
        ox, oy = sheet.crop_offset
        self.canvas.setPageSize((w, h))
        self.canvas.setPageRotation(sheet.rotation)
        stored = (h, w) if sheet.rotation in (90, 270) else (w, h)
        if (ox, oy) != (0.0, 0.0):
            # reportlab writes a media box from the origin: make it larger than what is shown
            larger = (stored[0] + 2 * ox, stored[1] + 2 * oy)
            self.canvas.setPageSize(larger[::-1] if sheet.rotation in (90, 270) else larger)
            self.canvas.setCropBox((ox, oy, ox + stored[0], oy + stored[1]))
        else:
            self.canvas.setCropBox((0, 0, *stored))
        matrix = {
            0: (1, 0, 0, 1, 0, 0),
            90: (0, 1, -1, 0, h, 0),
            180: (-1, 0, 0, -1, w, h),
            270: (0, -1, 1, 0, 0, w),
        }[sheet.rotation]
        self.canvas.saveState()
        self.canvas.translate(ox, oy)
        self.canvas.transform(*matrix)

    def end(self) -> None:
        """Ends the page."""
        self.canvas.restoreState()
        self.units.append(self.sheet.user_unit)
        self.canvas.showPage()

    def finish(self) -> bytes:
        """The bytes of the PDF, every page with its user unit."""
        self.canvas.save()
        data = self._buffer.getvalue()
        marker = b"/Trans <<\n\n>>"
        assert data.count(marker) == len(self.units)
        parts = data.split(marker)
        out = parts[0]
        for unit, part in zip(self.units, parts[1:], strict=True):
            entry = f"/UserUnit {unit}".encode() if unit != 1 else b""
            out += entry.ljust(len(marker)) + part  # same length: the table of offsets stays right
        return out

    @contextmanager
    def recording(self) -> Iterator[list[Box]]:
        """Collects the boxes of what is drawn inside."""
        boxes: list[Box] = []
        self._records.append(boxes)
        try:
            yield boxes
        finally:
            self._records.pop()

    @contextmanager
    def sideways(self, x: float, y: float) -> Iterator[None]:
        """Inside, the origin lies at (x, y), x runs up the page and y to the right: text reads from bottom to top."""
        h = self.sheet.height
        self.canvas.saveState()
        # inner top-left point (a, b) lies at outer (x + b, y - a)
        self._turned = (0, -1, 1, 0, x, y)
        # canvas: inner u = a, v = h - b; outer U = x + b = x + h - v, V = h - (y - a) = h - y + u
        self.canvas.transform(0, 1, -1, 0, x + h, h - y)
        try:
            yield
        finally:
            self._turned = (1, 0, 0, 1, 0, 0)
            self.canvas.restoreState()

    def cover(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Remembers a covered box."""
        a, b, c, d, e, f = self._turned
        points = [(a * x + c * y + e, b * x + d * y + f) for x in (x0, x1) for y in (y0, y1)]
        box = union([(px, py, px, py) for px, py in points])
        for record in self._records:
            record.append(box)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float = 0.6, color: str = "#000000") -> None:
        self.polyline([(x0, y0), (x1, y1)], width, color)

    def polyline(
        self, points: list[tuple[float, float]], width: float = 0.8, color: str = "#000000", *, fill: bool = False
    ) -> None:
        h = self.sheet.height
        self.canvas.setStrokeColor(color)
        self.canvas.setFillColor(color)
        self.canvas.setLineWidth(width)
        path = self.canvas.beginPath()
        path.moveTo(points[0][0], h - points[0][1])
        for x, y in points[1:]:
            path.lineTo(x, h - y)
        if fill:
            path.close()
        self.canvas.drawPath(path, stroke=1, fill=int(fill))
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        self.cover(min(xs) - width / 2, min(ys) - width / 2, max(xs) + width / 2, max(ys) + width / 2)

    def rect(
        self, x: float, y: float, w: float, h: float, *, fill: str = "", stroke: str = "", width: float = 0.6
    ) -> None:
        if fill:
            self.canvas.setFillColor(fill)
        if stroke:
            self.canvas.setStrokeColor(stroke)
            self.canvas.setLineWidth(width)
        self.canvas.rect(x, self.sheet.height - y - h, w, h, fill=int(bool(fill)), stroke=int(bool(stroke)))
        self.cover(x, y, x + w, y + h)

    def circle(self, x: float, y: float, r: float, *, fill: str = "", stroke: str = "") -> None:
        if fill:
            self.canvas.setFillColor(fill)
        if stroke:
            self.canvas.setStrokeColor(stroke)
            self.canvas.setLineWidth(0.6)
        self.canvas.circle(x, self.sheet.height - y, r, fill=int(bool(fill)), stroke=int(bool(stroke)))
        self.cover(x - r, y - r, x + r, y + r)

    def text(
        self, x: float, y: float, text: str, font: str, size: float, *, anchor: str = "left", color: str = "#000000"
    ) -> float:
        """Text with its baseline at y; its width."""
        width = pdfmetrics.stringWidth(text, font, size)
        left = x - {"left": 0.0, "middle": width / 2, "right": width}[anchor]
        self.canvas.setFillColor(color)
        self.canvas.setFont(font, size)
        self.canvas.drawString(left, self.sheet.height - y, text)
        self.cover(left, y - 0.74 * size, left + width, y + 0.2 * size)
        return width

    def text_up(self, x: float, y: float, text: str, font: str, size: float) -> None:
        """Text that reads upwards, centred on y, with its baseline at x."""
        width = pdfmetrics.stringWidth(text, font, size)
        self.canvas.saveState()
        self.canvas.setFillColor("#000000")
        self.canvas.setFont(font, size)
        self.canvas.translate(x, self.sheet.height - y)
        self.canvas.rotate(90)
        self.canvas.drawCentredString(0, 0, text)
        self.canvas.restoreState()
        self.cover(x - 0.74 * size, y - width / 2, x + 0.2 * size, y + width / 2)

    def image(self, x: float, y: float, w: float, h: float, picture: np.ndarray) -> None:
        """A raster image of uint8 rows, grey or colour."""
        reader = ImageReader(Image.fromarray(picture))
        self.canvas.drawImage(reader, x, self.sheet.height - y - h, w, h)
        self.cover(x, y, x + w, y + h)


def text_width(text: str, font: str, size: float) -> float:
    return float(pdfmetrics.stringWidth(text, font, size))
