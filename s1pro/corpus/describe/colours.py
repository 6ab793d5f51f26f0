"""Names of colours, as people use them, and whether two colours are the same to the eye.

The nearest of a few named colours in CIE Lab (D65), with the lightness counted half: people name hue first.
"""

from __future__ import annotations

from functools import cache

import numpy as np

Colour = tuple[int, int, int]

# several examples per name: the usual cycles of plotting programs lie near them
_EXAMPLES: dict[str, tuple[str, ...]] = {
    "black": ("000000", "1a1a1a"),
    "dark grey": ("404040", "595959"),
    "grey": ("7f7f7f", "8c8c8c", "999999"),
    "light grey": ("bab0ac", "c0c0c0", "dddddd"),
    "white": ("ffffff", "f7f7f7"),
    "red": ("d62728", "e41a1c", "ff0000", "e45756", "c44e52"),
    "dark red": ("8b0000", "800000"),
    "orange": ("ff7f0e", "f58518", "ff7f00", "ffa500", "dd8452"),
    "yellow": ("ffff00", "eeca3b", "f0e442", "ffd92f"),
    "olive": ("bcbd22", "808000"),
    "green": ("2ca02c", "54a24b", "008000", "4daf4a", "00ff00", "55a868"),
    "dark green": ("006400", "1b5e20"),
    "light green": ("98df8a", "a6d854", "88d27a"),
    "teal": ("72b7b2", "009e73", "008080", "66c2a5", "1b9e77"),
    "cyan": ("17becf", "00ffff", "56b4e9"),
    "light blue": ("9ecae9", "aec7e8", "87ceeb"),
    "blue": ("1f77b4", "4c78a8", "377eb8", "0000ff", "4c72b0", "0072b2"),
    "dark blue": ("000080", "00008b", "1f3a5f"),
    "purple": ("9467bd", "b279a2", "984ea3", "800080", "8172b3", "440154"),
    "pink": ("e377c2", "ff9da6", "f781bf", "ffc0cb", "fcbfd2"),
    "magenta": ("ff00ff", "cc79a7", "d6278a"),
    "brown": ("8c564b", "9d755d", "a65628", "937860", "d8b5a5"),
}


@cache
def name(colour: Colour) -> str:
    """The name of an RGB colour (0 to 255)."""
    weights = np.array([0.5, 1.0, 1.0])
    best, nearest = "", float("inf")
    for text, examples in _EXAMPLES.items():
        for example in examples:
            other = lab((int(example[:2], 16), int(example[2:4], 16), int(example[4:], 16)))
            distance = float(np.linalg.norm((lab(colour) - other) * weights))
            if distance < nearest:
                best, nearest = text, distance
    return best


def distance(a: Colour, b: Colour) -> float:
    """Difference of two colours (CIE76); below about 3 the eye sees none."""
    return float(np.linalg.norm(lab(a) - lab(b)))


def is_grey(colour: Colour) -> bool:
    return max(colour) - min(colour) <= 12


@cache
def lab(colour: Colour) -> np.ndarray:
    """CIE Lab of an sRGB colour."""
    rgb = np.array(colour) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
