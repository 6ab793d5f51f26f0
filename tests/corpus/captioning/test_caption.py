from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointError, EndpointRefusedError, EndpointSettings, RetrySettings
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.corpus.captioning.caption import (
    NOTHING_PROVEN,
    CaptionSettings,
    embedded_captions,
    model_captions,
)
from s1pro.corpus.captioning.checks import CONTEXT_MARK
from s1pro.corpus.captioning.log import CallLog
from s1pro.corpus.describe.facts import AxisFacts, ChartFacts, Facts, PanelFacts, SeriesFacts
from s1pro.corpus.records import CaptionRow, ElementRow
from tests.fake_endpoint import Behave, FakeEndpoint, Reply, chat_answer

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
FACTS = Facts(
    chart=ChartFacts(
        panels=(
            PanelFacts(
                x=AxisFacts(title="Time (s)", quantity="Time", unit="s", ticks=("0", "5"), low="0", high="5"),
                y=AxisFacts(title="Voltage", quantity="Voltage", ticks=("10", "20"), low="10", high="20"),
                series=(SeriesFacts(kind="line", colour="blue", trend="rising", start=("10",), end=("20",)),),
            ),
        )
    )
)


def elements(number: int, **changes: Any) -> list[ElementRow]:
    values: dict[str, Any] = {
        "doc_id": "d", "page": 0, "type": "chart", "box": (0, 0, 9, 9), "page_width": 9, "page_height": 9,
        "image": PICTURE, "mime": "image/png", "text_layer": "Time (s) 0 5 Voltage 10 20", "label": "Figure 1",
        "caption": "Charging of the cell at 298 K.", "facts": FACTS.to_json(), **changes,
    }  # fmt: skip
    return [ElementRow(element_id=hashlib.md5(str(n).encode()).hexdigest(), **values) for n in range(number)]


def run(
    behave: Behave,
    rows: list[ElementRow],
    log: Path | None = None,
    *,
    attempts: int = 3,
    breaker: int = 0,
    **settings: Any,
) -> tuple[list[CaptionRow], FakeEndpoint]:
    retry_errors = settings.pop("retry_errors", False)
    with FakeEndpoint(behave) as server:
        retries = RetrySettings(attempts=attempts, first_s=0.001, longest_s=0.002)
        endpoint = EndpointSettings(
            base_url=server.url,
            model="m",
            retries=retries,
            timeout_s=100.0,
            breaker_threshold=breaker,
            breaker_cooldown_s=0.01,
        )
        made = CaptionSettings(**{"model": "m", **settings})
        return model_captions(rows, HttpClient(endpoint), made, log=log, retry_errors=retry_errors), server


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"][1]["text"])


def test_every_element_and_rollout_gets_a_checked_row() -> None:
    def behave(number: int, path: str, body: dict[str, Any]) -> str:
        return "The voltage rises from 10 to 20." if "scientific" in prompt_of(body) else "It shows 77 cells."

    rows, server = run(behave, elements(6), rollouts=2)
    assert len(rows) == 12 == len(server.requests) and len({row.request_id for row in rows}) == 12
    assert [row.rollout for row in rows] == [0, 1] * 6
    for row in rows:
        assert row.flags == (() if "rises" in row.text else ("number:77",))
        assert (row.error, row.finish_reason, row.num_prompt_tokens, row.num_tokens) == ("", "stop", 10, 5)
    again, _ = run(behave, elements(6), rollouts=2)
    assert again == rows
    image = server.requests[0][2]["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(image.split(",")[1]) == PICTURE


def test_requests_under_way_are_bounded() -> None:
    rows, server = run(lambda *_: Reply(delay_s=0.2, body=chat_answer("It rises.").body), elements(12), concurrency=3)
    assert len(rows) == 12 and server.most_at_once == 3


def test_only_whole_answers_without_repetition_are_taken() -> None:
    """Each bad answer raises the temperature; a request that stays bad is a row with an error."""
    temperatures: list[float] = []

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        temperatures.append(body["temperature"])
        return [chat_answer("Cut off", finish_reason="length"), chat_answer("and on " * 30), chat_answer("It rises.")][
            number
        ]

    rows, _ = run(behave, elements(1))
    assert rows[0].text == "It rises." and temperatures == [0.3, 0.6, 0.9]
    rows, server = run(lambda *_: chat_answer("and on " * 30), elements(1))
    assert rows[0].text == "" and rows[0].error == "not accepted: repetition" and len(server.requests) == 3


def test_errors_are_rows_and_nothing_else_is_lost(tmp_path: Path) -> None:
    rows = elements(8)

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply | str:
        return Reply(status=400, body="too large") if number % 4 == 1 else "It rises."

    found, _ = run(behave, rows, tmp_path / "log.jsonl", concurrency=1)
    failed = [row for row in found if row.error]
    assert len(found) == 8 and len(failed) == 2 and all("HTTP 400" in row.error and not row.text for row in failed)
    # kept on the next run, unless errors shall be tried again
    kept, server = run(lambda *_: "It rises.", rows, tmp_path / "log.jsonl")
    assert kept == found and server.requests == []
    tried, server = run(lambda *_: "It rises.", rows, tmp_path / "log.jsonl", retry_errors=True)
    assert len(server.requests) == 2 and not any(row.error for row in tried)


def test_an_element_without_picture_is_a_row() -> None:
    rows, server = run(lambda *_: "x", elements(1, image=b""))
    assert rows[0].error == "the element has no picture" and server.requests == []


def test_lost_calls_are_asked_again_and_answered_ones_are_not(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(EndpointError, match="circuit"):
        run(lambda n, *_: "It rises." if n < 5 else Reply(status=500), elements(12), log, concurrency=2, breaker=2)
    with CallLog(
        log, retry_errors=True
    ) as calls:  # a call under way may have spent its tries before the circuit opened
        assert calls.answered == 5
    rows, server = run(lambda *_: "It rises.", elements(12), log, retry_errors=True)
    assert len(rows) == 12 and len(server.requests) == 7 and not any(row.error for row in rows)


def test_a_wrong_key_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(EndpointRefusedError, match="API key"):
        run(lambda *_: Reply(status=401), elements(30), tmp_path / "log.jsonl", concurrency=4)
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_attempts_of_an_earlier_run_are_not_paid_twice(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(EndpointRefusedError):
        run(lambda n, *_: chat_answer("on " * 60) if n == 0 else Reply(status=401), elements(1), log)
    rows, server = run(lambda *_: "It rises.", elements(1), log)
    assert rows[0].text == "It rises." and [body["temperature"] for _, _, body in server.requests] == [0.6]


def test_a_torn_line_is_removed_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows, _ = run(lambda *_: "It rises.", elements(3), log)
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    again, server = run(lambda *_: "It rises.", elements(3), log)
    assert again == rows and len(server.requests) == 1
    log.write_bytes(b"{}\n" + whole)
    with pytest.raises(InputError, match="line 1"):
        CallLog(log)


SCRIPT = """
import sys
from pathlib import Path
from tests.corpus.captioning.test_caption import CaptionSettings, EndpointSettings, HttpClient, elements, model_captions
client = HttpClient(EndpointSettings(base_url=sys.argv[1], model="m"))
rows = model_captions(elements(40), client, CaptionSettings(model="m", concurrency=4), log=Path(sys.argv[2]))
print(len(rows))
"""


def test_a_killed_run_goes_on_and_repeats_only_calls_under_way(tmp_path: Path) -> None:
    """Three times SIGKILL; the rows are those of a run without kills."""
    log, root = tmp_path / "log.jsonl", Path(__file__).parents[3]

    def behave(number: int, path: str, body: dict[str, Any]) -> Reply:
        return Reply(delay_s=0.03, body=chat_answer("It rises.").body)

    with FakeEndpoint(behave) as server:
        command = [sys.executable, "-c", SCRIPT, server.url, str(log)]
        for kill_after in (6, 15, 24):
            process = subprocess.Popen(command, cwd=root, start_new_session=True)
            deadline = time.monotonic() + 250
            while len(server.requests) < kill_after and time.monotonic() < deadline:
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "40"
        assert 40 <= len(server.requests) <= 40 + 3 * 4
    with CallLog(log) as calls:
        assert calls.answered == 40
    clean, _ = run(behave, elements(40))
    resumed, server = run(lambda *_: "x", elements(40), log)
    assert resumed == clean and server.requests == []


def test_grounded_share() -> None:
    seen: list[str] = []

    def behave(number: int, path: str, body: dict[str, Any]) -> str:
        seen.append(prompt_of(body))
        return "It rises."

    rows, _ = run(behave, elements(60), grounded_share=0.5)
    grounded = [row.grounded for row in rows]
    assert 15 <= sum(grounded) <= 45
    assert sorted("298 K" in text for text in seen) == sorted(grounded)
    assert not any(row.grounded for row in run(behave, elements(5, caption=""), grounded_share=1.0)[0])


def test_the_embedded_describer_needs_no_model() -> None:
    settings = CaptionSettings(model="unused", rollouts=4, grounded_share=0.5)
    rows = list(embedded_captions(elements(10), settings))
    assert rows == list(embedded_captions(elements(10), settings)) and len(rows) == 40
    assert len({row.request_id for row in rows}) == 40 and all(row.model == "embedded" for row in rows)
    assert len({row.text for row in rows}) > 25 and all(row.flags == () for row in rows)
    for row in rows:
        visible, _, context = row.text.partition(CONTEXT_MARK)
        assert row.grounded == bool(context) == ("298 K" in context) and "298" not in visible and "Time" in visible


def test_the_embedded_describer_says_when_it_knows_nothing() -> None:
    (row,) = embedded_captions(elements(1, facts=Facts().to_json()), CaptionSettings(model="x"))
    assert row.text == "" and row.error == NOTHING_PROVEN
    (row,) = embedded_captions(elements(1, facts="", description="A curve rises."), CaptionSettings(model="x"))
    assert row.text == "A curve rises." and not row.error


@pytest.mark.parametrize("wrong", [{"rollouts": 0}, {"concurrency": 0}, {"temperatures": ()}, {"grounded_share": 2.0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        CaptionSettings(model="m", **wrong)


def test_unknown_styles_stop_the_run() -> None:
    with pytest.raises(InputError, match="unknown style"):
        run(lambda *_: "x", elements(3), styles=("rap",))


def test_the_log_is_json_lines(tmp_path: Path) -> None:
    rows, _ = run(lambda *_: "It rises.", elements(2), tmp_path / "deep" / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "deep" / "log.jsonl").read_text().splitlines()]
    assert {line["request_id"] for line in lines} == {row.request_id for row in rows}
    assert asyncio.run(asyncio.sleep(0, "no loop is left running")) == "no loop is left running"
