"""Parts of a network, named by patterns of parameter names: what is trained, and at which rate.

A pattern is matched like a file name, against the whole path of a parameter; `*` also crosses dots:

    model.visual.merger.*            the projector of the vision tower
    model.visual.blocks.*            its transformer blocks
    *.bias                           every bias

A pattern that matches nothing is an error that lists the parts there are: a typing mistake must not train, or freeze,
the wrong weights in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from s1pro.base.errors import InputError


def freeze_all_but(network: nn.Module, patterns: Sequence[str]) -> None:
    """Switches gradients on for parameters that match a pattern and off for all others.

    Raises:
        InputError: a pattern matches no parameter.
    """
    names = [name for name, _ in network.named_parameters()]
    check_patterns(names, patterns, "trainable")
    for name, param in network.named_parameters():
        param.requires_grad_(matches(name, patterns))


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(names: Sequence[str], patterns: Iterable[str], setting: str) -> None:
    """Raises for the first pattern without a match; `setting` is where it was written."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise InputError(f"{setting}: {pattern!r} matches no parameter; there are {', '.join(parts)}")
