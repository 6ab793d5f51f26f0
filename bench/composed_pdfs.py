"""Figures, tables, captions and panels found in composed PDFs with known boxes, per generator and style.

    python bench/composed_pdfs.py [--small | --held-out] [--rounds 3] [--first-seed 0] [--mistakes 40] [--save FOLDER]

The papers come from two generators that know nothing of the extractor (`tests/corpus/composed/`). `--save` writes the
PDFs and, beside each, a JSON file with the truth.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.corpus.composed import collection
from tests.corpus.composed.evaluate import Found, evaluate, table_of
from tests.corpus.composed.extracted import found_by
from tests.corpus.composed.truth import ComposedDocument


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="one short paper per style")
    parser.add_argument("--held-out", action="store_true", help="styles and papers that nothing was tuned on")
    parser.add_argument("--rounds", type=int, default=3, help="papers per style in the full collection")
    parser.add_argument("--first-seed", type=int, default=0, help="of the full collection; others make other papers")
    parser.add_argument("--style", help="only papers whose name contains this")
    parser.add_argument("--mistakes", type=int, default=0, help="print so many mistakes")
    parser.add_argument("--save", type=Path, help="write PDFs and truth to this folder")
    arguments = parser.parse_args()
    if arguments.held_out:
        documents = collection.held_out(arguments.rounds)
    elif arguments.small:
        documents = collection.small()
    else:
        documents = collection.full(arguments.rounds, arguments.first_seed)
    documents = [d for d in documents if not arguments.style or arguments.style in d.name]
    if arguments.save:
        for document in documents:
            save(document, arguments.save)
    find = found_by()
    found: dict[bytes, list[Found]] = {}
    start = time.process_time()
    for document in documents:
        found[document.data] = list(find(document.data))
    seconds = time.process_time() - start
    scores = evaluate(documents, found.__getitem__)
    print(table_of(scores))
    pages = sum(len(document.pages) for document in documents)
    print(f"\n{len(documents)} papers, {pages} pages, {pages / seconds:.1f} pages per CPU second")
    for line in scores["all", "all"].mistakes[: arguments.mistakes]:
        print(line)


def save(document: ComposedDocument, folder: Path) -> None:
    """The PDF and its truth as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{document.name}.pdf").write_bytes(document.data)
    truth = {key: value for key, value in dataclasses.asdict(document).items() if key != "data"}
    (folder / f"{document.name}.json").write_text(json.dumps(truth, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
