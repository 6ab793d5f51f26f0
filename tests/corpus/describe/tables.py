"""Tables whose cells are known, typeset by two programs as PDF (reportlab, typst)."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

PROGRAMS = ("reportlab", "typst")
HEADS = ["Sample", "T (K)", "Yield (%)", "Mass [mg]", "R²", "Method", "n", "p value", "Site", "Error"]
ROWS = [
    "LiCl",
    "NaCl",
    "control",
    "mutant 3",
    "wild type",
    "Fe2O3",
    "blank",
    "ours",
    "baseline",
    "QM9",
    "Paris",
    "site 12",
]


@dataclass
class TableDrawn:
    program: str
    seed: int
    header: list[str]
    rows: list[list[str]]
    pdf: bytes


def make(program: str, seed: int) -> TableDrawn:
    rng = random.Random(f"{program}|{seed}")
    columns, number = rng.randint(3, 6), rng.randint(3, 9)
    header = [rng.choice(("Sample", "Name", "Method")), *rng.sample(HEADS[1:5] + HEADS[6:], columns - 1)]
    rows = [[name, *(_cell(rng) for _ in header[1:])] for name in rng.sample(ROWS, number)]
    style = rng.choice(("booktabs", "grid", "header rule", "none"))
    pdf = (_reportlab if program == "reportlab" else _typst)(header, rows, style, rng)
    return TableDrawn(program, seed, header, rows, pdf)


def _cell(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.08:
        return rng.choice(("–", "n/a", "yes"))
    if kind < 0.2:
        return f"{rng.uniform(0, 99):.1f} ± {rng.uniform(0, 3):.1f}"
    return f"{rng.choice((1, 1, -1)) * rng.uniform(0, 10 ** rng.randint(0, 4)):.{rng.randint(0, 3)}f}"


def _reportlab(header: list[str], rows: list[list[str]], style: str, rng: random.Random) -> bytes:
    from reportlab.lib import colors
    from reportlab.platypus import SimpleDocTemplate, Table, TableStyle

    bold = style == "none" or rng.random() < 0.5
    commands = [("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold" if bold else "Helvetica")]
    commands.append(("ALIGN", (1, 0), (-1, -1), rng.choice(("LEFT", "CENTER", "RIGHT"))))
    if style == "grid":
        commands.append(("GRID", (0, 0), (-1, -1), 0.5, colors.black))
    if style in ("booktabs", "header rule"):
        commands.append(("LINEBELOW", (0, 0), (-1, 0), 0.6, colors.black))
    if style == "booktabs":
        commands += [("LINEABOVE", (0, 0), (-1, 0), 1, colors.black), ("LINEBELOW", (0, -1), (-1, -1), 1, colors.black)]
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer).build([Table([header, *rows], style=TableStyle(commands))])
    return buffer.getvalue()


def _typst(header: list[str], rows: list[list[str]], style: str, rng: random.Random) -> bytes:
    import typst

    bold = style == "none" or rng.random() < 0.5
    align = rng.choice(("left", "center", "right"))
    stroke = {"grid": "0.5pt", "none": "none"}.get(style, "none")
    quoted = [f'"{cell}"' for cell in header]
    cells = ", ".join([f"strong({cell})" if bold else cell for cell in quoted])
    lines = [
        f"#table(columns: {len(header)}, stroke: {stroke}, align: (x, y) => if x == 0 {{ left }} else {{ {align} }},"
    ]
    if style == "booktabs":
        lines.append("table.hline(),")
    lines.append(f"table.header({cells}),")
    if style in ("booktabs", "header rule"):
        lines.append("table.hline(stroke: 0.5pt),")
    lines += ["".join(f'"{cell}", ' for cell in row) for row in rows]
    if style == "booktabs":
        lines.append("table.hline(),")
    source = "#set page(width: 16cm, height: 14cm, margin: 1cm)\n#set text(size: 10pt)\n" + "\n".join([*lines, ")"])
    return bytes(typst.compile(source.encode()))
