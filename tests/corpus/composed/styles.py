"""Styles of publishers for the reportlab generator, each a plain record of choices."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.corpus.composed.pen import CJK

SERIF = ("Times-Roman", "Times-Bold", "Times-Italic")
SANS = ("Helvetica", "Helvetica-Bold", "Helvetica-Oblique")
CHINESE = (CJK, CJK, CJK)
A4 = (595.28, 841.89)
LETTER = (612.0, 792.0)


@dataclass(frozen=True, kw_only=True)
class CaptionLook:
    """How captions are set.

    Attributes:
        label: with the number for `{}`: "Fig. {}".
        mode: "run_in" (label, separator, words), "own_line" (label above the words), "title" (the first sentence bold).
        separator: between label and words.
        bold: the label is bold.
        above: stands above its element.
        band: colour of a bar behind the caption, over the whole width.
    """

    label: str
    mode: str = "run_in"
    separator: str = " "
    bold: bool = True
    italic: bool = False
    align: str = "left"
    above: bool = False
    band: str = ""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Page, type and habits of one publisher.

    Attributes:
        numbering: plain "3", "roman" (tables "III"), "chapter" ("2.3") or "supplement" ("S3").
        rotations: `/Rotate` of pages in turn.
        features: what documents of the style have: side captions, sideways tables, landscape pages, long tables, pairs.
    """

    name: str
    page: tuple[float, float] = LETTER
    columns: int = 2
    margins: tuple[float, float, float] = (54, 60, 60)  # left and right, top, bottom
    gap: float = 18
    fonts: tuple[str, str, str] = SERIF
    size: float = 9.5
    leading: float = 11.5
    caption_size: float = 8.0
    caption_fonts: tuple[str, str, str] = SERIF
    figure: CaptionLook = field(default_factory=lambda: CaptionLook(label="Fig. {}", separator=". "))
    table: CaptionLook = field(default_factory=lambda: CaptionLook(label="Table {}", mode="own_line", above=True))
    rules: tuple[str, ...] = ("booktabs",)
    panel_style: str = "(a)"
    numbering: str = "plain"
    header: str = "line"
    rotations: tuple[int, ...] = (0,)
    crop_offset: tuple[float, float] = (0.0, 0.0)
    user_unit: int = 1
    features: frozenset[str] = frozenset()
    side_margin: float = 0.0


STYLES: tuple[Style, ...] = (
    Style(name="elsevier", features=frozenset({"footnote", "full", "equation_after_table"})),
    Style(
        name="chemistry",
        size=9,
        leading=10.8,
        figure=CaptionLook(label="Figure {}", separator=". "),
        table=CaptionLook(label="Table {}", separator=". ", above=True),
        rules=("plain", "booktabs"),
        features=frozenset({"schemes", "full"}),
    ),
    Style(
        name="springer",
        page=A4,
        columns=1,
        margins=(80, 70, 70),
        size=10,
        leading=12.2,
        caption_size=8.5,
        figure=CaptionLook(label="Fig. {}", separator=" "),
        table=CaptionLook(label="Table {}", separator=" ", above=True),
        features=frozenset({"long_tables", "side", "algorithm"}),
    ),
    Style(
        name="engineering",
        page=LETTER,
        size=9.5,
        leading=11.2,
        figure=CaptionLook(label="Fig. {}", separator=". ", bold=False),
        table=CaptionLook(label="TABLE {}", mode="own_line", bold=False, align="center", above=True),
        rules=("grid", "booktabs"),
        numbering="roman",
        features=frozenset({"full", "algorithm"}),
    ),
    Style(
        name="letters",
        page=A4,
        fonts=SERIF,
        caption_fonts=SANS,
        caption_size=7.5,
        figure=CaptionLook(label="Figure {}", mode="title", separator=" | "),
        table=CaptionLook(label="Table {}", mode="title", separator=" | ", above=True),
        rules=("plain", "shaded"),
        panel_style="a",
        header="color",
        features=frozenset({"full", "box"}),
    ),
    Style(
        name="open",
        page=LETTER,
        columns=1,
        margins=(45, 65, 65),
        side_margin=150,
        size=10,
        leading=12.5,
        caption_size=8.5,
        figure=CaptionLook(label="Fig {}", mode="title", separator=". "),
        table=CaptionLook(label="Table {}", mode="title", separator=". ", above=True),
        rules=("grid", "shaded"),
        panel_style="A",
        header="logo",
        features=frozenset({"long_tables", "list"}),
    ),
    Style(
        name="report",
        page=A4,
        columns=1,
        margins=(72, 72, 72),
        fonts=SANS,
        caption_fonts=SANS,
        size=10,
        leading=13,
        caption_size=9,
        figure=CaptionLook(label="Figure {}", separator=": ", bold=False, italic=True, align="center", above=True),
        table=CaptionLook(label="Table {}", separator=": ", bold=False, italic=True, align="center"),
        rules=("grid", "shaded"),
        features=frozenset({"landscape", "code", "list", "long_tables", "pairs"}),
    ),
    Style(
        name="chinese",
        page=A4,
        fonts=CHINESE,
        caption_fonts=CHINESE,
        size=9.5,
        leading=13.5,
        figure=CaptionLook(label="图 {}", separator="  ", bold=False, align="center"),
        table=CaptionLook(label="表 {}", separator="  ", bold=False, align="center", above=True),
        rules=("booktabs",),
        features=frozenset({"full"}),
    ),
    Style(
        name="thesis",
        page=A4,
        columns=1,
        margins=(90, 80, 80),
        size=11,
        leading=15,
        caption_size=9.5,
        figure=CaptionLook(label="Figure {}", separator=". ", align="center"),
        table=CaptionLook(label="Table {}", separator=". ", align="center", above=True),
        numbering="chapter",
        user_unit=2,
        header="line",
        features=frozenset({"sideways", "code", "footnote", "pairs"}),
    ),
    Style(
        name="supplement",
        page=LETTER,
        columns=1,
        margins=(72, 72, 72),
        size=11,
        leading=14,
        caption_size=10,
        figure=CaptionLook(label="Figure {}", separator=". "),
        table=CaptionLook(label="Table {}", separator=". ", above=True),
        numbering="supplement",
        rotations=(0, 90, 270, 180),
        header="none",
        features=frozenset({"long_tables"}),
    ),
    Style(
        name="cropped",
        page=(540, 720),
        margins=(42, 54, 54),
        crop_offset=(36.0, 60.0),
        figure=CaptionLook(label="FIG. {}", separator=". ", bold=False),
        table=CaptionLook(label="TABLE {}", separator=". ", bold=False, above=True),
        rules=("booktabs", "plain"),
        numbering="roman",
        features=frozenset({"full", "equation_after_table"}),
    ),
)

# Never looked at while the extractor was written; their scores are what to believe.
HELD_OUT_STYLES: tuple[Style, ...] = (
    Style(
        name="magazine",
        page=LETTER,
        columns=3,
        margins=(40, 58, 58),
        gap=14,
        fonts=SANS,
        caption_fonts=SANS,
        size=8,
        leading=10,
        caption_size=7,
        figure=CaptionLook(label="Figure {}", separator=" — ", italic=True),
        table=CaptionLook(label="Table {}", separator=" — ", above=True),
        rules=("shaded", "plain"),
        panel_style="A",
        header="color",
        features=frozenset({"full", "box"}),
    ),
    Style(
        name="frontier",
        page=A4,
        margins=(50, 66, 60),
        fonts=SERIF,
        caption_fonts=SANS,
        size=9.5,
        leading=12,
        caption_size=7.8,
        figure=CaptionLook(label="FIGURE {}", separator=" | ", band="#e3ecf4"),
        table=CaptionLook(label="TABLE {}", separator=" | ", above=True, band="#e3ecf4"),
        rules=("booktabs", "shaded"),
        panel_style="A",
        header="logo",
        features=frozenset({"full", "footnote", "list"}),
    ),
    Style(
        name="margin",
        page=(595, 842),
        columns=1,
        margins=(48, 64, 64),
        side_margin=150,
        size=10.5,
        leading=13.5,
        caption_size=8,
        figure=CaptionLook(label="Fig. {}", separator=" "),
        table=CaptionLook(label="Table {}", separator=" ", above=True),
        rules=("booktabs",),
        panel_style="a",
        rotations=(0, 270),
        features=frozenset({"margin_captions", "code", "algorithm"}),
    ),
)
