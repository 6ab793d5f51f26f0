from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.corpus.chemistry import conversations, descriptions
from s1pro.corpus.write import check_isolation, file_digest, read_molecules, write_molecules, write_samples
from s1pro.data.samples import read_samples
from s1pro.science.molecules import Molecule
from s1pro.science.system_prompts import SYSTEM_PROMPTS


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_training_reads_what_is_written(tmp_path: Path, ending: str, molecules: Sequence[Molecule]) -> None:
    samples = [*descriptions(molecules[:20]), *conversations(molecules, num_questions=40)]
    written = write_samples(samples, tmp_path / f"all{ending}")
    assert list(read_samples(tmp_path / f"all{ending}")) == samples
    assert written.samples == len(samples) and written.isolation == {"science/science": len(samples)}
    assert written.sha256 == file_digest(tmp_path / f"all{ending}")
    assert write_samples(samples, tmp_path / f"again{ending}").sha256 == written.sha256


def general(**changes: object) -> Sample:
    messages = (Message(role="system", content=SYSTEM_PROMPTS["general"]), Message(role="assistant", content="Yes."))
    sample = Sample(source="talk", prompt_group="general", messages=messages, meta={"domain": "english"})
    return replace(sample, **changes)  # type: ignore[arg-type]


def test_a_sample_under_the_wrong_system_prompt_is_refused() -> None:
    check_isolation(general())
    with pytest.raises(InputError, match="belongs to the prompt group 'general', but the sample says 'science'"):
        check_isolation(general(prompt_group="science"))
    with pytest.raises(InputError, match="the system prompt of the group 'general' is"):
        check_isolation(general(messages=(Message(role="system", content=SYSTEM_PROMPTS["science"]),)))
    with pytest.raises(InputError, match="no such domain: ''"):
        check_isolation(general(meta={}))


def test_a_refused_or_broken_write_leaves_the_old_file(tmp_path: Path, molecules: Sequence[Molecule]) -> None:
    path = tmp_path / "samples.parquet"
    before = write_samples(descriptions(molecules[:5]), path)

    def breaks() -> Iterator[Sample]:
        yield from descriptions(molecules[:3])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_samples(breaks(), path)
    with pytest.raises(InputError):
        write_samples([general(prompt_group="science")], path)
    with pytest.raises(InputError, match="no samples to write"):
        write_samples([], path)
    assert file_digest(path) == before.sha256
    assert [file.name for file in tmp_path.iterdir()] == ["samples.parquet"]
    with pytest.raises(InputError, match=r"\.parquet or \.jsonl"):
        write_samples([general()], tmp_path / "samples.csv")


def test_molecules_survive_their_file(tmp_path: Path, molecules: Sequence[Molecule]) -> None:
    write_molecules(molecules[:100], tmp_path / "m.parquet")
    assert read_molecules(tmp_path / "m.parquet") == list(molecules[:100])
    write_samples([general()], tmp_path / "other.parquet")
    for name in ("missing", "other"):
        with pytest.raises(InputError, match="not a file of molecules"):
            read_molecules(tmp_path / f"{name}.parquet")
