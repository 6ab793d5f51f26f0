"""Styles of the typst generator: set and show rules, written apart from the styles of the reportlab generator.

Every style names its labels and what its documents hold. Sources use `mark` and `marked`, which say where
things came to lie without taking room.
"""

from __future__ import annotations

from dataclasses import dataclass

MARKS = """
#let mark(id, at) = context [#metadata((id: id, at: at, pos: here().position())) <mark>]
#let marked(id, body) = box({ place(top + left, mark(id, "a")); body; place(bottom + right, mark(id, "b")) })
"""


@dataclass(frozen=True, kw_only=True)
class TypstStyle:
    """One look.

    Attributes:
        figure, table: labels as printed, `{}` for the number.
        chapters: numbers are "2.1", anew in every chapter.
        wide: some floats span both columns.
        letters: how panels are named: "(a)", "a", "A", or "" for captions below every panel.
        table_look: booktabs, grid, stripes or plain.
        extras: what else is in the text.
        tagged: the PDF carries a structure tree.
        rotated: pages with sideways floats are stored with `/Rotate 90`, so that they are shown upright.
        cropped: a crop box is set after composing.
    """

    name: str
    preamble: str
    figure: str = "Figure {}"
    table: str = "Table {}"
    chapters: bool = False
    wide: bool = False
    letters: str = "(a)"
    table_look: str = "booktabs"
    extras: tuple[str, ...] = ("equation", "list")
    column_width: float = 400.0
    tagged: bool = True
    sideways: bool = False
    rotated: bool = False
    cropped: bool = False
    floats_at_end: bool = False
    roman: bool = False


ARTICLE = """
#set page(paper: "a4", margin: (x: 2.6cm, y: 2.8cm), numbering: "1")
#set text(font: "New Computer Modern", size: 10pt)
#set par(justify: true, first-line-indent: 1.2em)
#set heading(numbering: "1.1")
#set math.equation(numbering: "(1)")
#show figure: set block(spacing: 1.8em)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: set text(size: 9pt)
"""

CONFERENCE = """
#set page(paper: "us-letter", columns: 2, margin: (x: 0.75in, top: 0.8in, bottom: 0.9in), numbering: "1")
#set columns(gutter: 0.25in)
#set text(font: "Libertinus Serif", size: 9.5pt)
#set par(justify: true, first-line-indent: 1em, spacing: 0.55em)
#set heading(numbering: "I.A.")
#show heading: it => align(center, smallcaps(block(above: 1.2em, below: 0.7em, it)))
#set math.equation(numbering: "(1)")
#set figure(placement: top, gap: 0.7em)
#show figure.where(kind: image): set figure(supplement: [Fig.])
#show figure.where(kind: table): set figure(supplement: [TABLE], numbering: "I")
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context [
  #set text(size: 8pt)
  #if it.kind == table [
    #align(center)[#it.supplement #it.counter.display(it.numbering)\\ #smallcaps(it.body)]
  ] else [
    #align(left)[#it.supplement #it.counter.display(it.numbering). #it.body]
  ]
]
"""

JOURNAL = """
#set page(paper: "a4", columns: 2, margin: (x: 1.7cm, top: 2.4cm, bottom: 2cm),
  header: [#text(8pt, gray)[ARTICLE #h(1fr) Journal of Composed Matter] #v(-0.4em)
    #line(length: 100%, stroke: 0.4pt + gray)],
  footer: context align(right, text(8pt, counter(page).display())))
#set columns(gutter: 0.7cm)
#set text(font: "Liberation Serif", size: 9pt)
#set par(justify: true, spacing: 0.65em, first-line-indent: 0.9em)
#show heading: set text(font: "Liberation Sans", size: 10pt, fill: rgb("#8a1538"))
#set math.equation(numbering: "(1)")
#set figure(placement: auto)
#show figure: set block(spacing: 1.4em)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context align(left, text(font: "Liberation Sans", size: 7.5pt)[
  *#it.supplement #it.counter.display(it.numbering)* | #it.body])
"""

BOOK = """
#set page(width: 6.1in, height: 9.2in, margin: (inside: 0.9in, outside: 0.7in, y: 0.85in),
  header: context [#emph[Composed Science] #h(1fr) #counter(page).display()])
#set text(font: "Libertinus Serif", size: 10pt)
#set par(justify: true, first-line-indent: 1.3em, spacing: 0.65em)
#set heading(numbering: "1.1")
#show figure: set block(spacing: 1.6em)
#show heading.where(level: 1): it => {
  counter(figure.where(kind: image)).update(0)
  counter(figure.where(kind: table)).update(0)
  block(above: 1.6em, below: 1.2em, text(17pt, it))
}
#set figure(numbering: n => numbering("1.1", counter(heading).get().first(), n))
#set math.equation(numbering: "(1)")
#show figure.where(kind: image): set figure(supplement: [Fig.])
#show figure.where(kind: image): it => block(width: 100%, breakable: false,
  grid(columns: (62%, 1fr), gutter: 1em, align: (left, left + horizon), it.body, it.caption))
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context align(left, text(size: 8.5pt)[
  *#it.supplement #it.counter.display(it.numbering)*#h(0.6em)#it.body])
"""

PREPRINT = """
#set page(paper: "us-letter", margin: 1in, numbering: "1")
#set text(font: "Liberation Serif", size: 11.5pt)
#set par(justify: false, leading: 1.3em, first-line-indent: 2em, spacing: 1.3em)
#set par.line(numbering: n => text(7pt, gray)[#n])
#set heading(numbering: none)
#set math.equation(numbering: "(1)")
#show figure: set par(leading: 0.65em)
#show figure: set par.line(numbering: none)
#show figure.caption: it => context align(left, text(size: 10.5pt)[
  *#it.supplement #it.counter.display(it.numbering).* #it.body])
"""

REPORT = """
#set page(paper: "a4", margin: (x: 2.2cm, y: 2.5cm),
  header: [#box(fill: rgb("#005b96"), inset: 4pt, text(8pt, white)[*INSTITUTE*]) #h(1fr)
    #text(8pt)[Technical report 12]],
  footer: context [#line(length: 100%, stroke: 0.5pt) #text(8pt)[Confidential #h(1fr) page #counter(page).display()]])
#set text(font: "Liberation Sans", size: 10pt)
#set par(spacing: 1em)
#set heading(numbering: "1.1")
#set math.equation(numbering: "(1)")
#show figure: set block(spacing: 1.8em)
#show figure.where(kind: table): set block(breakable: true)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context align(center, text(size: 9pt, style: "italic")[
  #it.supplement #it.counter.display(it.numbering) – #it.body])
"""

REVIEW = """
#set page(paper: "us-letter", columns: 2, margin: (x: 0.8in, y: 0.9in), numbering: "1")
#set text(font: "New Computer Modern", size: 9.5pt)
#set par(justify: true, first-line-indent: 1em, spacing: 0.6em)
#set math.equation(numbering: "(1)")
#set figure(placement: auto)
#show figure.where(kind: image): set figure(supplement: [FIG.])
#show figure.where(kind: table): set figure(supplement: [TABLE], numbering: "I")
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context align(left, text(size: 8.5pt)[
  #smallcaps[#it.supplement #it.counter.display(it.numbering)]. #it.body])
"""

TINTED = """
#set page(paper: "us-letter", columns: 2, margin: (x: 0.7in, y: 0.85in), numbering: "1")
#set columns(gutter: 0.3in)
#set text(font: "Libertinus Serif", size: 9.5pt)
#set par(justify: true, spacing: 0.6em, first-line-indent: 1em)
#set math.equation(numbering: "(1)")
#set figure(placement: auto, gap: 0.8em)
#show figure.where(kind: image): it => block(fill: luma(250), inset: 5pt, width: 100%, it)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => context align(left, text(font: "Liberation Sans", size: 7.5pt)[
  #text(fill: rgb("#0a5"), weight: "bold")[#it.supplement #it.counter.display(it.numbering)] — #it.body])
"""

HANDBOOK = """
#set page(paper: "a5", margin: (x: 1.6cm, y: 1.9cm), header: [#text(8pt)[#smallcaps[Handbook of methods] #h(1fr) 7]])
#set text(font: "Liberation Serif", size: 9pt)
#set par(justify: true, spacing: 0.9em)
#set heading(numbering: "1")
#set math.equation(numbering: "(1)")
#show figure: set block(spacing: 1.6em)
#show figure.where(kind: image): set figure.caption(position: top)
#show figure.where(kind: table): set figure.caption(position: bottom)
#show figure.caption: it => context align(left, text(size: 8.5pt)[
  #text(fill: rgb("#a11"), weight: "bold")[#it.supplement #it.counter.display(it.numbering)]\\ #it.body])
"""

TYPST_STYLES: tuple[TypstStyle, ...] = (
    TypstStyle(
        name="article", preamble=ARTICLE, figure="Figure {}", letters="", extras=("equation", "list", "footnote")
    ),
    TypstStyle(
        name="conference",
        preamble=CONFERENCE,
        figure="Fig. {}",
        table="TABLE {}",
        wide=True,
        roman=True,
        column_width=240,
        extras=("equation", "algorithm"),
        tagged=False,
    ),
    TypstStyle(
        name="journal",
        preamble=JOURNAL,
        wide=True,
        letters="a",
        column_width=235,
        table_look="plain",
        extras=("equation", "footnote"),
    ),
    TypstStyle(
        name="book",
        preamble=BOOK,
        figure="Fig. {}",
        chapters=True,
        letters="a",
        column_width=320,
        extras=("equation", "code", "list"),
        tagged=False,
    ),
    TypstStyle(
        name="preprint",
        preamble=PREPRINT,
        letters="A",
        table_look="grid",
        column_width=430,
        floats_at_end=True,
        tagged=False,
        sideways=True,
    ),
    TypstStyle(
        name="report",
        preamble=REPORT,
        letters="(a)",
        table_look="stripes",
        column_width=430,
        sideways=True,
        rotated=True,
        extras=("list", "code", "long"),
    ),
    TypstStyle(
        name="review",
        preamble=REVIEW,
        figure="FIG. {}",
        table="TABLE {}",
        wide=True,
        roman=True,
        letters="(a)",
        column_width=235,
        cropped=True,
        tagged=False,
    ),
)

# Never looked at while the extractor was written.
HELD_OUT_STYLES: tuple[TypstStyle, ...] = (
    TypstStyle(
        name="tinted",
        preamble=TINTED,
        letters="(a)",
        table_look="stripes",
        column_width=225,
        tagged=False,
        extras=("equation", "footnote", "algorithm"),
    ),
    TypstStyle(name="handbook", preamble=HANDBOOK, letters="", table_look="grid", column_width=320, tagged=False),
)
