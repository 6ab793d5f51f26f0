"""Papers by reportlab: what stands on their pages, block after block."""

from __future__ import annotations

from tests.corpus.composed import drawings, floats, words
from tests.corpus.composed.composer import Composer
from tests.corpus.composed.pen import CJK
from tests.corpus.composed.rich import Run, draw_lines, wrap
from tests.corpus.composed.styles import STYLES, Style
from tests.corpus.composed.truth import ComposedDocument, TrueElement, tightened, union


def compose(style: Style, seed: int, *, pages: int = 6) -> ComposedDocument:
    """One paper of at least `pages` pages."""
    c = Composer(style, seed)
    _title(c)
    special = [name for name in ("long_tables", "sideways", "landscape") if name in style.features]
    blocks = 0
    while c.page < pages - 1 or c.room > 0.5 * (c.bottom - c.top):
        blocks += 1
        if special and c.page >= 1 + len(special) % 2 and blocks % 9 == 0:
            {
                "long_tables": floats.long_table,
                "sideways": floats.sideways_table,
                "landscape": floats.landscape_page,
            }[special.pop()](c)
            continue
        _block(c)
    data = c.finish()
    return tightened(
        ComposedDocument(
            name=f"reportlab-{style.name}-{seed}",
            generator="reportlab",
            style=style.name,
            data=data,
            pages=tuple(c.pages),
            elements=tuple(sorted(c.elements, key=lambda e: (e.page, e.box[1], e.box[0]))),
            neutral=tuple(c.neutral),
        )
    )


def documents(
    count: int, *, pages: int = 6, first_seed: int = 0, styles: tuple[Style, ...] = STYLES
) -> list[ComposedDocument]:
    """`count` papers, styles in turn."""
    return [compose(styles[i % len(styles)], first_seed + i // len(styles), pages=pages) for i in range(count)]


def _block(c: Composer) -> None:
    """The next block of the text, by chance."""
    rng, features = c.rng, c.style.features
    dice = rng.random()
    if dice < 0.42:
        c.paragraph()
    elif dice < 0.5:
        c.heading()
    elif dice < 0.58:
        equation(c)
    elif dice < 0.78:
        _figure(c)
    elif dice < 0.9:
        _place(c, floats.plan_table(c, c.column_width))
        if "equation_after_table" in features and rng.random() < 0.5:
            equation(c)
        elif rng.random() < 0.25:
            _place(c, floats.plan_figure(c, c.column_width))
    else:
        extra = [name for name in ("algorithm", "list", "code", "footnote", "box") if name in features]
        {"algorithm": algorithm, "list": listing, "code": code, "footnote": footnote, "box": shaded_box}.get(
            rng.choice(extra) if extra else "", lambda c: c.paragraph()
        )(c)


def _figure(c: Composer) -> None:
    features = c.style.features
    if "side" in features and c.rng.random() < 0.4:
        planned = floats.plan_side_figure(c, c.column_width)
    elif "margin_captions" in features and c.rng.random() < 0.6:
        planned = floats.plan_margin_figure(c, c.column_width)
    elif "pairs" in features and c.rng.random() < 0.25:
        planned = floats.plan_pair(c, c.column_width)
    else:
        planned = floats.plan_figure(c, c.column_width)
    _place(c, planned)


def _place(c: Composer, planned: floats.Planned) -> None:
    """Here if there is room, else at the top of the next column, after text has filled this one."""
    if c.y > c.top:
        c.y += 10
    if c.room < planned.height:
        c.fill_column()
        if c.room < planned.height:
            c.next_column()
    planned.draw(c.x, c.y)
    c.y += planned.height + 12


def _title(c: Composer) -> None:
    """First page: title, authors, abstract; a portrait or cover picture without a number now and then."""
    style, rng, pen = c.style, c.rng, c.pen
    chinese = style.fonts[0] == CJK
    width = c.right - c.left
    title = "样品结构与性能的实验研究" if chinese else f"{words.title(rng)} in {words.title(rng).lower()}"
    y = draw_lines(pen, wrap([Run(title, style.fonts[1])], 17, width), c.left, c.top, width, 17, 21) + 6
    authors = (
        "张三，李四，王五"
        if chinese
        else ", ".join(f"{rng.choice('ABCDEF')}. {n}" for n in rng.sample(words.SURNAMES, 4))
    )
    y = draw_lines(pen, wrap([Run(authors, style.fonts[0])], 11, width), c.left, y, width, 11, 14) + 8
    abstract = wrap([Run(c.words() + c.words(), style.fonts[0])], style.size, width - 20)
    tall = len(abstract) * style.leading + 12
    if style.name in ("open", "letters"):
        pen.rect(c.left, y, width, tall, fill="#eef2f5")
    else:
        pen.line(c.left, y, c.right, y, 0.5)
        pen.line(c.left, y + tall, c.right, y + tall, 0.5)
    draw_lines(pen, abstract, c.left + 10, y + 6, width - 20, style.size, style.leading, align="justify")
    y += tall + 16
    if style.name == "chemistry":
        with pen.recording() as boxes:
            drawings.molecules(pen, rng, (c.left + width / 4, y, width / 2, 90))
        c.neutral.append((c.page, union(boxes)))
        y += 106
    c.top = c.y = y


def equation(c: Composer) -> None:
    """A displayed formula with a fraction and a number."""
    size = c.style.size
    if c.room < 4 * size:
        c.next_column()
    c.numbers["equation"] += 1
    y, x = c.y + 2.4 * size, c.x + c.column_width * 0.3
    wide = c.pen.text(x, y, "E(t) = ", "Times-Italic", size)
    c.pen.text(
        x + wide + 14,
        y - 0.7 * size,
        c.rng.choice(("ax + b", "1 - k", "2n + 1")),
        "Times-Italic",
        size,
        anchor="middle",
    )
    c.pen.line(x + wide, y - 0.35 * size, x + wide + 30, y - 0.35 * size, 0.5)
    c.pen.text(
        x + wide + 14, y + 0.65 * size, c.rng.choice(("cT", "n + m", "y")), "Times-Italic", size, anchor="middle"
    )
    after = c.pen.text(x + wide + 34, y, " + ", "Times-Roman", size)
    c.pen.text(x + wide + 36 + after, y, c.rng.choice("αβλσ"), "Symbol", size)
    c.pen.text(c.x + c.column_width, y, f"({c.numbers['equation']})", "Times-Roman", size, anchor="right")
    c.y += 4.2 * size


def algorithm(c: Composer) -> None:
    """Rules, a bold title, numbered lines."""
    steps = c.rng.randint(5, 9)
    step = c.style.size * 1.25
    if c.room < step * (steps + 2) + 20:
        c.fill_column()
    label = c.label("algorithm", c.style.figure)
    label = f"Algorithm {label.split()[-1]}"
    bold, regular, size = c.style.fonts[1], c.style.fonts[0], c.style.size
    name = words.title(c.rng)
    top = c.y + 8
    with c.pen.recording() as boxes:
        c.pen.line(c.x, top, c.x + c.column_width, top, 0.9)
        wide = c.pen.text(c.x + 2, top + size, label + " ", bold, size)
        c.pen.text(c.x + 2 + wide, top + size, name, regular, size)
        c.pen.line(c.x, top + step, c.x + c.column_width, top + step, 0.5)
        for i in range(steps):
            text = f"{i + 1}:  " + c.rng.choice(
                ("for each sample do", "  update the estimate", "  if converged then stop", "return x")
            )
            c.pen.text(c.x + 4, top + step * (i + 2), text, regular, size)
        c.pen.line(c.x, top + step * (steps + 1) + 3, c.x + c.column_width, top + step * (steps + 1) + 3, 0.9)
    c.add(TrueElement(page=c.page, type="algorithm", box=union(boxes), label=label, caption=name))
    c.y = top + step * (steps + 1) + 16


def listing(c: Composer) -> None:
    """Points with bullets."""
    for _ in range(c.rng.randint(3, 5)):
        lines = c.lines(words.sentence(c.rng), c.column_width - 16)
        if c.room < len(lines) * c.style.leading:
            c.next_column()
        c.pen.circle(c.x + 5, c.y + 0.55 * c.style.leading, 1.6, fill="#000000")
        c.y = draw_lines(c.pen, lines, c.x + 16, c.y, c.column_width - 16, c.style.size, c.style.leading)
    c.y += 6


def code(c: Composer) -> None:
    """Lines of a program on a grey ground: a decoy."""
    lines = ["for row in rows:", "    total += row.value", "print(total)", "assert total > 0"][: c.rng.randint(2, 4)]
    tall = len(lines) * 11 + 8
    if c.room < tall + 16:
        c.fill_column()
    c.y += 6
    c.pen.rect(c.x, c.y, c.column_width, tall, fill="#f3f3f3")
    for i, line in enumerate(lines):
        c.pen.text(c.x + 6, c.y + 12 + 11 * i, line, "Courier", 8.5)
    c.y += tall + 10


def footnote(c: Composer) -> None:
    """A short rule and small text at the foot of the column."""
    size = c.style.size * 0.8
    lines = wrap([Run("* " + words.sentence(c.rng), c.style.fonts[0])], size, c.column_width)
    tall = len(lines) * size * 1.2 + 8
    if c.room < tall + 40:
        c.paragraph()
        return
    top = c.bottom - tall
    while top - c.y >= c.style.leading:
        c.paragraph(limit=top)
    c.pen.line(c.x, top + 2, c.x + 60, top + 2, 0.4)
    draw_lines(c.pen, lines, c.x, top + 5, c.column_width, size, size * 1.2)
    c.next_column()


def shaded_box(c: Composer) -> None:
    """Words on a tinted ground with a bold heading, as news and views have: a decoy."""
    lines = c.lines(words.paragraph(c.rng, 3), c.column_width - 16)
    tall = (len(lines) + 1) * c.style.leading + 14
    if c.room < tall + 16:
        c.fill_column()
    c.y += 6
    c.pen.rect(c.x, c.y, c.column_width, tall, fill="#f6efe2")
    c.pen.text(c.x + 8, c.y + c.style.leading, f"Box {c.rng.randint(1, 3)}", c.style.fonts[1], c.style.size)
    draw_lines(
        c.pen,
        lines,
        c.x + 8,
        c.y + 6 + c.style.leading,
        c.column_width - 16,
        c.style.size,
        c.style.leading,
        align="justify",
    )
    c.y += tall + 10
