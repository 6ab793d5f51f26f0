from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.corpus.narrative.rewriting import judge_rewrite, rewrite_folder
from s1pro.corpus.narrative.sources import Loaded
from s1pro.corpus.write import check_isolation
from s1pro.data.samples import read_samples
from s1pro.science.facts.grammar import Grammar
from s1pro.science.split import split_of
from tests.science.facts.alloys import alloy_records, alloy_schema

SCHEMA = alloy_schema()
LOADED = Loaded(schema=SCHEMA, records=tuple(alloy_records(60)), read=60)
DESCRIBED = Grammar(SCHEMA).describe(LOADED.records[0], random.Random(3))


def honest(text: str) -> str:
    """Other words and another order around the same values."""
    sentences = re.split(r"(?<=[.?]) ", text)
    return " ".join(f"As the record says: {s}" if i % 2 else s for i, s in enumerate(sentences[::-1]))


def test_reasons() -> None:
    text = DESCRIBED.text
    good = honest(text)

    def reason(rewrite: str, finish: str = "stop") -> str:
        return judge_rewrite(rewrite, DESCRIBED, SCHEMA, finish)

    value = str(DESCRIBED.shown["yield"])
    number, unit = value.split(" ")
    assert reason(good) == "right" and reason(good, "length") == "cut_off"
    assert reason(good.replace(value, f"{number}1 {unit}")) == reason(good.replace(value, number)) == "value_lost"
    assert reason(good.replace("X-0", "X-1")) == "value_lost" and reason("") == "value_lost"
    assert reason(good + " That is 3 times more than usual.") == "number_added"
    assert reason(good + f" Once more: {value}.") == "number_added"
    assert reason("Sure, " + good) == reason("Here is the text: " + good) == "talk"
    assert reason(good + " It is .") == "faulty" and reason(text) == "too_alike"
    assert (
        reason(good + " So it is said, and so it was written down, word for word, by those who know." * 20) == "length"
    )


class Scripted:
    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply, self.calls = reply, 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.calls += 1
        assert sampling.seed is not None and messages[0].text == "You are a scientist."
        return Completion(text=self.reply(messages[1].text.split("\n\n", 1)[1]), finish_reason="stop")


def test_rewrites_are_kept_and_not_asked_again(tmp_path: Path) -> None:
    client = Scripted(honest)
    report = asyncio.run(rewrite_folder(tmp_path, LOADED, client, texts=20))
    assert report.texts == report.asked == client.calls == 20 and report.kept == report.reasons["right"] == 20
    for sample in read_samples(tmp_path / "rewrites" / "train.parquet"):
        check_isolation(sample)
        assert split_of(sample.entity) == "train" and sample.text is not None and "As the record says" in sample.text
    log = tmp_path / "rewrites" / "rewrites.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    again = Scripted(lambda text: "nothing")
    report = asyncio.run(rewrite_folder(tmp_path, LOADED, again, texts=20))
    assert again.calls == report.asked == 1 and report.reasons["value_lost"] == 1
    log.write_text("{}\n")
    with pytest.raises(InputError, match="not the rewrites"):
        asyncio.run(rewrite_folder(tmp_path, LOADED, again, texts=20))
