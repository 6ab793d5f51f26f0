"""OCRBench V2: credits by hand, trees against all mappings, records in the schema of VLMEvalKit's table."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import ocr_credit, ocr_reading, ocr_tables
from s1pro.tasks.benchmarks.ocr_records import prepared
from s1pro.tasks.benchmarks.ocrbench import ABILITIES, KINDS, _compat, _strict
from s1pro.tasks.benchmarks.registry import load
from s1pro.tasks.benchmarks.trees import Tree, tree_distance

PICTURE = "iVBORw0KGgo" + "A" * 80
EMPTY = {"eval": "without eval", "bbox": "without bbox", "content": "without content", "question": "What is it?"}


def both(kind: str, answer: Any, reply: str, **more: str) -> tuple[float, float | None]:
    record = prepared({**EMPTY, "category": kind, "answer": repr(answer), **more})
    return _compat(reply, record), _strict(reply, record)


# words, letters, counts, formulas


@pytest.mark.parametrize(
    ("kind", "answer", "reply", "compat", "strict"),
    [
        ("text recognition en", ["cat"], "It is a CAT.", 1, 1),
        ("text recognition en", ["cat"], "concatenate", 1, 0),
        ("text recognition en", ["dog", "cat"], "cat", 1, 1),
        ("text recognition en", [12], "12", 1, 1),
        ("text recognition en", [12], "312", 1, 0),
        ("text recognition en", ["one two three four five"], "one two three four fine", 22 / 23, 22 / 23),
        ("text recognition en", ["one two three four five"], "one two", 0, 0),  # alike below 0.5
        ("diagram QA en", "cut", "cat", 2 / 3, 0),  # an answer that is no list may be alike
        ("diagram QA en", "one two three four five", "one two three four five", 0, 1),  # and is never right if long
        ("cognition VQA cn", ["\u4e2d \u56fd"], "\u5728\u4e2d\u56fd", 1, 1),
        ("cognition VQA cn", ["cat"], "a concat", 1, 0),
        ("reasoning VQA cn", ["1,2,3,4"], "1,2,3,5", 6 / 7, 6 / 7),
        ("formula recognition en", ["x^2 + 1"], "$x^2+1$", 1, 1),
        ("formula recognition en", ["x^2"], "x^2+1", 1, 0),
        ("formula recognition en", ["\\text{a}+1"], "a+1", 0, 1),
        ("formula recognition cn", ["\\text{a}+1"], "a + 1", 1, 1),
        ("handwritten answer extraction cn", ["AC"], "A\u3001C", 1, 1),
        ("handwritten answer extraction cn", ["AC"], "A / C", 0, 0),
        ("handwritten answer extraction cn", ["A"], "BANANA", 1, 0),
        ("text recognition en", ["cat"], "", 0, None),
        ("text recognition en", ["cat"], "<think>cat", 1, None),
        ("text recognition en", ["cat"], "cat</think>dog", 0, 0),
    ],
)
def test_words(kind: str, answer: Any, reply: str, compat: float, strict: float | None) -> None:
    assert both(kind, answer, reply) == pytest.approx((compat, strict))


@pytest.mark.parametrize(
    ("answer", "how", "reply", "compat", "strict"),
    [
        (["A"], "multiple choice", "A.", 1, 1),
        (["A"], "multiple choice", "The answer is A", 0, 1),
        (["A"], "multiple choice", "a", 0, 0),
        ("A", "multiple choice", "(A)", 1, 1),
        (["Cat"], "case sensitive", "cat", 0, 0),
        (["Cat"], "case sensitive", "a Cat", 1, 1),
    ],
)
def test_letters_and_capitals(answer: Any, how: str, reply: str, compat: float, strict: float) -> None:
    assert both("science QA en", answer, reply, eval=how) == (compat, strict)


@pytest.mark.parametrize(
    ("answer", "how", "reply", "compat", "strict"),
    [
        ([3], "exact match", "13 words", 1, 0),
        (["3"], "exact match", "line 1 has 3", 1, 1),
        (["10"], "regression", "about 8", 0.8, 0.8),
        (["10"], "regression", "on 9 lines there are 10", 0.9, 1),
        (["10"], "regression", "20", 0, 0),
        (["10"], "regression", "5", 0, 0),  # 0.5 is not above 0.5
        (["1000"], "regression", "1,000", 0, 1),
        (["10"], "regression", "ten", 0, 0),
    ],
)
def test_counts(answer: Any, how: str, reply: str, compat: float, strict: float) -> None:
    assert both("text counting en", answer, reply, eval=how) == pytest.approx((compat, strict))


# pages


def test_a_page() -> None:
    """Gold "the cat sat on", reply "the cat sat in": BLEU has no run of four, METEOR one chunk of three, F 3/4."""
    meteor = (1 - 0.5 * (1 / 3) ** 3) * 0.75
    compat, strict = both("full-page OCR en", ["the cat sat on"], "the cat sat in")
    assert compat == pytest.approx((meteor + 0.75 + 13 / 14) / 4, abs=1e-6)
    assert strict == pytest.approx(13 / 14)
    assert both("full-page OCR en", ["a b c d e"], "a b c d e") == pytest.approx(((3 + 1 - 0.5 / 125) / 4, 1))
    assert both("full-page OCR en", ["a b"], "a  b")[1] == 1
    assert both("full-page OCR en", ["a b"], "") == (0, None)


def test_chinese_is_cut_into_words() -> None:
    gold = "\u6211\u6765\u5230\u5317\u4eac\u6e05\u534e\u5927\u5b66"  # four words, as jieba cuts them: 1, 2, 2, 4 signs
    compat, strict = both("full-page OCR cn", [gold], gold)
    assert compat == pytest.approx((3 + 1 - 0.5 / 4**3) / 4) and strict == 1
    by_signs = both("text translation cn", [gold], gold)[1]
    assert by_signs == pytest.approx((3 + 1 - 0.5 / 9**3) / 4)


# pairs, charts


def test_pairs_of_key_and_value() -> None:
    gold = [{"name": ["Old Town", "OT"], "total": ["30"]}]
    for reply, compat, strict in (
        ('{"name": "old  town", "total": 30}', 1, 1),
        ('{"name": "ot"}', 1 / 2, 2 / 3),  # one of two keys; one of one pair against two
        ("```json\n{'name': 'OT', 'total': '31', 'tax': '1'}\n```", 1 / 3, 2 / 5),
        ("name: OT\ntotal = 30", 1, 1),
        ('["name", "total"]', 0, 0),
        ("nothing", 0, 0),
    ):
        assert both("key information extraction en", gold, reply) == pytest.approx((compat, strict)), reply
    assert both("key information extraction cn", [str({"a": "1"})], '{"a": "1"}') == (1, 1)


def test_a_chart_is_a_table_of_two_columns() -> None:
    """Six nodes. Upstream writes 10 as "1 0": three signs, of which one differs from "1 2"."""
    compat, strict = both("chart parsing en", [{"a": 10, "b": 7}], "```python\ndata = {'a': 12, 'b': 7}  # two\n```")
    assert compat == pytest.approx(1 - (1 / 3) / 6) and strict == pytest.approx(1 - (1 / 2) / 6)
    assert both("chart parsing en", [{"a": 1}], "no chart") == (0, 0)


# tables, documents


def test_similarity_of_tables() -> None:
    gold = "<table><tr><td>ab</td><td>c</td></tr></table>"
    for said, expected in (
        (gold, 1),
        ("<table><tr><td>ax</td><td>c</td></tr></table>", 1 - 0.5 / 3),
        ("<table><tr><td>ab</td></tr></table>", 1 - 1 / 3),
        ("<table><tr><td>ab</td><td>c</td></tr><tr><td>d</td></tr></table>", 1 - 2 / 5),
        ('<table><tr><td colspan="2">ab</td><td>c</td></tr></table>', 1 - 1 / 3),
        ('<table><tr><td colspan="x">ab</td><td>c</td></tr></table>', 0),
        ("<table><tr><td><b>ab</b></td><td>c</td></tr></table>", 1 - (2 / 4) / 4),  # <b> and </b> are one sign each
        ("<p>no table</p>", 0),
    ):
        assert ocr_tables.similarity(ocr_tables.wrapped(said), ocr_tables.wrapped(gold)) == pytest.approx(expected), (
            said
        )


def test_head_cells_are_not_compared_upstream() -> None:
    gold = "<table><tr><th>year</th></tr></table>"
    assert both("table parsing cn", [gold], gold.replace("year", "1999")) == pytest.approx((1, 1 - 1 / 2))
    assert both("table parsing cn", [gold], "no table") == (0, 0)


def test_markdown() -> None:
    gold = "| a | b |\n|---|---|\n| c | d |"
    ask = {"question": "as Markdown"}
    assert both("table parsing en", [gold], f"```markdown\n{gold}\n```", **ask) == (1, 1)
    assert both("table parsing en", [gold], "| a | b |\n| c | d |", **ask) == pytest.approx((1 - 3 / 6, 1))
    assert both("table parsing en", [gold], f"Here:\n{gold}", **ask)[1] == 1
    assert ocr_tables.upstream_markdown("dark | x | kram") == ocr_tables.page_of([["x"]])


def test_documents() -> None:
    """Root, title, two headings with a line each: six nodes. An empty line in place of one costs 1."""
    gold = "# A\nfirst\n# B\nsecond"
    assert both("document parsing en", [gold], "# C\nother\n# D\ntext")[0] == 1  # no text is compared
    assert both("document parsing en", [gold], gold) == (1, 1)
    assert both("document parsing en", [gold], "# A\n\n# B\nsecond")[0] == pytest.approx(1 - 1 / 6)
    assert both("document parsing en", [gold], "# A\nfirst")[0] == pytest.approx(1 - 2 / 6)
    assert both("document parsing en", [gold], "# A\nfifth\n# B\nsecond")[1] == pytest.approx(1 - (3 / 5) / 6)
    assert both("document parsing en", [gold], "") == (pytest.approx(1 - 4 / 6), None)


def mapped(left: Tree, right: Tree, rename: Any) -> float:
    """The least cost over all sets of pairs that keep order and ancestors: slow, and nothing like the algorithm."""

    def facts(tree: Tree) -> list[tuple[Any, int, int]]:
        found: list[tuple[Any, int, int]] = []
        ended = itertools.count()

        def visit(node: Tree) -> None:
            place = len(found)
            found.append((node.label, place, 0))
            for child in node.children:
                visit(child)
            found[place] = (node.label, place, next(ended))

        visit(tree)
        return found  # label, place in preorder, place in postorder

    a, b = facts(left), facts(right)
    best = float(len(a) + len(b))
    for size in range(1, min(len(a), len(b)) + 1):
        for some in itertools.combinations(range(len(a)), size):
            for other in itertools.combinations(range(len(b)), size):
                pairs = list(zip(some, other, strict=True))
                if all((a[i][n] < a[j][n]) == (b[k][n] < b[m][n]) for i, k in pairs for j, m in pairs for n in (1, 2)):
                    cost = len(a) + len(b) - 2 * size + sum(rename(a[i][0], b[k][0]) for i, k in pairs)
                    best = min(best, cost)
    return best


def test_the_distance_of_trees_is_the_least_over_all_mappings() -> None:
    random_generator = random.Random(0)

    def tree(size: int) -> Tree:
        nodes = [Tree(random_generator.choice("abc"))]
        for _ in range(size - 1):
            node = Tree(random_generator.choice("abc"))
            random_generator.choice(nodes).children.append(node)
            nodes.append(node)
        return nodes[0]

    def rename(left: str, right: str) -> float:
        return {0: 0.0, 1: 0.4, 2: 1.0}[abs(ord(left) - ord(right))]

    for _ in range(40):
        left, right = tree(random_generator.randint(1, 6)), tree(random_generator.randint(1, 6))
        assert tree_distance(left, right, rename) == pytest.approx(mapped(left, right, rename))


# places


def test_places() -> None:
    box = [0, 0, 10, 10]
    kind = "text grounding en"
    assert both(kind, box, "first (1,1,2,2), then [0, 0, 10, 5]") == pytest.approx((0.5, 0.5))
    assert both(kind, box, "(0, 0, 10, 10) and (0, 0, 2000, 3)") == (1, 1)
    assert both(kind, box, "(0.0, 0, 10, 10)") == (0, 1)
    assert both(kind, box, "everywhere") == (0, 0)
    placed = "VQA with position en"
    for reply, expected in (
        ('{"answer": "a cat", "bbox": [0, 0, 10, 5]}', (0.75, 0.75)),
        ('{"answer": "cats", "bbox": [0, 0, 10, 10]}', (1, 0.5)),
        ('{"answer": "cat", "bbox": "none"}', (0.5, 0.5)),
        ('{"bbox": [0, 0, 10]}', (0, 0)),
        ("cat", (0, 0)),
    ):
        assert both(placed, ["cat"], reply, bbox=str(box)) == pytest.approx(expected), reply


def test_words_and_their_places() -> None:
    boxes, texts = [[0, 0, 10, 10], [20, 0, 20, 10, 30, 10, 30, 0], [50, 0, 60, 10]], ["Cat!", "dog", "###"]
    spots = {"bbox": str(boxes), "content": str(texts)}
    kind = "text spotting en"
    for reply, compat, strict in (
        ("[(0, 0, 10, 10, 'CAT'), (20, 0, 30, 10, 'dog')]", 1, 1),
        ("(0, 0, 10, 10, cat) and (20, 0, 30, 10, cow)", 1 / 2, 1 / 2),
        ("[(0, 0, 10, 10, 'cat'), (51, 0, 60, 10, 'x')]", 2 / 3, 2 / 3),  # on ### nothing counts
        ("[(0, 0, 10, 9, 'rat'), (0, 0, 10, 10, 'cat')]", 0, 1 / 2),  # the wrong one takes the place
        ("[(0, 0, 4, 10, 'cat')]", 0, 0),
        ("[(9, 9, 9, 9, 'cat')]", 0, 0),
        ("nothing", 0, 0),
    ):
        assert both(kind, ["-"], reply, **spots) == pytest.approx((compat, strict)), reply


# the whole


def row(kind: str, answer: Any, **more: str) -> dict[str, str]:
    return {"index": "0", "image": PICTURE, "category": kind, "answer": repr(answer), **EMPTY, **more}


def table(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "OCRBench_v2.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows({**each, "index": str(number)} for number, each in enumerate(rows))


def test_abilities_pool_their_items(tmp_path: Path) -> None:
    rows = [
        row("math QA en", ["4"]),
        row("text counting en", ["10"], eval="regression"),
        row("text counting en", ["10"], eval="regression"),
        row("text translation cn", [""]),
        row("text translation cn", ["cat"]),
    ]
    table(tmp_path, rows)
    (task,) = load("ocrbench-v2", tmp_path, subtasks=["mathematical_calculation"])
    replies = ["4", "8", "30"]
    found = task.aggregate([task.grade(item, reply) for item, reply in zip(task.items(), replies, strict=True)])
    assert found["compat"] == pytest.approx(100 * 1.8 / 3)
    assert found["compat.text counting en"] == pytest.approx(40) and found["compat.math QA en"] == 100
    assert task.prompt(task.items()[0]).messages[0].content[0]["image"].startswith("data:image/png")
    (task,) = load("ocrbench-v2-zh", tmp_path, subtasks=["knowledge_reasoning"])
    assert len(task.items()) == 1  # an empty translation is left out


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (row("palm reading en", ["x"]), "line 2: the field 'category' is 'palm reading en', which is no kind"),
        (
            row("text counting en", ["1"]),
            "line 2: the field 'eval' is 'without eval', expected exact match or regression",
        ),
        (row("math QA en", ["1"], eval="soft"), "line 2: the field 'eval' is 'soft'"),
        ({**row("math QA en", ["1"]), "answer": "[1"}, "line 2: the field 'answer': '.1' is neither JSON nor"),
    ],
)
def test_wrong_records(tmp_path: Path, wrong: dict[str, str], why: str) -> None:
    table(tmp_path, [wrong])
    with pytest.raises(InputError, match=why):
        load("ocrbench-v2", tmp_path, subtasks=["mathematical_calculation"])


def test_every_kind_has_an_ability_and_every_wrong_gold_is_refused() -> None:
    assert len(KINDS) == 30 == sum(len(kinds) for some in ABILITIES.values() for kinds in some.values())
    for kind, answer, more in (
        ("text grounding en", [1, 2, 3], {}),
        ("VQA with position en", ["a"], {}),
        ("VQA with position en", ["a"], {"bbox": "[1, 2]"}),
        ("text spotting en", ["a"], {"bbox": "[[1, 2, 3, 4]]", "content": "[]"}),
        ("chart parsing en", ["a"], {}),
        ("key information mapping en", ["a"], {}),
        ("table parsing en", ["a"], {}),
        ("full-page OCR en", [], {}),
    ):
        with pytest.raises(ValueError, match=r"field|JSON|dictionary"):
            prepared({**EMPTY, "category": kind, "answer": repr(answer), **more})


GOLDS: dict[str, dict[str, Any]] = {
    "text counting en": {"answer": "['3']", "eval": "regression"},
    "table parsing en": {"answer": "['<table><tr><td>a</td></tr></table>']", "question": "HTML"},
    "chart parsing en": {"answer": "[{'a': 1}]"},
    "VQA with position en": {"bbox": "[0, 0, 9, 9]"},
    "text grounding en": {"answer": "[0, 0, 9, 9]"},
    "text spotting en": {"bbox": "[[0, 0, 9, 9]]", "content": "['a']"},
    **{
        f"key information {what}": {"answer": "[\"{'a': '1'}\"]"}
        for what in ("extraction en", "mapping en", "extraction cn")
    },
}


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="[](){}'\":,|<>/=#`\\$ 019abtdrA\n\u4e2d", max_size=40))
def test_no_reply_raises(reply: str) -> None:
    for kind in KINDS:
        record = prepared({**EMPTY, "category": kind, "answer": "['a']", **GOLDS.get(kind, {})})
        assert 0 <= _compat(reply, record) <= 1 + 1e-9, kind
        assert 0 <= (_strict(reply, record) or 0) <= 1 + 1e-9, kind


def test_readers_of_replies() -> None:
    assert ocr_reading.pairs_in('{"a": 1}') == {"a": "1"} and ocr_reading.pairs_in("{1: 2}") == {}
    assert ocr_reading.chart_in("x = {'a': {'b': 1}} and so on") == {"a": {"b": 1}}
    assert ocr_reading.spots_in("[(1, 2, 3, 4, 'a'), (1, 2, 3, 4, 'a'), (1, 2, 3, 4)]") == [([1, 2, 3, 4], "a")]
    assert ocr_credit.words_credit("", [""]) == 1.0
