from __future__ import annotations

import pytest

from s1pro.report.blocks import check_svg
from s1pro.report.stacks import stacked_bars

ROWS = [("forward", {"weights": 2.0, "buffers": 1.0}), ("backward", {"weights": 2.0, "gradients": 5.0, "none": 0.0})]


def test_parts_rows_and_totals_are_in_the_drawing() -> None:
    svg = stacked_bars(ROWS, name="stack", x_label="GB", limit=6.0, limit_label="usable")
    check_svg(svg)
    for word in ("forward", "backward", "weights", "gradients", "usable", ">3<", "7 (over)"):
        assert word in svg
    assert ">none<" not in svg
    assert svg == stacked_bars(ROWS, name="stack", x_label="GB", limit=6.0, limit_label="usable")


def test_what_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        stacked_bars([], name="stack", x_label="GB")
    with pytest.raises(ValueError, match="negative part"):
        stacked_bars([("a", {"b": -1.0})], name="stack", x_label="GB")
