"""Sentences about a table: size, headings, rows with their cells."""

from __future__ import annotations

from s1pro.corpus.describe.facts import TableFacts
from s1pro.corpus.describe.wording import Choice, count, counted, listed, quote, sentence

MOST_ROWS = 40


def table_text(table: TableFacts, style: str, choice: Choice) -> str:
    opening = " ".join([_size(table, choice), *_headings(table, choice)])
    if style == "short":
        return opening
    if style == "structured":
        return "\n".join([opening, *_markdown(table)])
    rows = [_row(row, table, choice) for row in table.rows[:MOST_ROWS]]
    if len(table.rows) > MOST_ROWS:
        rows.append("More rows follow in the same manner.")
    return " ".join([opening, *rows])


def table_questions(table: TableFacts, choice: Choice) -> str:
    pairs = [("How large is the table?", _size(table, choice))]
    if any(table.header):
        pairs.append(("What are the columns called?", sentence(listed([quote(name) for name in table.header if name]))))
    for row in table.rows[:MOST_ROWS]:
        for name, cell in list(zip(table.header, row, strict=True))[1:]:
            if name and cell and row[0] and choice("ask", "skip", "skip") == "ask":
                pairs.append((f"What is {name} for {row[0]}?", sentence(cell)))
    return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in pairs)


def _size(table: TableFacts, choice: Choice) -> str:
    columns, rows = counted(len(table.header), "column"), counted(len(table.rows), "row")
    below = " below the header" if any(table.header) else ""
    return choice(
        f"A table with {columns} and {rows}{below}.", f"The table has {rows}{below} and {columns}.",
        f"This table consists of {columns}, with {rows}{below}.",
    )  # fmt: skip


def _headings(table: TableFacts, choice: Choice) -> list[str]:
    found = []
    names = [quote(name) for name in table.header if name]
    if names:
        found.append(
            choice(f"The columns are headed {listed(names)}.", f"The column headers read {listed(names)}.",
                   f"Its columns are called {listed(names)}.")
        )  # fmt: skip
        empty = sum(not name for name in table.header)
        if empty:
            found.append(sentence(f"{count(empty)} of the columns {'has' if empty == 1 else 'have'} no header"))
    if table.spans:
        found.append(f"Above several columns stands {listed([quote(text) for text in table.spans])}.")
    return found


def _row(row: tuple[str, ...], table: TableFacts, choice: Choice) -> str:
    name, cells = row[0], []
    for header, cell in zip(table.header[1:], row[1:], strict=True):
        if cell:
            cells.append(f"{header}: {cell}" if header else cell)
    if not cells:
        return sentence(f"a line reads {quote(name)}") if name else ""
    values = "; ".join(cells)
    return sentence(
        choice(f"row {quote(name)}: {values}", f"{quote(name)} has {values}") if name else f"a row: {values}"
    )


def _markdown(table: TableFacts) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(table.header), "|" + " --- |" * len(table.header), *(line(row) for row in table.rows)]
