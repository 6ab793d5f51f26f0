"""Papers by typst: real figures, tables and floats; the source is written by a seeded generator."""

from __future__ import annotations

import random

from tests.corpus.composed import charts, words
from tests.corpus.composed.truth import Box, ComposedDocument
from tests.corpus.composed.typst_layout import Known, Source, composed
from tests.corpus.composed.typst_styles import TYPST_STYLES, TypstStyle


def compose(style: TypstStyle, seed: int, *, floats: int = 9) -> ComposedDocument:
    """One paper with about `floats` figures and tables."""
    source = Source(style, random.Random(f"typst {style.name} {seed}"), first_picture=3 * seed)
    _opening(source)
    for number in range(floats):
        if number % 3 == 0:
            _heading(source)
        for _ in range(source.rng.randint(1, 3)):
            source.parts.append(escaped(words.paragraph(source.rng)) + "\n\n")
        if source.rng.random() < 0.5:
            _extra(source)
        _float(source)
    source.parts.append(escaped(words.paragraph(source.rng, 8)) + "\n\n")
    if "long" in style.extras:
        _long_table(source)
    if style.sideways:
        _sideways(source)
    source.parts += source.late
    return composed(source, f"typst-{style.name}-{seed}")


def documents(
    count: int, *, floats: int = 9, first_seed: int = 0, styles: tuple[TypstStyle, ...] = TYPST_STYLES
) -> list[ComposedDocument]:
    """`count` papers, styles in turn."""
    return [compose(styles[i % len(styles)], first_seed + i // len(styles), floats=floats) for i in range(count)]


def numbered(label: str) -> str:
    """The number as an argument of `figure`: typst would number floats by where they come to lie."""
    return f'numbering: (..n) => "{label.split()[-1]}"'


def escaped(text: str) -> str:
    """Plain text as typst mark-up."""
    for character in "\\#$*_[]<>@`~":
        text = text.replace(character, "\\" + character)
    return text


def _opening(source: Source) -> None:
    rng = source.rng
    title = f"{words.title(rng)}: {words.title(rng).lower()}"
    authors = ", ".join(f"{rng.choice('ABCDEF')}. {name}" for name in rng.sample(words.SURNAMES, 4))
    abstract = escaped(words.paragraph(rng, 6))
    head = f"#align(center)[#text(17pt)[*{escaped(title)}*]\n\n {authors}]\n"
    head += f"#block(inset: (x: 1.5em))[*Abstract.* {abstract}]\n"
    if source.style.wide:
        head = f'#place(top + center, scope: "parent", float: true, clearance: 2em)[{head}]\n'
    source.parts.append(head)


def _heading(source: Source) -> None:
    if source.style.chapters and source.numbers["section"] % 2 == 0:
        source.numbers["chapter"] += 1
        source.numbers["figure"] = source.numbers["table"] = 0
        source.parts.append(f"= {words.title(source.rng)}\n\n")
    else:
        source.parts.append(f"{'==' if source.style.chapters else '='} {words.title(source.rng)}\n\n")
    source.numbers["section"] += 1


def _float(source: Source) -> None:
    """A figure or table, in the text or at the end of the manuscript."""
    style, rng = source.style, source.rng
    wide = style.wide and rng.random() < 0.3
    width = style.column_width * (2.05 if wide else 1.0)
    if style.name == "book":
        width *= 0.6
    if rng.random() < 0.36:
        if style.name == "book":
            width /= 0.6
        text = _table(source, width)
    else:
        text = _figure(source, width)
    if wide:
        text = text.replace("#figure(", '#figure(scope: "parent", placement: auto, ', 1)
    if style.floats_at_end:
        source.late.append("#pagebreak(weak: true)\n" + text)
    else:
        source.parts.append(text)


def _caption(source: Source, letters: tuple[str, ...] = ()) -> tuple[str, str]:
    """Mark-up and plain words of a caption."""
    rng = source.rng
    text = words.caption(rng, letters)
    if source.style.name in ("article", "report") or rng.random() < 0.3:
        text = text.split(". ")[0].rstrip(".") + "."
    mark_up = escaped(text)
    if rng.random() < 0.3:
        mark_up += " Units of 10#super[−6] mol L#super[−1], runs of _E. coli_."
        text += " Units of 10−6 mol L−1, runs of E. coli."
    return mark_up, text


def _figure(source: Source, width: float) -> str:
    rng = source.rng
    dice = rng.random()
    number = source.turn()
    if dice < 0.36:
        body, panels = _panel_grid(source, width)
    elif dice < 0.66:
        body, panels = source.picture(charts.single(number), width * rng.uniform(0.7, 0.98)), ()
    elif dice < 0.8:
        body, panels = source.picture(charts.photograph(number), width * rng.uniform(0.5, 0.9)), ()
    else:
        body, panels = _diagram(rng, width * rng.uniform(0.7, 0.95)), ()
    label = source.label("figure")
    mark_up, text = _caption(source, tuple(name for name, _ in panels))
    name = source.know(Known("figure", label, text, panels))
    content = f'marked("{name}", {body.replace("PANEL", name)})'
    return f"#figure({content}, kind: image, {numbered(label)}, caption: [{mark_up}])\n\n"


def _panel_grid(source: Source, width: float) -> tuple[str, tuple[tuple[str, Box | None], ...]]:
    """Panels in one picture of matplotlib, or pictures in a grid with letters or captions of their own."""
    rng, letters = source.rng, source.style.letters
    shape = rng.choice(((2, 1), (2, 2), (3, 1) if width > 300 else (2, 1)))
    if letters and rng.random() < 0.5:
        picture = charts.grid(source.turn(), *shape, letters)
        return source.picture(picture, width * 0.98), picture.panels
    cells, panels = [], []
    inner = (width - 14 * (shape[0] - 1)) / shape[0] * 0.97
    for i in range(shape[0] * shape[1]):
        name = "abcdef"[i].upper() if letters == "A" else "abcdef"[i]
        picture = charts.single(source.turn()) if rng.random() < 0.6 else charts.photograph(source.turn())
        image = source.picture(picture, inner)
        if letters:
            shown = f"#text(9pt)[*{letters.replace('a', name).replace('A', name)}*]"
            cell = f"align(left, stack(spacing: 3pt, [{shown}], {image}))"
        else:
            words_ = f"{rng.choice(words.ADJECTIVES).capitalize()} {rng.choice(words.NOUNS)}"
            cell = f"align(center, stack(spacing: 6pt, {image}, text(8.5pt)[({name}) {words_}]))"
        cells.append(f'marked("PANEL-{name}", {cell})')
        panels.append((name, None))
    return f"grid(columns: {shape[0]}, gutter: 14pt, align: top, {', '.join(cells)})", tuple(panels)


def _diagram(rng: random.Random, width: float) -> str:
    """Boxes, circles and arrows of typst's own shapes."""
    height = width * rng.uniform(0.4, 0.6)
    number = 4 if width > 220 else 3
    shapes = []
    for i in range(number):
        x = width * i / number
        y = height * (0.1 if i % 2 else 0.5)
        kind = rng.choice(
            (
                'rect(width: {w:.0f}pt, height: {h:.0f}pt, fill: rgb("#e8f0fa"), radius: 3pt)',
                "ellipse(width: {w:.0f}pt, height: {h:.0f}pt, stroke: 0.8pt)",
            )
        )
        shape = kind.format(w=width / number * 0.72, h=height * 0.34)
        inner = f"{shape[:-1]}, inset: 2pt)[#align(center + horizon, text(6.5pt)[{rng.choice(words.NOUNS)}])]"
        shapes.append(f"place(dx: {x:.1f}pt, dy: {y:.1f}pt, {inner})")
        if i:
            y0 = height * (0.1 if (i - 1) % 2 else 0.5) + height * 0.17
            start = f"({x - width / number * 0.28:.1f}pt, {y0:.1f}pt)"
            shapes.append(f"place(line(start: {start}, end: ({x:.1f}pt, {y + height * 0.17:.1f}pt), stroke: 0.8pt))")
    return f"box(width: {width:.1f}pt, height: {height:.1f}pt, {{ {'; '.join(shapes)} }})"


def _cells(source: Source, columns: int, rows: int) -> list[list[str]]:
    return [[escaped(cell) for cell in row] for row in words.table_cells(source.rng, columns, rows)]


def _table_call(look: str, cells: list[list[str]], name: str = "", size: float = 8.5) -> str:
    """A call of `table`; with a name every row is marked."""
    columns = len(cells[0])
    strokes = {"booktabs": "none", "plain": "none", "grid": "0.5pt", "stripes": "none"}[look]
    fill = (
        'fill: (_, y) => if y == 0 { rgb("#cfe0ee") } else if calc.even(y) { rgb("#f0f4f8") }, '
        if look == "stripes"
        else ""
    )

    def row_of(row: list[str], number: int) -> str:
        shown = [f"[*{cell}*]" if number == 0 else f"[{cell}]" for cell in row]
        if name:
            shown[0] = f'[#place(top + left, mark("{name}/{number}", "a")) {shown[0][1:]}'
            shown[-1] = f'{shown[-1][:-1]} #place(bottom + right, mark("{name}/{number}", "b"))]'
        return ", ".join(shown)

    rule = {"booktabs": "table.hline(stroke: 0.9pt), ", "plain": ""}.get(look, "")
    thin = "table.hline(stroke: 0.4pt), " if look in ("booktabs", "plain") else ""
    body = ", ".join(row_of(row, i) for i, row in enumerate(cells) if i)
    return (
        f"text({size}pt, table(columns: {columns}, stroke: {strokes}, inset: (x: 5pt, y: 3.2pt), {fill}"
        f"align: (x, _) => if x == 0 {{ left }} else {{ center }}, "
        f"table.header({rule}{row_of(cells[0], 0)}, {thin}), {body}, {rule}))"
    )


def _table(source: Source, width: float) -> str:
    rng = source.rng
    columns = max(3, min(6, int(width / 85)))
    call = _table_call(
        source.style.table_look, _cells(source, columns, rng.randint(3, 9)), size=7.5 if width < 260 else 8.5
    )
    label = source.label("table")
    mark_up, text = _caption(source)
    name = source.know(Known("table", label, text))
    return f'#figure(marked("{name}", {call}), kind: table, {numbered(label)}, caption: [{mark_up}])\n\n'


def _long_table(source: Source) -> None:
    """A table that is longer than a page, with a repeated header."""
    label = source.label("table")
    mark_up, text = _caption(source)
    name = source.know(Known("table", label, text))
    call = _table_call(source.style.table_look, _cells(source, 5, source.rng.randint(60, 80)), name)
    source.parts.append(f"#figure({call}, kind: table, {numbered(label)}, caption: [{mark_up}])\n\n")
    source.parts.append(escaped(words.paragraph(source.rng)) + "\n\n")


def _sideways(source: Source) -> None:
    """A page of its own with a wide table turned by 90 degrees."""
    label = source.label("table")
    mark_up, text = _caption(source)
    name = source.know(Known("table", label, text))
    call = _table_call(source.style.table_look, _cells(source, 7, 10))
    figure = f'figure(marked("{name}", {call}), kind: table, {numbered(label)}, caption: [{mark_up}])'
    turned = f"#align(center, rotate(-90deg, reflow: true, box(width: 600pt, {figure})))"
    text = f'#pagebreak(weak: true)\n{turned}\n#mark("sideways", "a")\n#pagebreak(weak: true)\n'
    (source.late if source.style.floats_at_end else source.parts).append(text)


def _extra(source: Source) -> None:
    """Things that are neither figure nor table."""
    rng = source.rng
    kind = rng.choice(source.style.extras)
    if kind == "equation":
        text = rng.choice(
            (
                "$ integral_0^1 f(x) dif x = sum_(i=1)^n w_i f(x_i) + O(h^2) $",
                "$ k = A exp(-E_a/(R T)) $",
                "$ mat(a, b; c, d) vec(x, y) = vec(u, v) $",
            )
        )
    elif kind == "list":
        text = "\n".join(f"- {escaped(words.sentence(rng))}" for _ in range(3))
    elif kind == "footnote":
        text = f"{escaped(words.sentence(rng))}#footnote[{escaped(words.sentence(rng))}]"
    elif kind == "code":
        lines = "for row in rows:\n    total += row.value\nprint(total)"
        text = f"#block(fill: luma(242), inset: 6pt, width: 100%)[```python\n{lines}\n```]"
    elif kind == "algorithm":
        text = _algorithm(source)
    else:
        text = escaped(words.paragraph(rng, 2))
    source.parts.append(text + "\n\n")


def _algorithm(source: Source) -> str:
    """Rules, a bold title, numbered steps."""
    rng = source.rng
    number = source.numbers["algorithm"] = source.numbers["algorithm"] + 1
    title = words.title(rng)
    name = source.know(Known("algorithm", f"Algorithm {number}", title))
    steps = "".join(f"+ {escaped(words.sentence(rng))}\n" for _ in range(4))
    inside = f"align(left)[*Algorithm {number}* {title}\n #line(length: 100%, stroke: 0.4pt)\n{steps}]"
    ruled = f"block(width: 100%, breakable: false, stroke: (top: 0.9pt, bottom: 0.9pt), inset: (y: 4pt), {inside})"
    corners = [
        f'place({corner}, mark("{name}", "{at}"))' for corner, at in (("top + left", "a"), ("bottom + right", "b"))
    ]
    return f"#block(width: 100%, breakable: false, {{ {corners[0]}; {ruled}; {corners[1]} }})"
