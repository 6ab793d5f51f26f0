"""Are two pictures the same figure? Registered, then compared place by place.

1. **Start.** The boxes of the two views whose hashes are nearest say where one picture lies in the other. A phase
   correlation at 64 pixels corrects the shift.
2. **Register.** The box in the second picture (a scale and a shift for each direction) is improved by Gauss-Newton
   steps at 64, 128 and the final resolution: with `r` the difference of the two pictures and `g` the gradient,

       minimise | r - gx (dx0 (1-u) + dx1 u) - gy (dy0 (1-v) + dy1 v) |²,   u, v from 0 to 1 across the picture

3. **Compare.** Both are brought to one resolution, blurred a little (one of them may have been scaled or compressed)
   and fitted in brightness and gamma. In a window of 9 pixels around every pixel

       s = (2 cov(a, b) + c) / (var(a) + var(b) + c)

   is 1 where both show the same, and about 0 where one shows a line that the other does not have. `c` keeps the noise
   of plain areas out. The **similarity** is the mean of the lowest 0.3 % of `s` over the places where there is
   anything. A mean over all would say that two plots of one template are alike, for most of both is the template.
   Where 128 pixels already show a difference, the fine comparison is left out.
4. **Overlap.** Each must show at least `min_overlap` of the other one's content.

The order of the two does not matter: they are compared in the order of their ids. Left out: rotations, mirror images,
and a panel that is shown alone elsewhere; they are different figures here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from s1pro.corpus.dedup.settings import DedupSettings
from s1pro.corpus.dedup.signature import NUM_BASE_VIEWS, Signature
from s1pro.corpus.phash import hamming

Frame = tuple[float, float, float, float]
_LEVELS = (64, 128)
_STEPS = 4
_LAST_STEPS = 2
_HOPELESS = 0.3  # at 128 pixels; copies are far above it
_MARGIN = 0.3
_NOISE = 400.0  # variance of grey values that counts as nothing
_WINDOW = 9
_LOWEST = 0.003


@dataclass(frozen=True, kw_only=True)
class Match:
    """What two signatures say about a pair before any pixel is read: nearest views and their different bits."""

    views: tuple[int, int]
    hamming: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Similarity of the registered pictures, overlap of their contents (the smaller of both shares)."""

    similarity: float
    overlap: float


def nearest_views(first: Signature, second: Signature, settings: DedupSettings) -> Match | None:
    """The nearest pair of views of equal shape within the radius, None if there is none. Two cuts are not compared."""
    best: Match | None = None
    for i, left in enumerate(first.hashes):
        for j, right in enumerate(second.hashes):
            if i >= NUM_BASE_VIEWS and j >= NUM_BASE_VIEWS:
                continue
            ratio = first.aspect(i) / second.aspect(j)
            if max(ratio, 1 / ratio) > 1 + settings.aspect_tolerance:
                continue
            bits = hamming(left, right)
            if bits <= settings.radius and (best is None or bits < best.hamming):
                best = Match(views=(i, j), hamming=bits)
    return best


def compare(
    first: tuple[Signature, Image.Image], second: tuple[Signature, Image.Image], match: Match, settings: DedupSettings
) -> Verdict:
    """Registers and compares two grey pictures."""
    (a, a_picture), (b, b_picture) = first, second
    views = match.views
    if b.element_id < a.element_id:
        (a, a_picture), (b, b_picture), views = (b, b_picture), (a, a_picture), (views[1], views[0])
    a_box = _pixels(a.views[0], a_picture)
    b_view, a_view = _pixels(b.views[views[1]], b_picture), _pixels(a.views[views[0]], a_picture)
    frame = _carry(a_box, a_view, b_view)
    canvas = _Canvas(b_picture)
    side = min(settings.compared_side, _long_side(a_box), _long_side(frame))
    similarity = 0.0
    for level in (*(level for level in _LEVELS if level < side), side):
        frame = _register(a_picture, a_box, canvas, frame, level, shift=level == _LEVELS[0])
        if level < _LEVELS[-1] and level < side:
            continue
        similarity = _similarity(a_picture, a_box, canvas, frame, level)
        if similarity < _HOPELESS:
            break
    overlap = _overlap(a_picture, a_box, b_picture, _pixels(b.views[0], b_picture), frame)
    return Verdict(similarity=similarity, overlap=overlap)


class _Canvas:
    """A picture whose edge is repeated outwards, so that a box may reach beyond it."""

    def __init__(self, picture: Image.Image) -> None:
        self.margin = (round(_MARGIN * picture.width) + 2, round(_MARGIN * picture.height) + 2)
        dx, dy = self.margin
        self.picture = Image.fromarray(np.pad(np.asarray(picture), ((dy, dy), (dx, dx)), mode="edge"))
        self.size = picture.size

    def cut(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        return _resized(self.picture, self._inside(frame), size)

    def inside(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """Which pixels of `cut` show the picture and not the margin, nor an edge mixed with it."""
        sx, sy = (frame[2] - frame[0]) / size[0], (frame[3] - frame[1]) / size[1]
        x = frame[0] + (np.arange(size[0]) + 0.5) * sx
        y = frame[1] + (np.arange(size[1]) + 0.5) * sy
        rows = (y >= sy - 0.51 * sy) & (y <= self.size[1] - sy + 0.51 * sy)
        columns = (x >= sx - 0.51 * sx) & (x <= self.size[0] - sx + 0.51 * sx)
        return rows[:, None] & columns[None, :]

    def _inside(self, frame: Frame) -> Frame:
        dx, dy = self.margin
        x0, x1 = _ordered(frame[0] + dx, frame[2] + dx, self.picture.width)
        y0, y1 = _ordered(frame[1] + dy, frame[3] + dy, self.picture.height)
        return x0, y0, x1, y1


def _ordered(low: float, high: float, size: int) -> tuple[float, float]:
    low = min(max(low, 0.0), size - 2.0)
    return low, min(max(high, low + 1.0), float(size))


def _pixels(view: Frame, picture: Image.Image) -> Frame:
    x0, y0, x1, y1 = view
    return x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height


def _carry(box: Frame, source: Frame, target: Frame) -> Frame:
    """Where `box` lies under the map that takes `source` to `target`."""
    sx = (target[2] - target[0]) / (source[2] - source[0])
    sy = (target[3] - target[1]) / (source[3] - source[1])
    return (
        target[0] + (box[0] - source[0]) * sx,
        target[1] + (box[1] - source[1]) * sy,
        target[0] + (box[2] - source[0]) * sx,
        target[1] + (box[3] - source[1]) * sy,
    )


def _long_side(box: Frame) -> int:
    return max(16, int(max(box[2] - box[0], box[3] - box[1])))


def _size(box: Frame, side: int) -> tuple[int, int]:
    width, height = box[2] - box[0], box[3] - box[1]
    scale = side / max(width, height)
    return max(16, round(width * scale)), max(16, round(height * scale))


def _resized(picture: Image.Image, box: Frame, size: tuple[int, int]) -> np.ndarray:
    cut = picture.resize(size, Image.Resampling.BILINEAR, box=box).filter(ImageFilter.BoxBlur(1))
    return np.asarray(cut, dtype=np.float32)


def _register(a: Image.Image, a_box: Frame, canvas: _Canvas, frame: Frame, level: int, *, shift: bool) -> Frame:
    """The box in the second picture that shows what `a_box` shows in the first, improved at one resolution."""
    size = _size(a_box, level)
    wanted = _resized(a, a_box, size)
    if shift:
        frame = _shifted(frame, size, *_phase_shift(_standard(wanted), _standard(canvas.cut(frame, size))))
    return _gauss_newton(wanted, canvas, frame, size, _STEPS if level <= _LEVELS[-1] else _LAST_STEPS)


def _gauss_newton(wanted: np.ndarray, canvas: _Canvas, frame: Frame, size: tuple[int, int], steps: int) -> Frame:
    """The best of a few steps. Only places that the second picture shows have a say."""
    width, height = size
    u = ((np.arange(width) + 0.5) / width)[None, :]
    v = ((np.arange(height) + 0.5) / height)[:, None]
    best, best_error = frame, np.inf
    for step in range(steps + 1):
        inside = canvas.inside(frame, size)
        if inside.mean() < 0.5:
            break
        shown = canvas.cut(frame, size)
        target, shown = _standard(wanted, inside), _standard(shown, inside)
        difference = (target - shown)[inside]
        error = float(np.mean(difference**2))
        if error < best_error:
            best, best_error = frame, error
        gy, gx = np.gradient(shown)
        slopes = np.stack([each[inside] for each in (gx * (1 - u), gx * u, gy * (1 - v), gy * v)])
        normal = slopes @ slopes.T + 1e-5 * width * height * np.eye(4)
        move = np.clip(np.linalg.solve(normal, slopes @ difference), -3.0, 3.0)
        if step == steps or np.abs(move).max() < 0.02:
            break
        sx, sy = (frame[2] - frame[0]) / width, (frame[3] - frame[1]) / height
        frame = (
            frame[0] + move[0] * sx,
            frame[1] + move[2] * sy,
            frame[2] + move[1] * sx,
            frame[3] + move[3] * sy,
        )
    return best


def _shifted(frame: Frame, size: tuple[int, int], dx: int, dy: int) -> Frame:
    sx, sy = dx * (frame[2] - frame[0]) / size[0], dy * (frame[3] - frame[1]) / size[1]
    return frame[0] + sx, frame[1] + sy, frame[2] + sx, frame[3] + sy


def _phase_shift(wanted: np.ndarray, shown: np.ndarray) -> tuple[int, int]:
    """By how many pixels, at most 8 % of each side, the window on the second picture has to move."""
    spectrum = np.fft.rfft2(shown) * np.conj(np.fft.rfft2(wanted))
    correlation = np.fft.irfft2(spectrum / (np.abs(spectrum) + 1e-3), s=wanted.shape)
    height, width = wanted.shape
    rows = np.abs(np.fft.fftfreq(height)) <= 0.08
    columns = np.abs(np.fft.fftfreq(width)) <= 0.08
    allowed = np.where(rows[:, None] & columns[None, :], correlation, -np.inf)
    y, x = np.unravel_index(int(np.argmax(allowed)), allowed.shape)
    return int(x if x <= width // 2 else x - width), int(y if y <= height // 2 else y - height)


def _standard(values: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    told = values if inside is None else values[inside]
    return np.asarray((values - told.mean()) / (told.std() + 1e-3))


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over windows of odd width, the edge repeated."""
    half = window // 2
    padded = np.pad(np.asarray(values, dtype=np.float64), half, mode="edge")
    total = np.zeros((padded.shape[0] + 1, padded.shape[1] + 1))
    np.cumsum(np.cumsum(padded, axis=0), axis=1, out=total[1:, 1:])
    n = window
    return np.asarray((total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]) / (n * n))


def _similarity(a: Image.Image, a_box: Frame, canvas: _Canvas, frame: Frame, side: int) -> float:
    size = _size(a_box, side)
    inside = canvas.inside(frame, size)
    if inside.mean() < 0.5:
        return 0.0
    first, second = _resized(a, a_box, size), canvas.cut(frame, size)
    second = _fitted(first, second, inside)
    window = min(_WINDOW, 2 * (min(size) // 4) + 1)
    local = _structure(first, second, window)
    told = local[_smooth(inside.astype(np.float64), window) > 0.999]
    if not told.size:
        return 0.0
    lowest = max(1, round(_LOWEST * told.size))
    return float(np.partition(told, lowest - 1)[:lowest].mean())


def _structure(first: np.ndarray, second: np.ndarray, window: int) -> np.ndarray:
    mean_a, mean_b = _smooth(first, window), _smooth(second, window)
    var_a = np.maximum(_smooth(first * first, window) - mean_a**2, 0.0)
    var_b = np.maximum(_smooth(second * second, window) - mean_b**2, 0.0)
    covariance = _smooth(first * second, window) - mean_a * mean_b
    return np.asarray((2 * covariance + _NOISE) / (var_a + var_b + _NOISE))


def _fitted(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The second in the brightness, contrast and gamma of the first: a parabola by least squares, if it is rising."""
    x, y = second[inside] / 255.0, first[inside]
    if x.std() < 1e-3:
        return second
    powers = np.stack([np.ones_like(x), x, x * x])
    offset, slope, bend = np.linalg.solve(powers @ powers.T + 1e-6 * np.eye(3), powers @ y)
    if min(slope, slope + 2 * bend) < 0.0:
        slope, bend = float(np.clip(np.cov(x, y)[0, 1] / x.var(), 127.0, 510.0)), 0.0
        offset = y.mean() - slope * x.mean()
    told = second / 255.0
    return np.asarray(offset + slope * told + bend * told * told)


def _overlap(a: Image.Image, a_box: Frame, b: Image.Image, b_box: Frame, frame: Frame) -> float:
    """The smaller share of either content that lies inside the other picture."""
    shown_in_b = _share(frame, (0.0, 0.0, float(b.width), float(b.height)))
    shown_in_a = _share(_carry(b_box, frame, a_box), (0.0, 0.0, float(a.width), float(a.height)))
    return min(shown_in_b, shown_in_a)


def _share(box: Frame, window: Frame) -> float:
    width = min(box[2], window[2]) - max(box[0], window[0])
    height = min(box[3], window[3]) - max(box[1], window[1])
    return max(0.0, width) * max(0.0, height) / max(1e-9, (box[2] - box[0]) * (box[3] - box[1]))
