"""Letters, boxes, clicks and pictures of the vision benchmarks."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import choices, grounding
from s1pro.tasks.benchmarks.registry import load
from tests.tasks.benchmarks.scoring import numbers

OPTIONS = {"A": "red fox", "B": "grey wolf", "C": "brown bear", "D": "lynx"}
PICTURE = base64.b64encode(b"\x89PNG\r\n" + bytes(60)).decode()


@pytest.mark.parametrize(
    ("text", "upstream", "strict"),
    [
        ("B", "B", "B"),
        ("(B).", "B", "B"),
        ("The answer is **B**", "B", "B"),
        ("\\boxed{B}", "B", "B"),
        ("it has a grey wolf", "B", None),
        ("grey wolf", "B", "B"),
        ("red fox or grey wolf", None, None),
        ("B or C", None, None),
        ("The answer is B because C is a bear, and so on, at length, in many words", "B", "B"),
        ("B is what I would say after looking at it for long", None, None),
        ("The answer is E", None, None),
        ("Cannot determine the answer", "Z", None),
        ("Z", "Z", None),
        ("A wolf", "A", None),
        ("Failed to obtain answer via API B", None, None),
        ("", None, None),
        ("**Answer:** B", "B", "B"),
        ("The correct option is (C) brown bear.", "C", "C"),
        ("Final answer: **B. grey wolf**", "B", "B"),
        ("I am sure. B", "B", "B"),
        ("Neither A nor B. The answer is C", "C", "C"),
        ("the answer is a wolf", "A", None),
        ("Antwort: B \N{SNOWMAN}", "B", None),
    ],
)
def test_letters(text: str, upstream: str | None, strict: str | None) -> None:
    assert choices.upstream_choice(text, OPTIONS) == upstream
    assert choices.strict_choice(text, OPTIONS) == strict


def test_texts_are_not_looked_for_in_long_replies() -> None:
    total = sum(map(len, OPTIONS.values()))
    assert choices.upstream_choice("grey wolf " + "x" * (2 * total - 10), OPTIONS) == "B"
    assert choices.upstream_choice("grey wolf " + "x" * (2 * total), OPTIONS) is None


@pytest.mark.parametrize(
    ("text", "upstream", "strict"),
    [
        ("(A)(C)", "AC", "AC"),
        ("The best answer is (B)", "B", "B"),
        ("A, C", "AC", "AC"),
        ("BD", "BD", "BD"),
        ("Because of B", "ABCE", "B"),
        ("nothing", None, None),
        ("a and b", None, None),
    ],
)
def test_sets_of_letters(text: str, upstream: str | None, strict: str | None) -> None:
    assert choices.upstream_letter_set(text, {}) == upstream
    assert choices.strict_letter_set(text, {}) == strict


def test_macro_and_micro() -> None:
    records = [
        {"question": "q", "multi-choice options": "", "answer": a, "category": c, "l2-category": "x"}
        for a, c in (("A", "one"), ("BC", "one"), ("D", "one"), ("E", "two"))
    ]
    got = numbers("xlrs-bench", "lite", records, ["(A)", "(C) (B)", "(A)", "(A)"])
    assert got["compat"] == got["compat.macro"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert got["compat.micro"] == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("text", "left"),
    [("a\nAnswer: $B", "B"), ("Answer: A\nAnswer: C.", "C"), ("Answer: BoTh", " BoTh"), ("none", "none")],
)
def test_answer_lines(text: str, left: str) -> None:
    assert choices.after_answer_line(text) == left


def test_uninferred_replies_are_wrong_and_counted() -> None:
    records = [{"index": i, "question": "q", "answer": "B", "image": PICTURE, **OPTIONS} for i in range(3)]
    got = numbers("microvqa", "test", records, ["B", "hm", "C"])
    assert (got["compat"], got["compat.uninferred"]) == (pytest.approx(100 / 3), 1.0)


def test_intersection() -> None:
    assert grounding.intersection_over_union((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert grounding.intersection_over_union((0, 0, 1, 1), (1, 1, 2, 2)) == 0.0


def box_record(split: str = "RefCOCO_val", **more: Any) -> dict[str, Any]:
    corners = {"bbox_x1": 100, "bbox_y1": 100, "bbox_x2": 300, "bbox_y2": 200}
    return {"index": 1, "question": "q", "split": split, "width": 2000, "height": 1000, **corners, **more}


def test_boxes_are_guessed_upstream() -> None:
    record = box_record()
    assert grounding.upstream_box("[0.05, 0.1, 0.15, 0.2]", record) == pytest.approx((100, 100, 300, 200))
    assert grounding.upstream_box("[50, 100, 150, 200]", record) == pytest.approx((100, 100, 300, 200))
    assert grounding.upstream_box("(150,200),(50,100)", record) == pytest.approx((100, 100, 300, 200))
    assert grounding.upstream_box("100 100 300 200", record) == pytest.approx((200, 100, 600, 200))
    assert grounding.upstream_box("[100, 100, 1300, 200]", record) == (100, 100, 1300, 200)
    assert grounding.upstream_box("2 objects: [50 100 150 2e2]", record) == pytest.approx((100, 100, 300, 200))
    assert grounding.upstream_box("[0, 0, 5000, 5000]", record) == (0, 0, 2000, 1000)
    assert grounding.upstream_box("[1, 2, 3]", record) is None
    assert grounding.strict_box("100 100 300 200", {**record, "scale": "pixel"}) == (100, 100, 300, 200)


def test_splits_weigh_the_same() -> None:
    records = [box_record("RefCOCO_val"), box_record("RefCOCO_val"), box_record("RefCOCOg_test")]
    got = numbers("refcoco", "test", records, ["[50, 100, 150, 200]", "none", "[50, 100, 150, 200]"])
    assert got["compat"] == pytest.approx((50 + 100) / 2)


def screen(**more: Any) -> dict[str, Any]:
    return {
        "img_filename": "a.png", "bbox": [0, 0, 101, 51], "instruction": "open", "data_type": "icon",
        "data_source": "web", "width": 1000, "height": 500, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "compat", "strict"),
    [
        ("pyautogui.click(x=0.05, y=0.05)", 100, 100),
        ("pyautogui.click(x=50, y=25)", 100, 100),
        ("pyautogui.click(x=101, y=25)", 0, 0),
        ("no idea", 100, 0),
        ("x=1..2, y=3", 0, 0),
        ("(0.05,0.05)", 100, 100),
        ("", 100, 0),
    ],
)
def test_clicks(reply: str, compat: float, strict: float) -> None:
    got = numbers("screenspot-v2", "web", [screen()], [reply])
    assert (got["compat"], got["strict"]) == (compat, strict)


def test_the_last_pixel_belongs_to_a_box() -> None:
    assert grounding.click_gold(screen()) == pytest.approx((0, 0, 0.1, 0.1))
    with pytest.raises(InputError, match="not inside"):
        grounding.click_gold(screen(bbox=[950, 0, 100, 10]))


def test_screenshots_are_measured(tmp_path: Path) -> None:
    (tmp_path / "screenspotv2_image").mkdir()
    with io.BytesIO() as buffer:
        Image.new("RGB", (200, 100)).save(buffer, "png")
        (tmp_path / "screenspotv2_image" / "a.png").write_bytes(buffer.getvalue())
    row = {k: v for k, v in screen(bbox=[10, 10, 20, 20]).items() if k not in ("width", "height")}
    (tmp_path / "screenspot_web_v2.json").write_text(json.dumps([row]))
    (task,) = load("screenspot-v2", tmp_path, subtasks=["web"])
    assert task.grade(task.items()[0], "x=15, y=15").value == 1.0
    assert task.prompt(task.items()[0]).messages[1].content[0]["image"].endswith("screenspotv2_image/a.png")
    (tmp_path / "screenspotv2_image" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"record 1: .*picture"):
        load("screenspot-v2", tmp_path, subtasks=["web"])


def test_tables_with_pictures(tmp_path: Path) -> None:
    rows = [
        "index\tquestion\tA\tB\tanswer\timage\thint",
        f"0\tWhat?\tx\ty\tB\t{PICTURE}\t",
        "1\tWho?\tx\ty\tA\t0\tlook up",
    ]
    (tmp_path / "MicroVQA.tsv").write_text("\n".join(rows))
    (task,) = load("microvqa", tmp_path)
    first, second = (task.prompt(item).messages[0].content for item in task.items())
    assert first[0] == second[0] == {"type": "image", "image": f"data:image/png;base64,{PICTURE}"}
    assert second[1]["text"].startswith("Hint: look up\nWho?\nA. x\nB. y\n")
    (tmp_path / "MicroVQA.tsv").write_text("\n".join([rows[0], "0\tWhat?\tx\ty\tC\t" + PICTURE + "\t"]))
    with pytest.raises(InputError, match=r"MicroVQA\.tsv, line 2: the answer is 'C', offered are A, B"):
        load("microvqa", tmp_path)
    (tmp_path / "MicroVQA.tsv").write_text("\n".join([rows[0], "0\tWhat?\tx\ty\tA\t\t"]))
    with pytest.raises(InputError, match="image"):
        load("microvqa", tmp_path)
