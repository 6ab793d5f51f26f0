"""Tables, charts and documents as trees, and their similarity, as OCRBench V2 has it.

**TEDS** (PubTabNet). A table is the tree of its tags; a cell (`td`) has its spans and its characters, tags inside it as
one token each. Renaming costs 1 for another tag or span, else the edit distance of two cells over the length of the
longer one. The size is the number of nodes below the table, of the larger one. Head cells (`th`) are tags without text,
so upstream does not compare what stands in them; strict takes them for cells.

**Charts.** A dictionary becomes a table of two columns; upstream writes values with a blank between characters.

**Documents.** Lines that begin with `#` are children of the root, other lines belong to the title of that text which
comes first, or to an empty one. Upstream compares no text: renaming costs 1 if one of both is empty, else nothing.
Strict: the edit distance of the texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.tasks.benchmarks.text_metrics import edit_distance
from s1pro.tasks.benchmarks.trees import Tree, tree_distance

Cell = tuple[str, int | None, int | None, tuple[str, ...]]
_CLEANED: Sequence[tuple[str, str]] = (
    (r"<bos>|<eos>|<pad>|<unk>", ""),
    (r"\s##(\S)", r"\1"),
    (r"\\\s", "\\\\"),
    (r"\s\*\s\*\s", "**"),
    (r"{\s", "{"),
    (r"\s}", "}"),
    (r"\s}", "}"),
    (r"\\begin\s", r"\\begin"),
    (r"\\end\s", r"\\end"),
    (r"\\end{table}", r"\\end{table} \n\n"),
    (r"[\n*_]", " "),
)
_TITLE = "TITLE"


def similarity(said: str, gold: str, *, head_cells: bool = False) -> float:
    """TEDS of two pages of HTML; 0 where one of them has no table, and for spans that are no numbers."""
    left, right = (table_tree(page, head_cells=head_cells) for page in (said, gold))
    if left is None or right is None:
        return 0.0
    return 1.0 - tree_distance(left[0], right[0], _rename) / max(left[1], right[1], 1)


def table_tree(page: str, *, head_cells: bool = False) -> tuple[Tree, int] | None:
    """The first table of the body, and how many nodes are below it; None if there is none, or a span is no number."""
    try:
        from lxml import etree, html
    except ImportError as error:
        raise MissingExtraError("lxml", "eval") from error
    try:
        root = html.fromstring(page, parser=html.HTMLParser(remove_comments=True, encoding="utf-8"))
        tables = root.xpath("body/table")
        return (_tree(tables[0], head_cells), len(tables[0].xpath(".//*"))) if tables else None
    except (ValueError, AssertionError, RecursionError, etree.LxmlError):
        return None


def _tree(node: Any, head_cells: bool) -> Tree:
    tag = "td" if head_cells and node.tag == "th" else node.tag
    if tag == "td":
        spans = (int(node.attrib.get("colspan", "1")), int(node.attrib.get("rowspan", "1")))
        return Tree((tag, *spans, tuple(_characters(node))[1:-1]))
    return Tree((tag, None, None, ()), [_tree(child, head_cells) for child in node])


def _characters(node: Any) -> list[str]:
    found = [f"<{node.tag}>", *(node.text or "")]
    for child in node:
        found += _characters(child)
    return [*found, f"</{node.tag}>", *((node.tail or "") if node.tag != "td" else "")]


def _rename(left: Cell, right: Cell) -> float:
    if left[:3] != right[:3]:
        return 1.0
    longest = max(len(left[3]), len(right[3]))
    return edit_distance(left[3], right[3]) / longest if left[0] == "td" and longest else 0.0


def wrapped(table: str) -> str:
    """With the tags that a page needs, where they are missing."""
    table = table.replace("\n", "")
    opened, closed = "<table" in table, "</table>" in table
    if not closed:
        table += "</table>"
    if not opened:
        table = "<table>" + table
    table = table if "<body>" in table else f"<body>{table}</body>"
    return table if "<html>" in table else f"<html>{table}</html>"


def html_part(reply: str) -> str | None:
    """From the first body or table to the end."""
    reply = reply.replace("\n", "")
    for mark in ("<body", "<table"):
        if mark in reply:
            return reply[reply.index(mark) :]
    return None


def page_of(rows: Sequence[Sequence[str]]) -> str:
    """A page with one table. Cells are written as they are."""
    lines = ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<html><body><table>{''.join(lines)}</table></body></html>".replace("\n", "")


def upstream_markdown(text: str) -> str:
    """The second line is dropped whatever it is, and letters of the word markdown are cut off both ends."""
    lines = text.strip("`markdown").strip("`").strip().split("\n")
    cells = (line.strip().split("|")[1:-1] for line in [lines[0], *lines[2:]])
    return page_of([[" " if set(cell) == {" "} else cell.strip() for cell in row] for row in cells])


def strict_markdown(text: str) -> str:
    """The lines with bars; the line of dashes goes, and marks of HTML are written out."""
    lines = [line.strip().strip("|") for line in text.splitlines() if "|" in line]
    rows = [[_written(cell.strip()) for cell in line.split("|")] for line in lines if set(line) - set("|-: ")]
    return page_of(rows)


def _written(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chart_page(chart: Mapping[Any, Any], *, spread: bool) -> str:
    """Keys and values as rows; `spread` puts a blank between characters of values, as upstream does."""
    if spread:
        rows = "".join(f"  <tr><td>{key}</td><td>{' '.join(str(value))}</td></tr>\n" for key, value in chart.items())
        return f"<html><body><table>\n{rows}</table></body></html>"
    return page_of([[_written(str(key)), _written(str(value))] for key, value in chart.items()])


def document_tree(text: str) -> Tree:
    """See the module docstring."""
    title = Tree(_TITLE)
    root = Tree("ROOT", [title])
    latest = ""
    for line in text.split("\n"):
        for pattern, instead in _CLEANED:
            line = re.sub(pattern, instead, line)
        if line.startswith("#"):
            latest = line.replace("#", "")
            root.children.append(Tree(latest))
        else:
            place = next(node for node in root.nodes() if node.label == latest) if latest else title
            place.children.append(Tree(line))
    return root


def document_similarity(said: str, gold: str, *, text: bool) -> float:
    """Of two documents; `text` compares what lines say, and not only where they stand."""
    left, right = document_tree(said), document_tree(gold)
    size = max(sum(1 for _ in tree.nodes()) for tree in (left, right))
    return 1.0 - tree_distance(left, right, _texts if text else _emptiness) / size


def _emptiness(left: str, right: str) -> float:
    return float(not left.split() or not right.split())


def _texts(left: str, right: str) -> float:
    left, right = " ".join(left.split()), " ".join(right.split())
    longest = max(len(left), len(right))
    return edit_distance(left, right) / longest if longest else 0.0
