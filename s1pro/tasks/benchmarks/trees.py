"""Trees and what it costs to make one into the other: the measure of tables and of documents in OCRBench.

The distance of two ordered trees is the least sum of costs of removing a node, inserting one (1 each) and renaming one
(0 to 1), with children kept in order (Zhang and Shasha, 1989). With l(i) the first leaf below node i in postorder, for
every pair of key roots (nodes with a left sibling, and the root)

    d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1,  d(i-1, j-1) + rename(i, j)            if both are whole trees,
                                                 d(l(i)-1, l(j)-1) + distance(i, j)    else)

The similarity is 1 - distance / size, where `size` is what the benchmark divides by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Rename = Callable[[Any, Any], float]


@dataclass
class Tree:
    """A node with its children."""

    label: Any
    children: list[Tree] = field(default_factory=list)

    def nodes(self) -> Iterator[Tree]:
        """This node and all below it, parents first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)


def tree_distance(left: Tree, right: Tree, rename: Rename) -> float:
    """See the module docstring."""
    labels_a, first_a, roots_a = _postorder(left)
    labels_b, first_b, roots_b = _postorder(right)
    renamed = [[rename(a, b) for b in labels_b] for a in labels_a]
    known = [[0.0] * len(labels_b) for _ in labels_a]
    for i in roots_a:
        for j in roots_b:
            _fill(i, j, first_a, first_b, renamed, known)
    return known[-1][-1]


def _fill(
    i: int, j: int, first_a: list[int], first_b: list[int], renamed: list[list[float]], known: list[list[float]]
) -> None:
    """Distances of all pairs of trees that begin at the first leaves of the key roots `i` and `j`."""
    from_a, from_b = first_a[i], first_b[j]
    above: list[float] = [float(n) for n in range(j - from_b + 2)]
    rows = [above]
    for a in range(from_a, i + 1):
        row = [rows[-1][0] + 1.0]
        before = rows[-1]
        whole_a, cut = first_a[a] == from_a, rows[first_a[a] - from_a]
        for n, b in enumerate(range(from_b, j + 1)):
            best = min(before[n + 1], row[n]) + 1.0
            if whole_a and first_b[b] == from_b:
                best = min(best, before[n] + renamed[a][b])
                known[a][b] = best
            else:
                best = min(best, cut[first_b[b] - from_b] + known[a][b])
            row.append(best)
        rows.append(row)


def _postorder(tree: Tree) -> tuple[list[Any], list[int], list[int]]:
    """Labels, first leaf of every node, and key roots in rising order; without recursion, since documents are deep."""
    labels: list[Any] = []
    first: list[int] = []
    waiting: list[tuple[Tree, int]] = [(tree, -1)]
    while waiting:
        node, begin = waiting.pop()
        if begin < 0:
            waiting.append((node, len(labels)))
            waiting += [(child, -1) for child in reversed(node.children)]
        else:
            labels.append(node.label)
            first.append(begin)
    last = {leaf: number for number, leaf in enumerate(first)}  # of several nodes with one first leaf, the highest
    return labels, first, sorted(last.values())
