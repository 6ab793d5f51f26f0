"""Can the page be read from its file alone? If not: OCR, or a model of layouts.

`needs_ocr`: there is no text to trust. `needs_layout_model`: there is text, but where figures are cannot be told from
the geometry. Every reason is named; nothing is dropped because of a route.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s1pro.corpus.pdf.content import PageContent
from s1pro.corpus.records import PageRoute

MAP_ERRORS = 0.04
PRIVATE_USE = 0.03
COVERED = 0.8
FEW_CHARS = 50
GRID = 64


@dataclass(frozen=True)
class Health:
    """Shares of unusable characters and of the page under raster images; the route that follows, and why."""

    num_chars: int
    unicode_errors: float
    private_use: float
    image_coverage: float
    route: PageRoute
    reasons: tuple[str, ...]


def check_health(content: PageContent) -> Health:
    """The tests of the text layer of one page."""
    codes = content.chars.codes
    inked = codes[codes > 32]
    count = max(1, len(inked))
    broken = ((codes == 0) | (codes == 0xFFFD) | ((codes > 2) & (codes < 9)) | ((codes >= 0x80) & (codes < 0xA0))).sum()
    private = ((inked >= 0xE000) & (inked <= 0xF8FF)).sum()
    errors = max(float(broken) / count, content.map_errors)
    coverage = _coverage(content)
    hidden = bool(len(content.runs.invisible)) and float(content.runs.invisible.mean()) > 0.5
    reasons: list[str] = []
    if errors >= MAP_ERRORS and len(inked) >= 30:
        reasons.append(f"{errors:.0%} of the characters have no Unicode")
    if private / count >= PRIVATE_USE and len(inked) >= 30:
        reasons.append(f"{private / count:.0%} of the characters are in the private use area")
    if len(inked) < FEW_CHARS and coverage > 0.3:
        reasons.append(f"{len(inked)} characters under images that cover {coverage:.0%} of the page")
    if len(inked) < FEW_CHARS and coverage <= 0.3 and len(content.paths) > 1500:
        reasons.append(f"{len(inked)} characters and {len(content.paths)} paths: text drawn as outlines")
    route: PageRoute = "needs_ocr" if reasons else "text"
    if not reasons and coverage >= COVERED:
        reasons.append(f"images cover {coverage:.0%} of the page" + (", with a text layer behind" if hidden else ""))
        route = "needs_layout_model"
    return Health(len(inked), errors, float(private) / count, coverage, route, tuple(reasons))


def _coverage(content: PageContent) -> float:
    """Share of the page under images, on a grid of 64 × 64 cells."""
    if not len(content.images):
        return 0.0
    boxes = content.images.boxes[~np.isnan(content.images.boxes).any(axis=1)][:2000]
    scale = np.array([content.width, content.height, content.width, content.height]) / GRID
    cells = np.clip(boxes / np.maximum(scale, 1e-6), 0, GRID)
    grid = np.zeros((GRID, GRID), dtype=bool)
    for x0, y0, x1, y1 in np.rint(cells).astype(int).tolist():
        grid[y0:y1, x0:x1] = True
    return float(grid.mean())
