"""The tokenizer of the release: plain text, control tokens, and three science vocabularies in one range of ids.

    ids       0 … 151642   byte-level BPE (byte_bpe)
         151643 … 151693   control tokens and science tags
         151694 … 154765   pieces of SMILES, PROT and XNA, 1,024 each (science_bpe); the first of each is `<unk>`
         154766 … 155007   rows of the embedding without a piece

`encode` works in four steps:

1. the text is brought into Unicode normal form C;
2. it is cut at control tokens and tags; an opening science tag puts its vocabulary on a stack, a closing one (whichever
   it is) takes the top away, so nested and mismatched tags behave as upstream;
3. outside of tags, molecules and sequences are looked for (detect), unless `<MOLFORMULA>` protects the place;
4. every part is encoded by the vocabulary on top of the stack, plain text and unknown characters by the byte-level BPE.

`decode` joins the bytes of the pieces and reads them as UTF-8. Ids without a piece, negative ones included, are
nothing. The one text that does not come back is U+2581, the sign SentencePiece writes for a space: it becomes a space.

With `allow_control_tokens=False` a literal `<|im_end|>` is twelve harmless characters; science tags stay tags.
Left out: the switch tokens by which upstream marks detected parts internally. Typed by a user they are plain text here.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.inputs import detect
from s1pro.inputs.byte_bpe import ByteBPE
from s1pro.inputs.detect import Detector
from s1pro.inputs.files import named, write_files
from s1pro.inputs.science_bpe import SPACE, ScienceBPE
from s1pro.inputs.special_tokens import PROTECTING_TAGS, SCIENCE_TAGS
from s1pro.inputs.tokenizer_files import TokenizerFiles, read_tokenizer_files

_CLOSING_TAGS = frozenset("</" + tag[1:] for tag in SCIENCE_TAGS)


class Tokenizer:
    """See the module docstring. Made by `from_pretrained` or `train_tokenizer`.

    Args:
        files: the parsed files of a tokenizer folder.
        detector: how SMILES in free text are confirmed; part of the tokenizer's identity, never guessed from what is
            installed.

    Attributes:
        vocab_size: number of ids, the largest one plus 1 (154,766 for the release).
        eos_token_id, pad_token_id: `<|im_end|>` and `<|endoftext|>`.
        special_token_ids: what `decode(..., skip_special_tokens=True)` leaves out.
        control_tokens: matches any added token that is not a science tag.
    """

    def __init__(self, files: TokenizerFiles, *, detector: Detector = "rules") -> None:
        self.detector: Detector = detector
        self.files = files
        self._confirm = detect.detector_check(detector)
        self._bpe = ByteBPE(files.vocab, files.merges, is_doubtful=_is_doubtful)
        self._science = {name: ScienceBPE(pieces) for name, pieces in files.pieces.items()}
        self._offsets = dict(files.offsets)
        self._kinds = frozenset(self._science)
        self._added = dict(files.added)
        self._bytes = files.bytes_of_ids()
        self._names = files.names_of_ids()
        self._ids_of_names = {name: index for index, name in enumerate(self._names)}
        self._marker = _alternatives([*self._added, *PROTECTING_TAGS])
        self._tag = _alternatives([*(tag for tag in self._added if _is_tag(tag)), *PROTECTING_TAGS])
        self.control_tokens = _alternatives(token for token in self._added if not _is_tag(token))
        self.vocab_size = len(self._bytes)
        self.eos_token_id = self._added[files.eos_token]
        self.pad_token_id = self._added[files.pad_token]
        self.special_token_ids = frozenset(self._added[token] for token in files.special_tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process builds it again from its files."""
        return functools.partial(Tokenizer, detector=self.detector), (self.files,)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, detector: Detector = "rules") -> Tokenizer:
        """Reads a tokenizer folder in the released layout.

        Raises:
            InputError: a file is missing, damaged, too large or inconsistent; the message names it.
            MissingExtraError: `detector="rdkit"` without RDKit.
        """
        with named(Path(folder)):
            return cls(read_tokenizer_files(Path(folder)), detector=detector)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the tokenizer files, byte for byte as they were read."""
        write_files(Path(folder), self.files.raw)

    def encode(
        self, text: str, *, allow_control_tokens: bool = True, literal_spans: Sequence[tuple[int, int]] = ()
    ) -> list[int]:
        """The ids of `text`; no token is added at either end.

        Args:
            text: any string; lone surrogates become U+FFFD.
            allow_control_tokens: whether `<|im_end|>` and the like in the text are control tokens.
            literal_spans: ranges of `text`, in order, in which control tokens are characters (`chat` uses this).
        """
        if not text.isascii():
            text, literal_spans = _normalise(text, literal_spans)
        if "<" not in text and (ordinary := self._bpe.encode_ordinary(text)) is not None:
            return ordinary
        ids: list[int] = []
        for part, vocabulary in self._parts(text, allow_control_tokens, literal_spans):
            if vocabulary is None:
                ids += self._plain(part)
            elif vocabulary == "":
                ids.append(self._added[part])
            else:
                ids += self._in_vocabulary(part, vocabulary)
        return ids

    def encode_batch(self, texts: Iterable[str], *, allow_control_tokens: bool = True) -> list[list[int]]:
        """`encode` for each text. Words of earlier texts are remembered, so large batches cost less per token."""
        return [self.encode(text, allow_control_tokens=allow_control_tokens) for text in texts]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of `ids`. Bytes that are not UTF-8 become U+FFFD; ids without a piece become nothing."""
        return self.decode_bytes(ids, skip_special_tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int], skip_special_tokens: bool = False) -> bytes:
        """The bytes of `ids`, also of an array or tensor: a token may hold a part of a character."""
        if hasattr(ids, "tolist"):
            ids = ids.tolist()
        table, size = self._bytes, len(self._bytes)
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        return b"".join([table[i] for i in ids if 0 <= i < size and i not in skipped])

    def plain_parts(self, text: str) -> list[str]:
        """The parts of `text` that the byte-level BPE encodes: what a vocabulary should be trained on."""
        if not text.isascii():
            text, _ = _normalise(text, ())
        return [part.replace(SPACE, " ") for part, name in self._parts(text, True, ()) if name is None]

    def token_to_id(self, token: str) -> int | None:
        """Id of a token as `vocab.json` writes it (`Ġthe`, `<|SMILES_CC|>`) or of a control token; None if unknown."""
        return self._ids_of_names.get(token)

    def id_to_token(self, index: int) -> str | None:
        """The inverse of `token_to_id`; None for ids without a piece."""
        return self._names[index] if 0 <= index < self.vocab_size else None

    def sampleable_ids(self, size: int) -> npt.NDArray[np.bool_]:
        """Mask over `size` ids (rows of the embedding): False for ids without a piece and for the three `<unk>`.

        Raises:
            ValueError: fewer rows than ids.
        """
        if size < self.vocab_size:
            raise ValueError(
                f"the model has {size} rows, the tokenizer {self.vocab_size} ids; they do not belong together"
            )
        mask = np.zeros(size, dtype=np.bool_)
        mask[: self.vocab_size] = True
        mask[list(self._offsets.values())] = False
        return mask

    def _parts(
        self, text: str, allow_control: bool, literal_spans: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[str, str | None]]:
        """Parts of `text` with their vocabulary: None is plain text, "" an added token, else a science vocabulary."""
        stack: list[str] = []
        closed_to_detection = 0  # how many opened tags forbid detection; upstream counts this apart from the stack
        for part, is_marker in self._cut(text, allow_control, literal_spans):
            if not is_marker:
                yield from self._detected(part, stack, detecting=closed_to_detection == 0)
                continue
            protecting = part in PROTECTING_TAGS
            yield part, None if protecting else ""
            if part in SCIENCE_TAGS or part == PROTECTING_TAGS[0]:
                closed_to_detection += 1
                stack += () if protecting else (SCIENCE_TAGS[part],)
            elif part in _CLOSING_TAGS or protecting:
                closed_to_detection = max(0, closed_to_detection - 1)
                del stack[len(stack) - (0 if protecting else 1) :]

    def _cut(
        self, text: str, allow_control: bool, literal_spans: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[str, bool]]:
        """`text` cut at added tokens and protecting tags; True for these."""
        position = spans_passed = 0
        if "<" in text:
            for match in (self._marker if allow_control else self._tag).finditer(text):
                start, end = match.span()
                while spans_passed < len(literal_spans) and literal_spans[spans_passed][1] <= start:
                    spans_passed += 1
                literal = spans_passed < len(literal_spans) and literal_spans[spans_passed][0] < end
                if literal and not _is_tag(match.group()):
                    continue
                if start > position:
                    yield text[position:start], False
                yield match.group(), True
                position = end
        if position < len(text):
            yield text[position:], False

    def _detected(self, text: str, stack: list[str], *, detecting: bool) -> Iterator[tuple[str, str | None]]:
        """`text` outside of markers, cut at detected molecules and sequences."""
        outer = stack[-1] if stack and stack[-1] in self._science else None
        position = 0
        for span in detect.find(text, self._confirm, self._kinds) if detecting else ():
            if span.start > position:
                yield text[position : span.start], outer
            yield text[span.start : span.end], span.kind
            position = span.end
        if position < len(text):
            yield text[position:], outer

    def _plain(self, text: str) -> list[int]:
        return self._bpe.encode(text.replace(SPACE, " ") if SPACE in text else text)

    def _in_vocabulary(self, text: str, vocabulary: str) -> list[int]:
        offset = self._offsets[vocabulary]
        ids: list[int] = []
        for piece in self._science[vocabulary].encode(text):
            if isinstance(piece, int):
                ids.append(offset + piece)
            else:
                ids += self._plain(piece)
        return ids


def _is_doubtful(chunk: str) -> bool:
    return SPACE in chunk or detect.is_doubtful(chunk)


def _is_tag(marker: str) -> bool:
    return marker in SCIENCE_TAGS or marker in _CLOSING_TAGS or marker in PROTECTING_TAGS


def _alternatives(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the tokens, longest first. All begin with "<", which lets the engine skip ahead."""
    inner = "|".join(re.escape(token[1:]) for token in sorted(tokens, key=len, reverse=True))
    return re.compile(f"<(?:{inner})")


def _normalise(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, Sequence[tuple[int, int]]]:
    """Normal form C without lone surrogates, and the spans where they are then."""
    if not spans:
        return _normal_form(text), spans
    pieces: list[str] = []
    moved: list[tuple[int, int]] = []
    position = length = 0
    for start, end in spans:
        for piece in (text[position:start], text[start:end]):
            pieces.append(_normal_form(piece))
            length += len(pieces[-1])
        moved.append((length - len(pieces[-1]), length))
        position = end
    return "".join([*pieces, _normal_form(text[position:])]), moved


def _normal_form(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
