"""The layout engine of the reportlab generator: pages, columns, floats, and the truth about them.

A page begins with its running header, then perhaps a float over its full width at the top or bottom; text and floats of
column width flow through what is left. A float that does not fit waits at the top of the next column while text fills
the rest of this one, as in print.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from tests.corpus.composed import drawings, words
from tests.corpus.composed.pen import CJK, Pen, Sheet
from tests.corpus.composed.rich import ROMAN, Line, Run, draw_lines, plain, wrap
from tests.corpus.composed.styles import CaptionLook, Style
from tests.corpus.composed.truth import Box, TrueElement, TruePage


class Composer:
    """State of one document under way."""

    def __init__(self, style: Style, seed: int) -> None:
        self.style = style
        self.rng = random.Random(f"reportlab {style.name} {seed}")
        self.seed = seed
        self.pen = Pen(self._sheet(0), seed)
        self.numbers: Counter[str] = Counter()
        self.elements: list[TrueElement] = []
        self.neutral: list[tuple[int, Box]] = []
        self.pages: list[TruePage] = []
        self.page = 0
        self.running_title = words.title(self.rng)
        self._begin(self._sheet(0))

    # ---- pages and columns

    def _sheet(self, page: int, *, landscape: bool = False) -> Sheet:
        style = self.style
        width, height = style.page[::-1] if landscape else style.page
        rotation = 0 if landscape else style.rotations[page % len(style.rotations)]
        return Sheet(
            width=width, height=height, rotation=rotation, crop_offset=style.crop_offset, user_unit=style.user_unit
        )

    def _begin(self, sheet: Sheet, *, columns: int | None = None) -> None:
        style = self.style
        self.sheet = sheet
        self.pages.append(TruePage(width=sheet.width, height=sheet.height, rotation=sheet.rotation))
        side, top, bottom = style.margins
        self.left, self.right = side + style.side_margin, sheet.width - side
        self.top, self.bottom = top, sheet.height - bottom
        self.columns = columns or style.columns
        self.column_width = (self.right - self.left - style.gap * (self.columns - 1)) / self.columns
        self.column, self.y = 0, self.top
        self._header()

    def new_page(self, *, landscape: bool = False, columns: int | None = None) -> None:
        self.pen.end()
        self.page += 1
        sheet = self._sheet(self.page, landscape=landscape)
        self.pen.begin(sheet)
        self._begin(sheet, columns=columns)

    def finish(self) -> bytes:
        self.pen.end()
        return self.pen.finish()

    @property
    def x(self) -> float:
        return self.left + self.column * (self.column_width + self.style.gap)

    @property
    def room(self) -> float:
        return self.bottom - self.y

    def next_column(self) -> None:
        """The next column, or the next page with its full-width floats."""
        if self.column + 1 < self.columns:
            self.column += 1
            self.y = self.top
        else:
            self.new_page()
            if self.columns > 1 and "full" in self.style.features and self.rng.random() < 0.5:
                self._full_width_float()

    def _full_width_float(self) -> None:
        from tests.corpus.composed import floats

        width = self.right - self.left
        kind = floats.plan_table if self.rng.random() < 0.3 else floats.plan_figure
        planned = kind(self, width, wide=True)
        if planned.height > 0.6 * (self.bottom - self.top):
            return
        if self.rng.random() < 0.7:
            planned.draw(self.left, self.top)
            self.top += planned.height + 14
            self.y = self.top
        else:
            self.bottom -= planned.height + 14
            planned.draw(self.left, self.bottom + 14)

    def _header(self) -> None:
        """Running header, page number, logo, rules: decoys."""
        style, pen, rng = self.style, self.pen, self.rng
        regular = style.fonts[0]
        number = str(self.page + 1)
        side = style.margins[0]
        pen.text(self.sheet.width / 2, self.sheet.height - 28, number, style.fonts[0], 9, anchor="middle")
        if style.header == "none":
            return
        if style.header == "logo":
            drawings.logo(pen, side, 24)
        elif style.header == "color":
            pen.rect(0, 0, self.sheet.width, 16, fill="#7a1f2b")
            pen.text(side, 34, "RESEARCH ARTICLE", "Helvetica-Bold", 8, color="#7a1f2b")
        else:
            pen.text(side, 36, "第 12 卷" if regular == CJK else f"{rng.choice(words.SURNAMES)} et al.", regular, 8)
            pen.line(side, 40, self.sheet.width - side, 40, 0.5)
        if style.header == "logo":
            pen.line(side, self.sheet.height - 40, self.sheet.width - side, self.sheet.height - 40, 0.4, "#999999")

    # ---- text

    def lines(self, text: str, width: float, indent: float = 0.0) -> list[Line]:
        return wrap([Run(text, self.style.fonts[0])], self.style.size, width, indent)

    def words(self) -> str:
        """A paragraph in the language of the style."""
        return words.chinese_paragraph(self.rng) if self.style.fonts[0] == CJK else words.paragraph(self.rng)

    def paragraph(self, text: str | None = None, *, limit: float | None = None) -> None:
        """A justified paragraph that runs on through columns; with `limit` it ends at that height of this column."""
        style = self.style
        indent = style.size if self.rng.random() < 0.8 else 0.0
        lines = self.lines(text or self.words(), self.column_width, indent)
        first = True
        while lines:
            end = self.bottom if limit is None else limit
            number = int((end - self.y) // style.leading)
            if number <= 0:
                if limit is not None:
                    return
                self.next_column()
                continue
            part, lines = lines[:number], lines[number:]
            self.y = draw_lines(
                self.pen, part, self.x, self.y, self.column_width, style.size, style.leading,
                align="justify", first_indent=indent if first else 0.0, last=not lines,
            )  # fmt: skip
            first = False

    def fill_column(self) -> None:
        """Text down to the bottom, so that the next thing stands at the top of a column."""
        while self.room >= self.style.leading:
            self.paragraph(limit=self.bottom)
        self.next_column()

    def fill_page(self) -> None:
        """Text down to the bottom of the last column."""
        while True:
            while self.room >= self.style.leading:
                self.paragraph(limit=self.bottom)
            if self.column + 1 == self.columns:
                return
            self.next_column()

    def heading(self) -> None:
        style = self.style
        if self.room < 4 * style.leading + 20:
            self.next_column()
        if self.y > self.top:
            self.y += 10
        self.numbers["section"] += 1
        text = "实验与方法" if style.fonts[0] == CJK else words.title(self.rng)
        lines = wrap([Run(f"{self.numbers['section']}. {text}", style.fonts[1])], style.size + 1.5, self.column_width)
        self.y = draw_lines(self.pen, lines, self.x, self.y, self.column_width, style.size + 1.5, style.leading + 2)
        self.y += 4

    # ---- labels and captions

    def label(self, kind: str, look: CaptionLook) -> str:
        """The next label of its kind, as printed."""
        self.numbers[kind] += 1
        number = self.numbers[kind]
        text = {
            "plain": str(number),
            "roman": ROMAN[number - 1] if kind == "table" else str(number),
            "chapter": f"{1 + self.seed % 5}.{number}",
            "supplement": f"S{number}",
        }[self.style.numbering]
        if kind == "scheme":
            return f"Scheme {text}"
        return look.label.format(text)

    def caption_words(self, look: CaptionLook, panels: tuple[str, ...], *, short: bool = False) -> list[Run]:
        """The words of a caption as runs: italics, superscripts, a bold first sentence."""
        regular, bold, italic = self.style.caption_fonts
        rng = self.rng
        if regular == CJK:
            return [Run(rng.choice(words.CHINESE_CAPTIONS), CJK)]
        text = words.caption(rng, () if short else panels)
        if short:
            text = text.split(". ")[0].rstrip(".") + "."
        if look.mode == "title":
            head, _, rest = text.partition(". ")
            runs = [Run(head.rstrip(".") + ".", bold)] + ([Run(" " + rest, regular)] if rest else [])
        else:
            runs = [Run(text, italic if look.italic else regular)]
        if rng.random() < 0.25:
            runs += [Run(" Rates in 10", regular), Run("−3", regular, 0.35), Run(" mol L", regular)]
            runs += [Run("−1", regular, 0.35), Run(".", regular)]
        if rng.random() < 0.25:
            runs += [Run(" Data of ", regular), Run(rng.choice(("E. coli", "in situ", "ab initio")), italic)]
            runs += [Run(" runs.", regular)]
        return runs

    def caption_lines(self, label: str, look: CaptionLook, body: list[Run], width: float) -> list[Line]:
        """Label and words, wrapped."""
        width -= 8 if look.band else 0
        regular, bold, _ = self.style.caption_fonts
        font = bold if look.bold or look.mode == "title" else regular
        if look.mode == "own_line":
            head = wrap([Run(label, font)], self.style.caption_size, width)
            return head + wrap(body, self.style.caption_size, width)
        separator = look.separator if look.separator.endswith(" ") else look.separator + " "
        first = Run(label + separator.rstrip() + " ", font)
        return wrap([first, *body], self.style.caption_size, width)

    def caption_height(self, lines: list[Line]) -> float:
        return len(lines) * self.style.caption_size * 1.22

    def draw_caption(self, lines: list[Line], look: CaptionLook, x: float, y: float, width: float) -> float:
        size = self.style.caption_size
        if look.band:
            self.pen.rect(x, y - 1, width, self.caption_height(lines) + 3, fill=look.band)
            x, width = x + 4, width - 8
        align = "left"
        if look.align == "center" and (look.mode == "own_line" or len(lines) == 1):
            align = "center"
        elif len(lines) > 2 and look.mode != "own_line":
            align = "justify"
        return draw_lines(self.pen, lines, x, y, width, size, size * 1.22, align=align)

    def add(self, element: TrueElement) -> None:
        self.elements.append(element)

    def again(self, element: TrueElement, box: Box) -> None:
        """The next part of an element that goes on on this page."""
        self.elements.append(replace(element, page=self.page, box=box, continued=True))


def caption_text(runs: list[Run]) -> str:
    """The words of a caption for the truth."""
    return " ".join(plain(runs).split())
