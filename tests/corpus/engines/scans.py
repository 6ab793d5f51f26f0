"""Scanned papers with known content, and an engine on a loopback port that knows it.

A page is composed with text, rendered, and put into another PDF as a picture: nothing can be read there without OCR.
Pages have widths of their own (600, 601, ... points), by which the engine knows what it sees.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from s1pro.corpus.pdf.crops import CropSettings, render
from s1pro.corpus.pdf.drawing import ReadLimits
from s1pro.corpus.pdf.reader import load_page, open_document, read_loaded
from tests.corpus.pdf.paper import Box, Paper

HEIGHT = 800.0
FIGURE: Box = (150.0, 130.0, 420.0, 290.0)


@dataclass(frozen=True)
class Truth:
    """What is on a page: boxes in points, words with boxes in shares."""

    width: float
    figure: Box
    table: Box
    words: list[dict[str, Any]]

    def shares(self, box: Box) -> list[float]:
        return [box[0] / self.width, box[1] / HEIGHT, box[2] / self.width, box[3] / HEIGHT]

    def answer(self) -> dict[str, Any]:
        """What a good engine says."""
        return {
            "elements": [
                {"type": "chart", "box": self.shares(self.figure), "score": 0.97},
                {"type": "table", "box": self.shares(self.table), "score": 0.91, "text": "cells"},
            ],
            "words": self.words,
        }


def scanned(first: int, count: int) -> tuple[bytes, list[Truth]]:
    """A document of `count` scanned pages whose widths begin with `600 + first`."""
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    truths = []
    for number in range(first, first + count):
        width = 600.0 + number
        paper = Paper((width, HEIGHT))
        paper.body(60, 40, 480, 5)
        paper.chart(FIGURE, colour=(0.1, 0.1 * (number % 9), 0.7))
        paper.text(
            60, 310, f"Figure {number + 1}. Yield of the reaction against time at {number + 20} degrees, for all"
        )
        paper.text(60, 322.5, "samples of the second series.")
        paper.body(60, 345, 480, 4)
        paper.text(
            60, 420, f"The data of Fig. {number + 1} were measured twice. They are listed in Table {number + 1}."
        )
        paper.body(60, 430, 480, 5)
        paper.text(60, 520, f"Table {number + 1}: Conditions of run {number}.")
        table = paper.table(60, 530, 4, 5, 480)
        paper.body(60, 660, 480, 6)
        paper.page()
        document = open_document(paper.data())
        page = load_page(document, 0)
        content = read_loaded(page, 0, ReadLimits())
        scale = (width, HEIGHT, width, HEIGHT)
        words = [
            {"text": word.text, "box": [value / size for value, size in zip(word.box, scale, strict=True)]}
            for word in content.words
        ]
        pixels = render(page, (0, 0, width, HEIGHT), CropSettings(pad=0)).pixels
        document.close()
        truths.append(Truth(width, FIGURE, table, words))
        canvas.setPageSize((width, HEIGHT))
        from PIL import Image

        canvas.drawImage(ImageReader(Image.fromarray(pixels)), 0, 0, width, HEIGHT)
        canvas.showPage()
    canvas.save()
    return out.getvalue(), truths
