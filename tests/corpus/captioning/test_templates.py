from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.captioning.templates import load_templates
from s1pro.corpus.records import ElementRow, Mention


def element(number: int = 0, **changes: object) -> ElementRow:
    row = ElementRow(
        element_id=f"{number:032x}", doc_id="d", page=0, type="chart", box=(0, 0, 9, 9), page_width=9, page_height=9,
        label="Figure 3", caption="Potential of {words} membranes.", mentions=(Mention(page=1, text="See Figure 3."),),
    )  # fmt: skip
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def test_a_choice_is_a_function_of_seed_element_and_rollout() -> None:
    bank = load_templates()
    first = bank.prompt(element(5), seed=1, rollout=2, domain="chemistry")
    assert first == bank.prompt(element(5), seed=1, rollout=2, domain="chemistry")
    others = [bank.prompt(element(n), seed=s, rollout=r) for n, s, r in ((6, 1, 2), (5, 2, 2), (5, 1, 3))]
    assert len({prompt.template_id for prompt in [first, *others]}) == 4


def test_the_prompts_spread_over_the_bank() -> None:
    """Entropy of every part close to that of a fair choice, and no template with more than its share."""
    bank = load_templates()
    prompts = [bank.prompt(element(n)) for n in range(3000)]
    for values, number in (
        ([p.style for p in prompts], len(bank.styles)),
        ([p.length for p in prompts], len(bank.lengths)),
        ([p.template_id.rpartition("/")[2].split(".")[0] for p in prompts], len(bank.openings["general"])),
        ([p.template_id.rpartition("/")[2].split(".")[4] for p in prompts], len(bank.honesty)),
    ):
        counts = Counter(values)
        entropy = -sum(c / 3000 * math.log2(c / 3000) for c in counts.values())
        assert len(counts) == number and entropy > 0.99 * math.log2(number)
    ids = Counter(p.template_id for p in prompts)
    assert len(ids) > 2400 and max(ids.values()) <= 8
    assert len({p.text for p in prompts}) == len(ids)


def test_every_domain_type_style_and_length_makes_a_whole_prompt() -> None:
    bank = load_templates()
    kinds = ("figure", "chart", "table", "formula", "scheme", "algorithm", "other")
    for kind in kinds:
        for domain in (*bank.domains, "unheard of"):
            for style in bank.styles:
                prompt = bank.prompt(element(type=kind), domain=domain, styles=(style,), grounded=True)
                assert prompt.style == style and prompt.template_id.split("/")[3] == style
                assert not re.search(r"\{(?!words\})", prompt.text)  # the only brace is in the authors' caption
                assert "Potential of {words} membranes." in prompt.text  # and is not filled


def test_only_grounded_prompts_show_the_caption() -> None:
    bank = load_templates()
    for n in range(50):
        assert "membranes" not in bank.prompt(element(n)).text
        assert "membranes" in bank.prompt(element(n), grounded=True).text


def test_slots_are_bounded_and_on_one_line() -> None:
    long = element(caption="x" * 10_000 + "\nnew line")
    text = load_templates().prompt(long, grounded=True).text
    assert len(text) < 4000 and "\n" not in text


def test_wrong_banks_and_names_are_refused(tmp_path: Path) -> None:
    good = json.loads(resources.files("s1pro.corpus.captioning").joinpath("templates.json").read_text())
    path = tmp_path / "bank.json"
    for change, message in (
        ({"honesty": ["Say {secret}."]}, "secret"),
        ({"honesty": []}, "empty list"),
        ({"openings": {"x": ["y"]}}, "general"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(InputError, match=message):
            load_templates(path)
    del good["tasks"]
    path.write_text(json.dumps(good))
    with pytest.raises(InputError, match="tasks"):
        load_templates(path)
    path.write_text("{")
    with pytest.raises(InputError, match="JSON"):
        load_templates(path)
    with pytest.raises(InputError, match="unknown style"):
        load_templates().prompt(element(), styles=("rap",))
