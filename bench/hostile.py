"""How long a bad file takes beyond its deadline, on a quiet machine and beside busy processes.

    python bench/hostile.py [--seconds 8] [--busy 12] [--rounds 1]

Documents whose pages hang, burn the processor, hold a gigabyte, or die again and again until the time of the whole
document is over (`--seconds`), and documents of one page, among them the PDFs that break PDFium
(`tests/corpus/hostile.py`), which may take a quarter of it. One worker reads them one after another, as ingest does.
What is printed is the wall time of `read`, from outside, over the time of the document: negative where the limit of a
page ended it before. `--busy` starts so many processes that only count, at the priority of the parent.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paired import environment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from s1pro.base.config import config_to_json
from s1pro.corpus.children import Limits
from s1pro.corpus.pdf.extract import ExtractSettings
from s1pro.corpus.records import document_id
from s1pro.corpus.workers import DocumentWorker
from tests.corpus import fake_extractor
from tests.corpus.hostile import hostile

PDF = "s1pro.corpus.stages.reading:extract"
LONG = (["hang"] * 9, ["spin"] * 9, ["oom", *["hang"] * 9], ["ok", "crash", *["spin", "hang"] * 5], ["hold"] * 9)
SHORT = (["hang"], ["spin"], ["hold"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--busy", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print(environment())
    print("| machine | documents | number | median over the deadline (s) | worst |")
    print("|---|---|---|---|---|")
    for busy in (0, arguments.busy):
        with counting(busy):
            for kind in ("long", "one page"):
                over = sorted(excesses(kind, arguments.seconds, arguments.rounds))
                name = f"{busy} busy processes" if busy else "quiet"
                told = f"| {name} | {kind} | {len(over)} | {statistics.median(over):+.3f} | {over[-1]:+.3f} |"
                print(told, flush=True)


def excesses(kind: str, seconds: float, rounds: int) -> Iterator[float]:
    """Seconds of every document over its deadline."""
    limits = Limits(page_seconds=seconds / 4, document_seconds=seconds, memory_mb=1500, deaths=99)
    settings = {"max_pages": 50, "extract": config_to_json(ExtractSettings())}
    bombs = [data for data, status in hostile().values() if "timeout" in status]
    for number in range(rounds):
        pages = LONG if kind == "long" else SHORT
        made = [fake_extractor.document(*words, salt=str(number)) for words in pages]
        for function, files in ((fake_extractor.NAME, made), (PDF, bombs if kind == "one page" else [])):
            with DocumentWorker(function, settings, limits) as worker:
                for data in files:
                    began = time.monotonic()
                    worker.read(document_id(data), data)
                    yield time.monotonic() - began - seconds


@contextmanager
def counting(count: int) -> Iterator[None]:
    """So many processes that use a processor each."""
    busy = [multiprocessing.Process(target=count_up, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def count_up() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
