"""De-duplication: thresholds, precision and recall on self-made figures, and the search among many hashes.

    python bench/dedup.py fit [--figures 100]         fits the thresholds of `s1pro/corpus/dedup/settings.py`
    python bench/dedup.py quality [--figures 150]     pair precision and recall, with and without text
    python bench/dedup.py scale [--hashes 1000000]    candidates among many hashes: seconds, memory, recall

Times are processor times of one core.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from s1pro.corpus.dedup.find import candidate_pairs, cluster, signatures_of, verify_pair
from s1pro.corpus.dedup.fit import report
from s1pro.corpus.dedup.neighbours import pairs_within
from s1pro.corpus.dedup.selfmade import MAKERS, Picture, copies, photo, plot, table
from s1pro.corpus.dedup.settings import DedupSettings
from s1pro.corpus.dedup.signature import read_grey
from s1pro.corpus.records import ElementRow


def collection(kind: str, number: int, *, text: bool) -> tuple[list[ElementRow], dict[str, int]]:
    """Originals, all their copies, and one near miss of each; which figure each row shows."""
    rows: list[ElementRow] = []
    figure: dict[str, int] = {}
    for i in range(number):
        if kind == "random plots":
            drawn = [plot(i), plot(i, changed=True)]
        elif kind == "plots of ten per template":
            drawn = [plot(i, i // 10), plot(i, i // 10, changed=True)]
        elif kind == "tables":
            drawn = [table(i), table(i, changed=True)]
        else:
            drawn = [photo(i), photo(i, changed=True)]
        pictures: list[tuple[str, Picture, int]] = [("original", drawn[0], i), ("miss", drawn[1], -1 - i)]
        pictures += [(name, copy, i) for name, copy in copies(drawn[0], i)]
        for name, picture, number_of_figure in pictures:
            row = (picture if text else Picture(image=picture.image, type=picture.type)).element(f"{kind}-{i}-{name}")
            rows.append(row)
            figure[row.element_id] = number_of_figure
    return rows, figure


def quality(number: int) -> None:
    settings = DedupSettings()
    print("| figures | text | rows | candidates | precision | " + " | ".join(MAKERS) + " | duplicates marked wrongly |")
    print("|---" * (6 + len(MAKERS)) + "|")
    for kind in ("random plots", "plots of ten per template", "tables", "photos"):
        for text in (True, False):
            rows, figure = collection(kind, number, text=text)
            signatures, _ = signatures_of(rows, settings)
            by_id = {s.element_id: s for s in signatures}
            pictures = {row.element_id: read_grey(row.image, row.element_id)[0] for row in rows}
            pairs = candidate_pairs(signatures, settings)
            start = time.process_time()
            found = [verify_pair(by_id[a], by_id[b], pictures.__getitem__, settings) for a, b in pairs]
            seconds = time.process_time() - start
            same = {each.pair for each in found if each.same}
            right = sum(figure[a] == figure[b] for a, b in same)
            recalls = []
            for name in MAKERS:
                wanted = [tuple(sorted((f"{kind}-{i}-original", f"{kind}-{i}-{name}"))) for i in range(number)]
                recalls.append(f"{np.mean([pair in same for pair in wanted]):.3f}")
            clusters = cluster(signatures, {s.element_id: s.element_id for s in signatures}, found)
            marked = [row for row in clusters if row.decision == "duplicate"]
            wrong = sum(figure[r.element_id] != figure[r.representative] for r in marked)
            print(
                f"| {kind} | {'yes' if text else 'no'} | {len(rows)} | {len(pairs)} | {right}/{len(same)} = "
                f"{right / max(1, len(same)):.4f} | " + " | ".join(recalls) + f" | {wrong} of {len(marked)} |",
                f"  ({len(pairs) / seconds:.0f} pairs/s)",
                flush=True,
            )


def scale(number: int, ways: tuple[str, ...], several_bands: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, size=(number, 4), dtype=np.uint64)
    planted = number // 100
    distances = rng.integers(0, 41, planted)
    for i, distance in enumerate(distances):  # the last hashes are near copies of the first
        bits = np.zeros(256, dtype=np.uint8)
        bits[rng.permutation(256)[:distance]] = 1
        words[number - planted + i] = words[i] ^ np.packbits(bits).view(np.uint64)
    print(f"{number} hashes of 256 bits, {planted} planted pairs at 0 to 40 bits, radius 40")
    print("| search | bands | seconds | hashes/s | peak memory | recall, guaranteed | to 32 bits | 33-40 |")
    print("|---|---|---|---|---|---|---|---|")
    for use_faiss in (way == "faiss" for way in ways):
        for bands in several_bands:
            start = time.process_time()
            found = {tuple(pair) for pair in pairs_within(words, radius=40, bands=bands, use_faiss=use_faiss).tolist()}
            seconds = time.process_time() - start
            hit = np.array([(i, number - planted + i) in found for i in range(planted)])
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
            sure = hit[distances <= 2 * bands - 1].mean()
            print(
                f"| {'faiss' if use_faiss else 'numpy'} | {bands} | {seconds:.1f} | {number / seconds:.0f} | "
                f"{memory:.2f} GiB | {sure:.4f} | {hit[distances <= 32].mean():.4f} | "
                f"{hit[distances > 32].mean():.4f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "quality", "scale"))
    parser.add_argument("--figures", type=int, default=100)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--ways", nargs="+", choices=("numpy", "faiss"), default=("numpy", "faiss"))
    parser.add_argument("--bands", nargs="+", type=int, default=(11, 16))
    arguments = parser.parse_args()
    if arguments.what == "fit":
        for line in report(arguments.figures, DedupSettings()):
            print(line, flush=True)
    elif arguments.what == "quality":
        quality(arguments.figures)
    else:
        scale(arguments.hashes, tuple(arguments.ways), tuple(arguments.bands))


if __name__ == "__main__":
    main()
