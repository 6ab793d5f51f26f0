"""Batch encoding of plain text against the classic pure-Python algorithm, tokens per second.

    python bench/tokenizer.py [--tokenizer FOLDER] [--megabytes 2] [--rounds 5] [--json FILE]

Text: docstrings of the installed packages numpy and torch. Without `--tokenizer` a vocabulary of 8,192 is trained on
them first. All contestants run in this process, in turn, on one thread, and must give the same ids:

* `ours`         `Tokenizer.encode_batch`, words of earlier rounds remembered
* `ours, cold`   the same with empty memory in every round
* `classic`      the algorithm of a slow Python tokenizer: a walk over all characters in a trie of the added tokens, the
                 search for molecules and sequences, the splitting rule with the package `regex`, byte characters, pair
                 merging by rank with a memory for words, one look-up per token; written as tightly as it can be
* `lean`         the same without trie and search: the least that a Python BPE can do
* `library`      `tokenizers.encode_batch_fast` alone, without control tokens, search or normalisation
* `peer`         with transformers 4 installed: its slow Qwen2Tokenizer, the base class of the released tokenizer
                 (transformers 5 has no slow tokenizer)
* `peer, science`  the same with what the released tokenizer adds on plain text, rebuilt from its description: the
                 search for molecules and sequences in every part, and for every token the question whether it
                 switches the vocabulary

Both sides remember words, and rounds repeat the text. A last line therefore gives the speed on every second text with
memory of the others only: what a stream of new documents costs.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex
from paired import Timing, environment, ratios, run_rounds

from s1pro.inputs import detect
from s1pro.inputs.byte_bpe import ByteBPE, byte_characters
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.tokenizer_training import train_tokenizer

RULE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def docstrings(packages: Sequence[str], limit: int) -> list[str]:
    """Docstrings of at least 200 characters, up to `limit` characters in all."""
    texts: list[str] = []
    total = 0
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    text = ast.get_docstring(node) or ""
                    if len(text) >= 200:
                        texts.append(text)
                        total += len(text)
            if total >= limit:
                return texts
    return texts


class ClassicTokenizer:
    """The pure-Python algorithm; see the top of this file."""

    def __init__(self, tokenizer: Tokenizer, *, lean: bool) -> None:
        files = tokenizer.files
        self.lean = lean
        self.vocab, self.added = dict(files.vocab), dict(files.added)
        self.ranks = {pair: rank for rank, pair in enumerate(files.merges)}
        self.rule = regex.compile(RULE)
        self.characters = byte_characters()
        self.memory: dict[str, str] = {}
        self.trie: dict[str, dict] = {}
        for token in self.added:
            node = self.trie
            for character in token:
                node = node.setdefault(character, {})
            node[""] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode(self, text: str) -> list[int]:
        tokens: list[str] = []
        for part in [text] if self.lean else self.split(text):
            if part in self.added:
                tokens.append(part)
                continue
            if not self.lean:
                assert not any(map(detect.passes_rules, self.candidates(part))), "the text must be plain"
            for word in self.rule.findall(part):
                spelled = "".join(self.characters[byte] for byte in word.encode("utf-8"))
                tokens.extend(self.merge(spelled).split(" "))
        return [self.added[token] if token in self.added else self.vocab[token] for token in tokens]

    def candidates(self, text: str) -> list[str]:
        return letters_only(detect._SMILES.findall(text)) + re.findall(r"[A-Z]{27,}", text)

    def split(self, text: str) -> list[str]:
        """Cuts at added tokens, character by character, as slow tokenizers do."""
        states: list[tuple[int, dict[str, dict]]] = []
        cuts = [0]
        for position, character in enumerate(text):
            alive: list[tuple[int, dict[str, dict]]] = []
            for start, node in states:
                if character in node:
                    child = node[character]
                    if "" in child:
                        cuts += [start, position + 1]
                    alive.append((start, child))
            if character in self.trie:
                alive.append((position, self.trie[character]))
            states = alive
        cuts.append(len(text))
        return [text[a:b] for a, b in pairwise(cuts) if b > a]

    def merge(self, word: str) -> str:
        found = self.memory.get(word)
        if found is not None:
            return found
        symbols = list(word)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda p: self.ranks.get(p, len(self.ranks)))
            if pair not in self.ranks:
                break
            merged: list[str] = []
            position = 0
            while position < len(symbols):
                if tuple(symbols[position : position + 2]) == pair:
                    merged.append(symbols[position] + symbols[position + 1])
                    position += 2
                else:
                    merged.append(symbols[position])
                    position += 1
            symbols = merged
        self.memory[word] = " ".join(symbols)
        return self.memory[word]


def library_call(tokenizer: Tokenizer, texts: Sequence[str]) -> Callable[[], list[list[int]]]:
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as LibraryTokenizer

    files = tokenizer.files
    library = LibraryTokenizer(models.BPE(vocab=dict(files.vocab), merges=list(files.merges)))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(RULE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return lambda: [found.ids for found in library.encode_batch_fast(list(texts), add_special_tokens=False)]


def peers(tokenizer: Tokenizer) -> dict[str, Any]:
    import transformers

    if transformers.__version__.startswith("5"):
        return {}
    switches = frozenset(("<SMILES>", "<protein>", "<dna>", "<rna>", "</SMILES>", "</protein>", "</dna>", "</rna>"))
    smiles = regex.compile(f"({detect._SMILES.pattern})")
    capitals, nucleotides = regex.compile("([A-Z]{27,})"), regex.compile("([ATCGU]{27,})")

    class WithScience(transformers.Qwen2Tokenizer):
        """Plain text only: it searches, and finds nothing."""

        def _tokenize(self, text: str) -> list[str]:
            for pattern in (smiles, capitals, nucleotides):
                assert not any(map(detect.passes_rules, letters_only(pattern.findall(text))))
            return super()._tokenize(text)

        def convert_tokens_to_ids(self, tokens: str | list[str] | None) -> int | list[int] | None:
            if not isinstance(tokens, list):
                return super().convert_tokens_to_ids(tokens)
            ids: list[int] = []
            for token in tokens:
                ids.append(self._convert_token_to_id_with_added_voc(token))
                assert token not in switches
            return ids

    classes = {"peer": transformers.Qwen2Tokenizer, "peer, science": WithScience}
    return {name: slow_tokenizer(kind, tokenizer) for name, kind in classes.items()}


def letters_only(candidates: Sequence[str]) -> list[str]:
    return [c for c in candidates if sum(map(str.isalpha, c)) >= detect.MIN_LETTERS]


def slow_tokenizer(kind: type, tokenizer: Tokenizer) -> Any:
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        added = {
            index: transformers.AddedToken(token, normalized=False, special=True)
            for token, index in tokenizer.files.added.items()
        }
        peer = kind(f"{folder}/vocab.json", f"{folder}/merges.txt", added_tokens_decoder=added)
    assert not peer.is_fast
    return peer


def cold_call(tokenizer: Tokenizer, texts: Sequence[str]) -> Callable[[], list[list[int]]]:
    """Empties the memory of words before each round; that takes no noticeable time."""
    plain: ByteBPE = tokenizer._bpe

    def call() -> list[list[int]]:
        plain.forget()
        return tokenizer.encode_batch(texts)

    return call


def unseen(
    encode: Callable[[Sequence[str]], object], forget: Callable[[], None], texts: Sequence[str], rounds: int
) -> list[float]:
    """Seconds for every second text, with memory of the others only."""
    seconds: list[float] = []
    for _ in range(rounds):
        forget()
        encode(texts[::2])
        start = time.perf_counter()
        encode(texts[1::2])
        seconds.append(time.perf_counter() - start)
    return seconds


def print_unseen(slow_name: str, slow: Timing, ours: Timing, count: int) -> None:
    low, middle, high = ratios(slow, ours)
    print(f"\nText not seen before ({count:,} tokens, memory of as many others), tokens/s, median:")
    print(
        f"ours {count / ours.median:,.0f}, {slow_name} {count / slow.median:,.0f}; {low:.1f}, {middle:.1f}, {high:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="folder; default: one trained on the text")
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    texts = docstrings(("numpy", "torch"), int(args.megabytes * 1e6))
    if args.tokenizer is not None:
        tokenizer = Tokenizer.from_pretrained(args.tokenizer)
    else:
        tokenizer = train_tokenizer(texts, vocab_size=8192, smiles=["CCO"], science_sizes={"SMILES": 4})
    texts = [text for text in texts if tokenizer.plain_parts(text) == [text]]
    classic, lean = ClassicTokenizer(tokenizer, lean=False), ClassicTokenizer(tokenizer, lean=True)
    ids = tokenizer.encode_batch(texts)
    contestants: dict[str, Callable[[], list[list[int]]]] = {
        "ours": lambda: tokenizer.encode_batch(texts),
        "ours, cold": cold_call(Tokenizer(tokenizer.files), texts),
        "classic": lambda: classic.encode_batch(texts),
        "lean": lambda: lean.encode_batch(texts),
        "library": library_call(tokenizer, texts),
    }
    slow_ones = peers(tokenizer)
    for name, peer in slow_ones.items():
        contestants[name] = lambda peer=peer: peer(texts)["input_ids"]
    for name, call in contestants.items():
        other = call()
        wrong = [text for text, a, b in zip(texts, other, ids, strict=True) if a != b]
        assert not wrong, f"{name} disagrees on {len(wrong)} texts, for example {wrong[0][:200]!r}"
    timings = run_rounds(contestants, rounds=args.rounds)
    slow = timings.get("peer, science", timings["classic"])
    count, characters = sum(map(len, ids)), sum(map(len, texts))
    print(environment())
    print(f"{len(texts)} texts, {characters:,} characters, {count:,} tokens, {args.rounds} rounds\n")
    print(f"| | tokens/s, median | best | {slow.name} / this: min, median, max |\n|---|---|---|---|")
    results = {}
    for name, timing in timings.items():
        low, middle, high = ratios(slow, timing)
        speeds = f"{count / timing.median:,.0f} | {count / timing.best:,.0f}"
        print(f"| {name} | {speeds} | {low:.1f}, {middle:.1f}, {high:.1f} |")
        results[name] = {"seconds": timing.seconds, "tokens": count, "ratio": middle}
    slow_one = slow_ones.get("peer, science")
    encode, memory = (slow_one, slow_one.cache) if slow_one else (classic.encode_batch, classic.memory)
    new = Timing("unseen", tuple(unseen(tokenizer.encode_batch, tokenizer._bpe.forget, texts, args.rounds)))
    new_slow = Timing("unseen", tuple(unseen(encode, memory.clear, texts, args.rounds)))
    print_unseen(slow.name, new_slow, new, sum(map(len, ids[1::2])))
    results["unseen"] = {"ours": new.seconds, slow.name: new_slow.seconds}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
