"""Reading JSONL and Parquet; errors name file and line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.data.samples import read_samples

ROWS = [
    {"source": "a", "prompt_group": "science", "text": "water"},
    {
        "source": "a",
        "prompt_group": "general",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ok"}],
    },
    {"source": "b", "prompt_group": "science", "text": "x", "entity": "C1", "meta": {"smiles": "O"}},
]


def write_jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_jsonl_and_parquet_give_the_same_samples(tmp_path: Path) -> None:
    from_jsonl = list(read_samples(write_jsonl(tmp_path / "x.jsonl", ROWS)))
    columns = ("source", "prompt_group", "text", "messages", "entity", "meta")
    cells = {c: [json.dumps(r[c]) if isinstance(r.get(c), (list, dict)) else r.get(c) for r in ROWS] for c in columns}
    (tmp_path / "p").mkdir()
    pq.write_table(pa.table(cells), tmp_path / "p" / "x.parquet")
    assert list(read_samples(tmp_path / "p")) == from_jsonl
    assert from_jsonl[1].messages == (Message(role="user", content="q"), Message(role="assistant", content="ok"))
    assert from_jsonl[2].meta == {"smiles": "O"} and from_jsonl[2].entity == "C1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not a line of JSON"),
        ("[1]", "a sample is a JSON object"),
        (
            '{"source": "a", "prompt_group": "art", "text": "x"}',
            "prompt_group must be one of science, general, got 'art'",
        ),
        ('{"source": "a", "prompt_group": "science"}', "exactly one of text and messages"),
        ('{"source": "a", "prompt_group": "science", "text": 3}', "text must be text"),
        ('{"source": "a", "prompt_group": "science", "txt": "x"}', "unknown field txt"),
        (
            '{"source": "a", "prompt_group": "science", "messages": [{"role": "king", "content": "x"}]}',
            "message 0 needs a role",
        ),
        ('{"source": "a", "prompt_group": "science", "messages": []}', "at least one turn"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        list(read_samples(file))
    assert f"{file}:2" in str(caught.value)


def test_missing_data_and_broken_parquet_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no .jsonl or .parquet file"):
        list(read_samples(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"nope")
    with pytest.raises(InputError, match=r"x.parquet: not a Parquet file"):
        list(read_samples(tmp_path))
