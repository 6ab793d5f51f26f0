from __future__ import annotations

import threading
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s1pro.base.errors import InputError
from s1pro.inputs import byte_bpe
from s1pro.inputs.byte_bpe import ByteBPE, byte_characters, split_words
from s1pro.inputs.tokenizer import Tokenizer

SIGNS = st.text(st.sampled_from("aZé分7½ .,!'\"-_()\n\r\t\v\x0b\u00a0\u3000\u2028\x01\x1f\x85s"), max_size=24)


def test_words_of_an_english_sentence() -> None:
    words = split_words("I'm sure they'LL pay $12.50 (now)\r\n\n  x  ")
    expected = "I|'m| sure| they|'LL| pay| $|1|2|.|5|0| (|now|)\r\n\n| | x|  "
    assert words == expected.split("|")


@settings(max_examples=400, deadline=None)
@given(text=SIGNS)
@example("a \n \n b")
@example(".\n\n  x")
@example("a\n  \nb")
@example("\x1f\n\x1fx")
def test_chunks_cut_only_between_words(text: str) -> None:
    chunks = byte_bpe._rules_for(text).chunk.findall(text)
    assert "".join(chunks) == text
    assert [word for chunk in chunks for word in split_words(chunk)] == split_words(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(max_codepoint=127), max_size=30))
def test_both_rules_agree_on_ascii(text: str) -> None:
    assert byte_bpe._ASCII.word.findall(text) == byte_bpe._unicode().word.findall(text)


def test_frozen_classes_agree_with_python_on_assigned_characters() -> None:
    rules = byte_bpe._unicode()
    for code in [*range(0x3000), *range(0x4DF0, 0x4E10), *range(0xAC00, 0xAC10), 0x20000, 0x1D400, 0x1F600]:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cn":
            continue
        words = rules.word.findall(character + character)
        if category[0] == "N":
            assert words == [character, character]
        elif category[0] == "L" or not character.isspace():
            assert words == [character + character]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_splitting_agrees_with_the_regex_package(text: str) -> None:
    regex = pytest.importorskip("regex")
    rule = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    assert split_words(text) == regex.findall(rule, text)


def test_every_byte_has_a_character() -> None:
    assert len(set(byte_characters())) == 256
    assert byte_characters()[ord(" ")] == "Ġ"
    assert byte_characters()[ord("\n")] == "Ċ"


def test_memory_does_not_change_results(tiny: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_bpe, "_CACHE_ENTRIES", 3)
    bpe = ByteBPE(tiny.files.vocab, tiny.files.merges)
    text = "the fox and the dog and a very long word: " + "x" * 100
    first = bpe.encode(text)
    assert bpe.encode(text) == first == tiny.encode(text)
    assert len(bpe._chunks) <= 3
    bpe.forget()
    assert bpe.encode(text) == first


def test_a_word_without_end_is_encoded_alike_and_beside_other_threads(
    tiny: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = "thethe" * 200_000
    turns, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            turns[0] += 1
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    found = tiny.encode(word)
    done.set()
    other.join()
    assert turns[0] > 30  # 7 if the library holds the lock of Python
    monkeypatch.setattr(byte_bpe, "_LONG_WORD", 10**9)
    assert found == tiny.encode(word)


def test_incomplete_vocabularies_are_refused() -> None:
    vocab = {character: index for index, character in enumerate(byte_characters())}
    with pytest.raises(InputError, match="no token for the byte"):
        ByteBPE({**{k: v for k, v in vocab.items() if k != "a"}}, [])
    with pytest.raises(InputError, match="merge 'a b'"):
        ByteBPE(vocab, [("a", "b")])
