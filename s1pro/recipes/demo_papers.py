"""The demo's papers: PDFs of known content, through the caption pipeline, to image-text pairs that the model learns.

    papers/pdf/         two pages each, with two charts and a table (science.papers)
    papers/corpus/      the corpus folder: documents, pages, elements, captions, verdicts
    papers/samples/     train.parquet, validation.parquet, media/
    papers/found.json   what was there and what was found

The describer without a model writes the captions, from what the page proves. A figure counts as found if an element has
its label; its axes count as read if the caption names both.
"""

from __future__ import annotations

import base64
import html as escaping
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1pro.base.stamp import write_json
from s1pro.report.blocks import Block, Figure, Paragraph, Section, Table
from s1pro.science.papers import Known, write_papers

FOUND = "found.json"
_SHOWN = 2


def build_papers(folder: Path, count: int, *, seed: int) -> str:
    """Writes the papers, reads them, and exports samples; goes on where it was stopped."""
    from s1pro.corpus.executors import Inline, run_stage
    from s1pro.corpus.export import ExportSettings, export
    from s1pro.corpus.ledger import register
    from s1pro.corpus.settings import PipelineSettings
    from s1pro.corpus.stages.base import CorpusFolder
    from s1pro.corpus.stages.registry import STAGES
    from s1pro.corpus.status import folder_status

    known = write_papers(folder / "pdf", count, seed=seed)
    corpus = CorpusFolder(folder / "corpus")
    corpus.save_settings(PipelineSettings())
    register(corpus.root, [folder / "pdf"])
    for stage in STAGES:
        run_stage(corpus, stage, Inline())
    status = folder_status(corpus, check=False)
    assert status.reconciled, "an input has no status, or two"
    report = export(corpus, folder / "samples", ExportSettings(validation=0.2))
    found = _compare(corpus, known)
    write_json(folder / FOUND, {**found, "papers": count, "samples": report.samples})
    return (
        f"{count} papers: {found['figures_found']} of {found['figures']} figures and {found['tables_found']} of "
        f"{found['tables']} tables found; {report.samples} captions"
    )


def papers_section(folder: Path) -> Section:
    """For the report: counts, and the first figures with what is said about them."""
    found = json.loads((folder / FOUND).read_text(encoding="utf-8"))
    rows = [
        ["figures", found["figures"], found["figures_found"]],
        ["tables", found["tables"], found["tables_found"]],
        ["axes named in the caption", 2 * found["figures"], found["axes_named"]],
        ["series named in the caption", found["series"], found["series_named"]],
    ]
    blocks: list[Block] = [
        Paragraph(
            text=f"{found['papers']} PDFs were written with known content and read back without any model: figures and "
            "tables are found by the geometry of the page, captions say what the page itself proves. "
            f"{found['samples']} of them became image-text pairs that the joint run learned from."
        ),
        Table(columns=("", "in the papers", "found"), rows=rows),
    ]
    for example in found["examples"]:
        blocks.append(
            Figure(svg=_picture(example), alt=example["text"], caption=f"{example['label']}: {example['text']}")
        )
    return Section(title="Papers", blocks=tuple(blocks))


def _compare(corpus: Any, known: Sequence[Known]) -> dict[str, Any]:
    """Elements and captions against what is in the papers."""
    from s1pro.corpus.ledger import read_ledger
    from s1pro.corpus.records import CaptionRow

    numbers = {row.doc_id: int(Path(row.source_uri).stem.rpartition("-")[2]) for row in read_ledger(corpus.root)}
    elements = [e for part in corpus.parts() for e in corpus.elements(part, without=()) if not e.parent_id]
    texts = {c.element_id: c.text for c in corpus.rows("caption", "captions", CaptionRow)}
    by_label = {(numbers[e.doc_id], e.label): e for e in elements}
    axes = series = figures = 0
    examples: list[dict[str, Any]] = []
    for number, content in enumerate(known):
        for figure in content.figures:
            element = by_label.get((number, figure.label))
            if element is None:
                continue
            figures += 1
            text = texts.get(element.element_id, "")
            axes += (figure.x_label in text) + (figure.y_label in text)
            series += sum(_plain(name) in _plain(text) for name in figure.series)
            if len(examples) < _SHOWN and element.image and text:
                examples.append(
                    {
                        "label": f"Paper {number + 1}, {figure.label}",
                        "text": text,
                        "mime": element.mime,
                        "image": base64.b64encode(element.image).decode("ascii"),
                        "width": element.width,
                        "height": element.height,
                    }
                )
    return {
        "figures": sum(len(content.figures) for content in known),
        "figures_found": figures,
        "tables": sum(content.tables for content in known),
        "tables_found": sum(e.type == "table" for e in elements),
        "axes_named": axes,
        "series": sum(len(figure.series) for content in known for figure in content.figures),
        "series_named": series,
        "examples": examples,
    }


def _plain(text: str) -> str:
    return "".join(text.split())


def _picture(example: dict[str, Any]) -> str:
    """A crop as a drawing that a report takes."""
    width, height = example["width"], example["height"]
    name = escaping.escape(example["label"], quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{min(width, 520)}" role="img" '
        f'aria-label="{name}"><image width="{width}" height="{height}" '
        f'href="data:{example["mime"]};base64,{example["image"]}"/></svg>'
    )
