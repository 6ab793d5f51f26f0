"""Small papers with one plot each, whose content is known."""

from __future__ import annotations

import io

WORDS = (
    "The crystal was annealed in vacuum and the lattice was measured by diffraction afterwards.",
    "The film shows a high conductivity, which depends on the density of defects in the oxide.",
    "A catalyst of palladium raises the yield of the reaction, as earlier studies have found.",
)


def plotted(number: int, *, figure: int) -> bytes:
    """A paper of one page. Papers with the same `figure` show the same plot; everything else differs by `number`."""
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(595, 842), invariant=1)
    canvas.setFont("Times-Roman", 10)
    for line in range(14):
        canvas.drawString(72, 780 - 13 * line, f"{WORDS[(line + number) % 3]} ({number}.{line})")
    canvas.drawString(72, 780 - 13 * 14, f"Figure 1 shows how the temperature of sample {number} rises.")
    _plot(canvas, figure)
    canvas.setFont("Times-Roman", 10)
    canvas.drawString(150, 290, f"Figure 1. Temperature of sample {number} against time.")
    for line in range(14):
        canvas.drawString(72, 260 - 13 * line, f"{WORDS[(line + number + 1) % 3]} ({number}.{line + 20})")
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _plot(canvas: object, figure: int) -> None:
    """A frame with ticks, two labelled axes and one line; its values and scale depend on `figure`."""
    from reportlab.pdfgen.canvas import Canvas

    assert isinstance(canvas, Canvas)
    left, bottom, width, height = 170, 360, 260, 190
    canvas.setLineWidth(0.8)
    canvas.rect(left, bottom, width, height)
    canvas.setFont("Helvetica", 8)
    top = 100 * (figure + 2)
    for step in range(6):
        x, y = left + width * step / 5, bottom + height * step / 5
        canvas.line(x, bottom, x, bottom + 4)
        canvas.line(left, y, left + 4, y)
        canvas.drawCentredString(x, bottom - 11, f"{step * (figure + 1)}")
        canvas.drawRightString(left - 4, y - 3, f"{round(top * step / 5)}")
    canvas.drawCentredString(left + width / 2, bottom - 26, "Time (s)")
    canvas.saveState()
    canvas.translate(left - 36, bottom + height / 2)
    canvas.rotate(90)
    canvas.drawCentredString(0, 0, "Temperature (K)")
    canvas.restoreState()
    canvas.setStrokeColorRGB(
        *[(0, 0.4, 0.7), (0.8, 0.3, 0), (0, 0.6, 0.4), (0.5, 0.2, 0.7), (0.2, 0.2, 0.2)][figure % 5]
    )
    canvas.setLineWidth(1.6)
    path = canvas.beginPath()
    for step in range(21):
        share = step / 20
        value = (share, share**2, share**0.5, 0.5 + 0.4 * share, 1 - (1 - share) ** 3)[figure % 5]
        (path.lineTo if step else path.moveTo)(left + width * share, bottom + height * 0.95 * value)
    canvas.drawPath(path)
    canvas.setStrokeColorRGB(0, 0, 0)
