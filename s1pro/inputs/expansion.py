"""Placeholders in a rendered conversation: from one sign per medium to exactly as many tokens as the network will give.

1. In the text every sign of the template is replaced by what its medium says of itself (`MediaItem.text`): an image by
   the same sign, a video by one sign per temporal patch with the time before it, a signal by its description and sign.
   Signs that somebody typed and that were disarmed (`literal_spans`) are left alone.
2. After encoding, every placeholder token begins a run; it is repeated to the length of the run. Repeating ids
   instead of text spares the tokenizer the work on sixteen thousand equal signs.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

from s1pro.base.errors import InputError
from s1pro.inputs.chat import Rendered
from s1pro.inputs.media_parts import Kind, MediaItem
from s1pro.inputs.special_tokens import IMAGE_PAD, SIGNAL_MARK, TS_CONTEXT, VIDEO_MARK, VIDEO_PAD

PLACEHOLDERS: Mapping[Kind, str] = {"image": IMAGE_PAD, "video": VIDEO_PAD, "time_series": TS_CONTEXT}
_SIGNS: Mapping[str, Kind] = {
    IMAGE_PAD: "image",
    VIDEO_MARK: "video",
    VIDEO_PAD: "video",
    SIGNAL_MARK: "time_series",
    TS_CONTEXT: "time_series",
}
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))


def expand_text(rendered: Rendered, items: Sequence[MediaItem]) -> Rendered:
    """Step 1.

    Raises:
        InputError: the text has more or fewer signs of a kind than there are media.
    """
    waiting = {kind: iter([item for item in items if item.kind == kind]) for kind in PLACEHOLDERS}
    pieces: list[str] = []
    ends, shifts = [0], [0]
    position = 0
    for match in _signs(rendered):
        kind = _SIGNS[match.group()]
        item = next(waiting[kind], None)
        if item is None:
            raise InputError(_mismatch(rendered, items, kind))
        pieces += [rendered.text[position : match.start()], item.text]
        position = match.end()
        ends.append(position)
        shifts.append(shifts[-1] + len(item.text) - len(match.group()))
    for kind, rest in waiting.items():
        if next(rest, None) is not None:
            raise InputError(_mismatch(rendered, items, kind))
    pieces.append(rendered.text[position:])

    def moved(span: tuple[int, int]) -> tuple[int, int]:
        start, end = (place + shifts[bisect_right(ends, place) - 1] for place in span)
        return start, end

    return Rendered(
        text="".join(pieces),
        assistant_spans=tuple(map(moved, rendered.assistant_spans)),
        literal_spans=tuple(map(moved, rendered.literal_spans)),
    )


def expand_ids(ids: Sequence[int], items: Sequence[MediaItem], token_ids: Mapping[Kind, int]) -> list[int]:
    """Step 2: for every id of the result, the index in `ids` that it comes from (so masks can follow).

    Args:
        token_ids: id of the placeholder token of each kind.
    """
    kinds = {token_ids[item.kind]: item.kind for item in items}
    runs = {kind: iter([run for item in items if item.kind == kind for run in item.runs]) for kind in kinds.values()}
    index: list[int] = []
    for place, token in enumerate(ids):
        kind = kinds.get(token)
        run = 1 if kind is None else next(runs[kind], None)
        if run is None:
            raise InputError(f"the prompt holds more {PLACEHOLDERS[kind]} tokens than its media have runs")  # type: ignore[index]
        index += [place] * run
    left = [kind for kind, rest in runs.items() if next(rest, None) is not None]
    if left:
        raise InputError(f"{PLACEHOLDERS[left[0]]} inside a science tag is no placeholder; close the tag before it")
    return index


def _signs(rendered: Rendered) -> Iterator[re.Match[str]]:
    """Signs that are not disarmed."""
    starts = [start for start, _ in rendered.literal_spans]
    for match in _SIGN.finditer(rendered.text):
        place = bisect_left(starts, match.start())
        if place == len(starts) or starts[place] >= match.end():
            yield match


def _mismatch(rendered: Rendered, items: Sequence[MediaItem], kind: Kind) -> str:
    signs = sum(_SIGNS[match.group()] == kind for match in _signs(rendered))
    media = sum(item.kind == kind for item in items)
    return (
        f"the conversation has {signs} placeholders {PLACEHOLDERS[kind]} for {media} parts of type {kind!r}; "
        "give one part per placeholder and do not type placeholders yourself"
    )
