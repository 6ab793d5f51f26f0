"""Pages per core-second of the PDF stage, by step, beside docling-parse and pdfminer.six, and on two workers.

    python bench/papers.py FILE.pdf ... [--rounds 5] [--workers 2] [--peers docling,pdfminer]

Steps: `read` is characters, lines, paths and pictures of every page; `find` adds captions, regions, panels, formulas
and citations; `all` adds crops at 150 dpi, JPEG or PNG, and hashes. The peers do what is nearest to `read`:
docling-parse loads every page with its cells and shapes, pdfminer.six runs its layout analysis.
Contestants take turns on each file; seconds are those of the processor (`time.process_time`), so other programs do not
count, but they do slow memory and caches.

`--workers 2` starts that many processes with the same work at once, by the wall clock, after one alone: use it on a
quiet machine.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from paired import environment, ratios, run_rounds

from s1pro.corpus.pdf.extract import ExtractSettings, extract
from s1pro.corpus.pdf.reader import close_page, open_document, read_page


def read(data: bytes) -> int:
    document = open_document(data)
    for number in range(len(document)):
        content = read_page(document, number)
        assert content.lines is not None
        close_page(content)
    pages = len(document)
    document.close()
    return pages


def find(data: bytes) -> int:
    return sum(1 for _ in extract(data, ExtractSettings(crops=False)))


def whole(data: bytes) -> int:
    return sum(1 for _ in extract(data))


def docling(data: bytes) -> int:
    from docling_parse.pdf_parser import DoclingPdfParser

    document = DoclingPdfParser(loglevel="fatal").load(io.BytesIO(data))
    return sum(1 for _ in document.iterate_pages())


def pdfminer(data: bytes) -> int:
    from pdfminer.high_level import extract_pages

    return sum(1 for _ in extract_pages(io.BytesIO(data)))


PEERS: dict[str, Callable[[bytes], int]] = {"docling": docling, "pdfminer": pdfminer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", default="docling,pdfminer")
    parser.add_argument("--alone", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(run_alone(arguments.files, arguments.alone))
        return
    print(environment())
    if arguments.workers > 1:
        linearity(arguments.files, arguments.workers, arguments.rounds)
        return
    table(arguments.files, arguments.rounds, [name for name in arguments.peers.split(",") if name])


def table(files: list[Path], rounds: int, peers: list[str]) -> None:
    """Pages per second of the processor, per file, and the paired ratios to `read`."""
    names = ["read", "find", "all", *peers]
    print("| file | pages | " + " | ".join(names) + " | " + " | ".join(f"read / {peer}" for peer in peers) + " |")
    print("|---|---" + "|---" * (len(names) + len(peers)) + "|")
    totals = dict.fromkeys(names, 0.0)
    all_pages = 0
    for file in files:
        data = file.read_bytes()
        pages = read(data)
        steps: dict[str, Callable[[bytes], int]] = {"read": read, "find": find, "all": whole}
        calls = {name: partial((steps | PEERS)[name], data) for name in names}
        timings = run_rounds(calls, rounds=rounds, clock=time.process_time)
        speeds = [f"{pages / timings[name].median:.1f}" for name in names]
        pairs = [ratios(timings[peer], timings["read"]) for peer in peers]
        spread = [f"{middle:.1f} ({low:.1f}–{high:.1f})" for low, middle, high in pairs]
        print(f"| {file.name} | {pages} | " + " | ".join([*speeds, *spread]) + " |", flush=True)
        all_pages += pages
        for name in names:
            totals[name] += timings[name].median
    together = [f"{all_pages / totals[name]:.1f}" for name in names]
    print(f"| together | {all_pages} | " + " | ".join(together) + " |" + " |" * len(peers))


def run_alone(files: list[Path], seconds: float) -> float:
    """Pages per second by the wall clock, whole documents in turn for at least so long."""
    documents = [file.read_bytes() for file in files]
    for data in documents:
        whole(data)
    pages, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for data in documents:
            pages += whole(data)
    return pages / (time.perf_counter() - start)


def linearity(files: list[Path], workers: int, rounds: int) -> None:
    """One process alone, then `workers` at once, in turn; the share of perfect speed-up."""
    command = [sys.executable, __file__, "--alone", "12", *map(str, files)]
    shares = []
    for _ in range(rounds):
        single = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
        speeds = [float(process.communicate()[0]) for process in crowd]
        shares.append(sum(speeds) / (workers * single))
        print(
            f"one: {single:.1f} pages/s, {workers}: {' + '.join(f'{speed:.1f}' for speed in speeds)}, {shares[-1]:.1%}"
        )
    print(f"median {statistics.median(shares):.1%} of linear, spread {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()
