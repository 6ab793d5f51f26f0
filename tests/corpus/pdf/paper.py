"""A small composer for the tests of single rules: reportlab with coordinates from the top left."""

from __future__ import annotations

import io

from reportlab.lib.colors import Color
from reportlab.pdfgen.canvas import Canvas

Box = tuple[float, float, float, float]
TEXT = """the sample was heated in a sealed tube and the spectrum of the product was compared with that of the pure
compound which had been measured before under the same conditions by another group in a larger vessel"""
WORDS = TEXT.split()


class Paper:
    """Pages of 600 by 800 points; y runs downwards."""

    def __init__(self, size: tuple[float, float] = (600.0, 800.0)) -> None:
        self._out = io.BytesIO()
        self.width, self.height = size
        self.canvas = Canvas(self._out, pagesize=size, invariant=1)
        self._word = 0

    def text(self, x: float, y: float, text: str, font: str = "Times-Roman", size: float = 10.0) -> None:
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, self.height - y, text)

    def body(self, x: float, y: float, width: float, lines: int, size: float = 10.0) -> float:
        """Justified running text; gives the y below it."""
        for n in range(lines):
            words: list[str] = []
            while self.canvas.stringWidth(" ".join([*words, self._next()]), "Times-Roman", size) < width:
                words.append(self._next())
                self._word += 1
            line = " ".join(words)
            last = n == lines - 1
            spare = width - self.canvas.stringWidth(line, "Times-Roman", size)
            text = self.canvas.beginText(x, self.height - y - size - n * 1.25 * size)
            text.setFont("Times-Roman", size)
            text.setWordSpace(0 if last else spare / max(1, len(words) - 1))
            text.textOut(line + ("." if last else ""))
            self.canvas.drawText(text)
        return y + lines * 1.25 * size

    def _next(self) -> str:
        return WORDS[self._word % len(WORDS)]

    def rect(self, box: Box, colour: tuple[float, float, float] = (0.2, 0.4, 0.8), fill: bool = True) -> None:
        x0, y0, x1, y1 = box
        self.canvas.setFillColor(Color(*colour))
        self.canvas.rect(x0, self.height - y1, x1 - x0, y1 - y0, stroke=0 if fill else 1, fill=1 if fill else 0)
        self.canvas.setFillColor(Color(0, 0, 0))

    def rule(self, x0: float, x1: float, y: float) -> None:
        self.canvas.line(x0, self.height - y, x1, self.height - y)

    def chart(self, box: Box, colour: tuple[float, float, float] = (0.8, 0.2, 0.2)) -> None:
        """Axes, ticks with numbers and a curve; everything stays in the box."""
        x0, y0, x1, y1 = box
        left, bottom = x0 + 18, y1 - 12
        self.canvas.setLineWidth(0.8)
        self.rule(left, x1, bottom)
        self.canvas.line(left, self.height - y0, left, self.height - bottom)
        for k in range(4):
            self.text(left + k * (x1 - left - 12) / 3.2, y1, str(10 * k), "Helvetica", 6)
            self.text(x0, bottom - k * (bottom - y0 - 8) / 3.0, f"0.{k}", "Helvetica", 6)
        self.canvas.setStrokeColor(Color(*colour))
        path = self.canvas.beginPath()
        path.moveTo(left, self.height - bottom + 2)
        for k in range(1, 9):
            path.lineTo(left + k * (x1 - left) / 8, self.height - (y0 + ((k * 37) % 11) / 11 * (bottom - y0)))
        self.canvas.drawPath(path)
        self.canvas.setStrokeColor(Color(0, 0, 0))

    def table(self, x: float, y: float, columns: int, rows: int, width: float, pitch: float = 14.0) -> Box:
        """Three rules, a header and rows of cells; gives its box."""
        self.rule(x, x + width, y)
        for row in range(rows + 1):
            for column in range(columns):
                text = f"Name {column}" if row == 0 else f"{row}.{column}{row * 7 % 10}"
                self.text(x + 4 + column * width / columns, y + 11 + row * pitch, text, size=9)
        self.rule(x, x + width, y + pitch + 1)
        bottom = y + (rows + 1) * pitch + 3
        self.rule(x, x + width, bottom)
        return x, y, x + width, bottom

    def page(self) -> None:
        self.canvas.showPage()

    def data(self) -> bytes:
        self.canvas.save()
        return self._out.getvalue()


def iou(first: Box, second: Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    along = min(first[3], second[3]) - max(first[1], second[1])
    if across <= 0 or along <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return across * along / (sum(areas) - across * along)
