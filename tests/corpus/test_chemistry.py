from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from s1pro.base.errors import InputError
from s1pro.corpus.chemistry import conversations, descriptions
from s1pro.corpus.write import check_isolation
from s1pro.science.molecules import Molecule
from s1pro.science.narrative import parse_narrative
from s1pro.science.questions import ANSWERS, QUESTIONS
from s1pro.science.system_prompts import SYSTEM_PROMPTS


def test_descriptions_are_science_documents(molecules: Sequence[Molecule]) -> None:
    samples = list(descriptions(molecules[:60], passes=2))
    assert len(samples) == 120 and len({sample.text for sample in samples}) > 110
    for sample, molecule in zip(samples, [*molecules[:60]] * 2, strict=True):
        check_isolation(sample)
        found = parse_narrative(sample.text or "")
        assert found is not None and found["smiles"] == molecule.smiles
        assert sample.entity == molecule.cluster and sample.prompt_group == "science"
    assert list(descriptions(molecules[30:60])) == samples[30:60]  # whatever the others are
    with pytest.raises(InputError, match="passes"):
        list(descriptions(molecules, passes=0))


def test_conversations_mix_families_by_their_shares(molecules: Sequence[Molecule]) -> None:
    shares = {"formula": 1, "group": 3}
    samples = list(conversations(molecules, num_questions=400, shares=shares, max_turns=4, seed=5))
    assert samples == list(conversations(molecules, num_questions=400, shares=shares, max_turns=4, seed=5))
    families: Counter[str] = Counter()
    turns = set()
    for sample in samples:
        check_isolation(sample)
        assert sample.messages is not None
        system, *rest = sample.messages
        assert system.content == SYSTEM_PROMPTS["science"]
        assert [m.role for m in rest] == ["user", "assistant"] * (len(rest) // 2)
        turns.add(len(rest) // 2)
        for i, family in enumerate(sample.meta["families"]):
            families[family] += 1
            assert QUESTIONS[family].parse(rest[2 * i].content) is not None
            assert ANSWERS[family].parse(rest[2 * i + 1].content) is not None
    assert families == {"formula": 100, "group": 300} and turns == {1, 2, 3, 4}


def test_small_families_are_asked_again_in_other_words(molecules: Sequence[Molecule]) -> None:
    samples = list(conversations(molecules[:20], num_questions=60, shares={"mass": 1}, max_turns=1))
    assert len(samples) == 60
    assert len({sample.messages[1].content for sample in samples if sample.messages}) > 30


def test_questions_never_use_held_out_wordings(molecules: Sequence[Molecule]) -> None:
    held_out = [template for bank in QUESTIONS.values() for template in bank.held_out]
    for sample in conversations(molecules, num_questions=500):
        for message in sample.messages or ():
            if message.role == "user":
                assert not any(template.parse(str(message.content)) for template in held_out)
