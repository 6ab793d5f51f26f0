from __future__ import annotations

from dataclasses import replace

import pytest

from s1pro.base.config import config_from_json, config_to_json, with_overrides
from s1pro.base.errors import InputError
from s1pro.corpus.dedup import find_duplicates
from s1pro.corpus.dedup.selfmade import plot, resized
from s1pro.corpus.records import DuplicateRow, ElementRow, Mention
from s1pro.corpus.routing import DROP, Route, RouteRule, RouteTable, count_routes, route, scientific_probability

BLANK = ElementRow(
    element_id="x", doc_id="0" * 64, page=0, type="figure", box=(0.0, 0.0, 300.0, 200.0), page_width=595.0,
    page_height=842.0, width=600, height=400, entropy=2.0, ink_ratio=0.1,
)  # fmt: skip
FIGURE = replace(
    BLANK,
    element_id="figure",
    label="Figure 2",
    caption="Stress and strain of the annealed alloy at several temperatures; grain size from diffraction.",
    mentions=(Mention(page=1, text="Figure 2 shows the hardness of the alloy."),),
    text_layer="0 0.5 1.0 1.5 2.0 strain (%) stress (MPa) 100 200 300",
)
LOGO = replace(BLANK, element_id="logo", box=(0.0, 0.0, 40.0, 40.0), width=60, height=60, entropy=1.0)


def test_figures_and_decorations() -> None:
    assert scientific_probability(FIGURE) > 0.9
    assert scientific_probability(LOGO) < 0.1


def test_rows_of_the_default_table() -> None:
    tiny = replace(LOGO, element_id="tiny", width=16, height=16)
    rows = route([FIGURE, LOGO, tiny])
    assert [row.route for row in rows] == ["scientific", "general", DROP]
    assert rows[0].topic == "materials" and not rows[0].abstained and rows[0].topic_probability > 0.5
    assert rows[1].abstained and rows[1].topic == "unknown"
    assert [row.reason for row in rows] == ["rule 3", "rule 4", "rule 1"]
    assert count_routes(rows) == {"drop": 1, "general": 1, "scientific": 1}


def test_what_returns_in_many_documents_is_junk() -> None:
    mark = resized(plot(3), 0.3)
    logos = [
        replace(mark.element(f"logo{i}"), doc_id=f"{i % 4:064d}", type="figure", box=(0.0, 0.0, 60.0, 40.0))
        for i in range(6)
    ]
    twins = [
        replace(plot(4).element(f"twin{i}"), doc_id=f"{i:064d}", label=f"Figure {i}", caption="stress of steel")
        for i in range(2)
    ]
    rows = route([*logos, *twins], duplicates=find_duplicates([*logos, *twins]))
    assert [row.route for row in rows] == [DROP] * 6 + ["scientific"] * 2
    assert rows[0].reason == "rule 0: junk: 6 copies in 4 documents"


@pytest.mark.parametrize(
    "change",
    [{"label": "Figure 1"}, {"box": (0.0, 0.0, 400.0, 300.0)}, {"doc_id": "1" * 64}],
    ids=["label", "large", "one"],
)
def test_what_is_labelled_or_large_or_from_one_document_is_not(change: dict[str, object]) -> None:
    members = [replace(LOGO, element_id=f"m{i}", **{"doc_id": f"{i:064d}", **change}) for i in range(6)]  # type: ignore[arg-type]
    copies = [DuplicateRow(element_id=m.element_id, representative="m0", decision="duplicate") for m in members]
    assert DROP not in {row.route for row in route(members, duplicates=copies)}


def test_the_table_is_configuration() -> None:
    table = RouteTable()
    assert config_from_json(RouteTable, config_to_json(table)) == table
    changed = with_overrides(table, ["rules.3.min_scientific=0.99999", "routes.0.max_tokens=50"])
    assert changed.routes[0].max_tokens == 50
    assert route([FIGURE], changed)[0].route == "general"
    own = RouteTable(
        routes=(Route(name="alloys", model="big"),),
        rules=(RouteRule(route="alloys", topics=("materials",)), RouteRule(route=DROP)),
    )
    assert [row.route for row in route([FIGURE, LOGO], own)] == ["alloys", DROP]


def test_wrong_tables() -> None:
    with pytest.raises(ValueError, match="names the route 'nowhere'"):
        RouteTable(rules=(RouteRule(route="nowhere"),))
    with pytest.raises(ValueError, match="must fit everything"):
        RouteTable(rules=(RouteRule(route="general", topics=("earth",)),))
    with pytest.raises(InputError, match="unknown setting"):
        config_from_json(RouteTable, {"rule": []})
