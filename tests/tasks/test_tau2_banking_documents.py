"""tau2's bank: the documents and how its agent gets at them, and tasks in files of their own.

Scores of searches are those of rank_bm25 0.2.2.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.tau2 import banking_documents
from s1pro.tasks.tau2.banking_domain import BankWorld
from s1pro.tasks.tau2.domains import open_domain
from s1pro.tasks.tau2.records import ToolCall, read_tasks
from tests.tau2_bank import DOCUMENTS, bank, bank_task, write_bank


def done(world: BankWorld, tool: str, **arguments: str) -> str:
    turn = world.answer(ToolCall(name=tool, arguments=arguments))
    assert not turn.failed
    return turn.text


def test_knowledge(tmp_path: Path) -> None:
    task = bank_task("a", [], required_documents=["doc_cards_001", "Checks", "none"], user_tools=["submit_referral"])
    folder = write_bank(tmp_path / "bank", [task, bank_task("b", [])])
    one, other = read_tasks(folder)
    gold, silver, checks = (DOCUMENTS[name] for name in ("doc_cards_001", "doc_cards_002", "doc_checks_001"))

    def opened(knowledge: str | None) -> tuple[str, set[str]]:
        domain = open_domain(folder, knowledge)
        return domain.policy_of(one), set(domain.tools_of(one)["assistant"]) & {"KB_search", "grep"}

    assert opened("no_knowledge") == ("Be kind.\n", set())
    text, tools = opened("full_kb")
    assert tools == set() and all(f"## {title}\n\n{content}" in text for title, content in DOCUMENTS.values())
    text, tools = opened("golden_retrieval")
    assert tools == set() and gold[1] in text and checks[1] in text and silver[1] not in text
    assert open_domain(folder, "golden_retrieval").policy_of(other) == "Be kind.\n(No documents provided)"
    assert opened("bm25") == ("Be kind.\nSearch.", {"KB_search"})
    assert opened("grep_only") == ("Be kind.\nGrep.", {"grep"})
    assert opened(None) == opened("bm25_grep") == ("Be kind.\nSearch or grep.", {"KB_search", "grep"})
    domain = open_domain(folder)
    assert domain.label == "banking_knowledge-bm25_grep"
    assert list(domain.tools_of(one)["user"]) == ["submit_referral"]
    assert len(domain.tools_of(other)["user"]) == 6
    with pytest.raises(InputError, match=r"--knowledge 'alltools': there are no_knowledge, .* shell is not here"):
        open_domain(folder, "alltools")


def test_a_pattern_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_bank(tmp_path / "bank", [bank_task("a", [])])
    (folder / "documents" / "doc_long.json").write_text(
        json.dumps({"id": "doc_long", "title": "Long", "content": "a" * 60 + "!"})
    )
    monkeypatch.setattr(banking_documents, "GREP_SECONDS", 0.2)
    turn = (
        open_domain(folder)
        .world(read_tasks(folder)[0])
        .answer(ToolCall(name="grep", arguments={"pattern": "(a|aa)+$"}))
    )
    assert turn.failed and "takes longer than 0.2 s" in turn.text


def test_searches(tmp_path: Path) -> None:
    folder = write_bank(tmp_path / "bank", [bank_task("a", [])])
    world = open_domain(folder).world(read_tasks(folder)[0])
    assert isinstance(world, BankWorld)
    found = json.loads(done(world, "KB_search", query="Yearly FEE the card"))
    assert [(one["id"], one["score"]) for one in found] == [
        ("doc_cards_001", 1.259),
        ("doc_cards_002", 1.1811),
        ("doc_checks_001", 0.238),
        ("doc_hidden_001", 0.1749),
    ]
    assert [one["id"] for one in json.loads(done(world, "grep", pattern="fee|GOLD"))] == ["doc_cards_001"]
    scores = [(one["id"], one["score"]) for one in json.loads(done(world, "grep", pattern=r"_\d+"))]
    assert scores == [("doc_checks_001", 1.0), ("doc_hidden_001", 1.0)]
    assert done(world, "grep", pattern="(") == "Nothing is found for (."
    assert done(world, "KB_search", query=" ") == "No document fits."


def test_wrong_files(tmp_path: Path) -> None:
    folder = write_bank(tmp_path / "bank", [])
    (folder / "documents" / "x.json").write_text('{"id": "x", "title": "X"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.json: the field 'content' is missing or no text"):
        open_domain(folder)
    for path in (folder / "documents").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="documents: has no documents"):
        open_domain(folder)
    with pytest.raises(InputError, match="there is no table 'cats' in a bank"):
        BankWorld({**bank(), "cats": {"data": {}}}, {})
    with pytest.raises(InputError, match="users: expected an object with the rows by id"):
        BankWorld({**bank(), "users": {"data": {"ann": 5}}}, {})


def test_tasks_in_files_of_their_own(tmp_path: Path) -> None:
    """They count, and the list does not."""
    folder = write_bank(tmp_path / "bank", [bank_task("old", [])])
    (folder / "tasks").mkdir()
    for name in ("b", "a"):
        (folder / "tasks" / f"task_{name}.json").write_text(json.dumps(bank_task(name, [])), encoding="utf-8")
    assert [task.id for task in read_tasks(folder)] == ["a", "b"]
    (folder / "tasks" / "task_c.json").write_text(json.dumps(bank_task("a", [])), encoding="utf-8")
    with pytest.raises(InputError, match="tasks: two tasks have one id"):
        read_tasks(folder)
    (folder / "tasks" / "task_c.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"task_c\.json: expected a dict"):
        read_tasks(folder)
