"""Fits the weights of `s1pro/corpus/routing.py` for "scientific or not" on self-made figures and decorations.

    python bench/routing.py [--figures 200]

Scientific: plots, tables and micrographs as `corpus.dedup.selfmade` draws them, most with label, caption, mentions and
text inside. Not scientific: logos, icons, banners, rules and pictures without a caption. Prints the weights for the
source file and, on figures of other seeds, how many are sorted right.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from s1pro.corpus.dedup.selfmade import photo, plot, resized, table
from s1pro.corpus.phash import perceptual_hashes
from s1pro.corpus.records import ElementRow, Mention
from s1pro.corpus.routing import FIGURE_FEATURES, figure_features, scientific_probability


def measured(element: ElementRow) -> ElementRow:
    """With ink and entropy, as ingest fills them in."""
    grey = np.asarray(Image.open(io.BytesIO(element.image)).convert("L"))
    hashes = perceptual_hashes(grey)
    return replace(element, ink_ratio=hashes.ink_ratio, entropy=hashes.entropy)


def scientific(seed: int) -> ElementRow:
    rng = np.random.default_rng([21, seed])
    picture = (plot, plot, table, photo)[seed % 4](seed)
    element = picture.element(f"s{seed}")
    width = rng.uniform(150, 500)
    height = width * element.height / element.width
    said = rng.random()
    return measured(
        replace(
            element,
            box=(0.0, 0.0, width, min(height, 700.0)),
            label=f"Figure {seed % 9 + 1}" if said < 0.85 else "",
            caption=" ".join(["word"] * int(rng.integers(4, 60))) if said < 0.9 else "",
            mentions=tuple(Mention(page=0, text="see the figure") for _ in range(int(rng.integers(0, 4))))
            if said < 0.8
            else (),
            text_layer=element.text_layer if rng.random() < 0.7 else "",
        )
    )


def decoration(seed: int) -> ElementRow:
    rng = np.random.default_rng([22, seed])
    kind = seed % 4
    if kind == 3:
        element = resized(photo(seed + 10_000), float(rng.uniform(0.3, 1.2))).element(f"d{seed}")
    else:
        size = ((80, 80), (300, 60), (520, 24))[kind]
        image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(180, 256, 3)))
        draw = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
            draw.ellipse((x - 20, y - 20, x + 20, y + 20), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
        draw.text((8, size[1] // 3), str(rng.choice(["JOURNAL", "iD", "Open Access", "PRESS", "&"])), fill="black",
                  font=ImageFont.load_default(14))  # fmt: skip
        stream = io.BytesIO()
        image.save(stream, "PNG")
        element = replace(scientific_blank(f"d{seed}"), image=stream.getvalue(), width=size[0], height=size[1])
    width = rng.uniform(20, 300 if kind == 3 else 160)
    return measured(
        replace(
            element,
            type="figure",
            box=(0.0, 0.0, width, width * element.height / element.width),
            text_layer=str(rng.choice(["", "", "Open Access", "ISSN 1234-5678"])),
            caption="A photograph of the author" if kind == 3 and rng.random() < 0.2 else "",
        )
    )


def scientific_blank(name: str) -> ElementRow:
    return ElementRow(
        element_id=name,
        doc_id="0" * 64,
        page=0,
        type="figure",
        box=(0.0, 0.0, 1.0, 1.0),
        page_width=595.0,
        page_height=842.0,
    )


def rows(start: int, number: int) -> Iterator[tuple[ElementRow, int]]:
    for seed in range(start, start + number):
        yield scientific(seed), 1
        yield decoration(seed), 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=int, default=200)
    number = parser.parse_args().figures
    made = list(rows(0, number))
    x = np.array([figure_features(element) for element, _ in made])
    y = np.array([label for _, label in made], dtype=float)
    weights, offset = np.zeros(x.shape[1]), 0.0
    for _ in range(20_000):
        error = 1 / (1 + np.exp(-(x @ weights + offset))) - y
        weights -= 1.0 * (x.T @ error / len(y) + 0.003 * weights)
        offset -= 1.0 * error.mean()
    print("SCIENTIFIC_WEIGHTS =", {n: round(float(w), 2) for n, w in zip(FIGURE_FEATURES, weights, strict=True)})
    print("SCIENTIFIC_OFFSET =", round(float(offset), 2))
    test = list(rows(5000, number))
    z = np.array([figure_features(element) for element, _ in test]) @ weights + offset
    truth = np.array([label for _, label in test])
    print(f"of {len(test)} others {((z > 0) == truth).mean():.3f} are sorted right by these weights")
    shipped = np.array([scientific_probability(element) > 0.5 for element, _ in test])
    print(f"and {(shipped == truth).mean():.3f} by those in the source file")


if __name__ == "__main__":
    main()
