"""Which figures are copies of which.

    map      element -> signature                                       (`signature`, reads the picture once)
    shuffle  hashes  -> candidate pairs                                 (`candidate_pairs`, or shard by shard)
    map      pair    -> same figure or not: text gate, then pixels      (`verify_pair`)
    reduce   pairs   -> a representative for every element              (`cluster`)

Every step is a function of the elements themselves: the candidates are a property of two hashes, a verification reads
two pictures, and the clusters follow one global order (more pixels, longer caption, smaller id). So the same rows come
out for any order of the input and any division into shards.

**Representatives.** In the global order each element joins the first representative that it was verified against, or
else becomes one. Copies of copies do not chain: every member was compared with its own representative.

**Nothing is deleted.** Duplicates are marked and name their representative; captions and mentions of all members stay
where they are. Pictures with hardly any ink or detail are not compared, and neither are elements without a picture:
both are marked `not_compared` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.corpus.dedup.labels import texts_agree
from s1pro.corpus.dedup.neighbours import pairs_across, pairs_within
from s1pro.corpus.dedup.settings import DedupSettings
from s1pro.corpus.dedup.signature import NUM_BASE_VIEWS, Signature, read_grey, signature
from s1pro.corpus.dedup.verify import compare, nearest_views
from s1pro.corpus.phash import words_of
from s1pro.corpus.records import DuplicateRow, ElementRow

_CACHED_PICTURES = 256
Pair = tuple[str, str]
PictureOf = Callable[[str], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A pair that was looked at: ids in order, whether it is one figure, and why."""

    pair: Pair
    same: bool
    hamming: int
    similarity: float
    reason: str


def find_duplicates(elements: Sequence[ElementRow], settings: DedupSettings | None = None) -> list[DuplicateRow]:
    """One row for every element, in the order of the input.

    Raises:
        InputError: two elements have one id.
    """
    settings = settings or DedupSettings()
    by_id = {element.element_id: element for element in elements}
    if len(by_id) != len(elements):
        raise InputError(f"{len(elements)} elements have only {len(by_id)} different ids")
    signatures, refused = signatures_of(elements, settings)

    @lru_cache(maxsize=_CACHED_PICTURES)
    def picture_of(name: str) -> Image.Image:
        return read_grey(by_id[name].image, name)[0]

    leaders = exact_leaders(signatures)
    distinct = {s.element_id: s for s in signatures if leaders[s.element_id] == s.element_id}
    pairs = candidate_pairs(list(distinct.values()), settings)
    checked = [verify_pair(distinct[a], distinct[b], picture_of, settings) for a, b in pairs]
    rows = {row.element_id: row for row in cluster(signatures, leaders, checked)} | refused
    return [rows[element.element_id] for element in elements]


def signatures_of(
    elements: Iterable[ElementRow], settings: DedupSettings
) -> tuple[list[Signature], dict[str, DuplicateRow]]:
    """Signatures of the elements that can be compared, and rows for the others."""
    found, refused = [], {}
    for element in elements:
        try:
            made = signature(element)
        except InputError as error:
            refused[element.element_id] = _not_compared(element.element_id, str(error))
            continue
        if made.ink_ratio < settings.min_ink or made.entropy < settings.min_entropy:
            reason = f"hardly anything to see: ink {made.ink_ratio:.4f}, entropy {made.entropy:.2f} bits"
            refused[element.element_id] = _not_compared(element.element_id, reason)
        else:
            found.append(made)
    return found, refused


def exact_leaders(signatures: Sequence[Signature]) -> dict[str, str]:
    """For every element the first, in the global order, with the same picture and text."""
    first: dict[str, str] = {}
    leaders = {}
    for each in sorted(signatures, key=lambda s: s.rank):
        leaders[each.element_id] = first.setdefault(each.exact, each.element_id)
    return leaders


def candidate_pairs(signatures: Sequence[Signature], settings: DedupSettings) -> list[Pair]:
    """Pairs of ids, sorted, some of whose views are near and of one shape."""
    by_id = {each.element_id: each for each in signatures}
    base, base_owner = _rows_of(signatures, 0, NUM_BASE_VIEWS)
    cuts, cuts_owner = _rows_of(signatures, NUM_BASE_VIEWS, None)
    within = pairs_within(base, radius=settings.radius, bands=settings.bands)
    across = pairs_across(cuts, base, radius=settings.radius, bands=settings.bands)
    return _plausible(
        by_id,
        [(base_owner[i], base_owner[j]) for i, j in within] + [(cuts_owner[i], base_owner[j]) for i, j in across],
        settings,
    )


def candidate_pairs_between(
    first: Sequence[Signature], second: Sequence[Signature], settings: DedupSettings
) -> list[Pair]:
    """The same relation between two shards: all pairs are those within each shard and those between any two."""
    by_id = {each.element_id: each for each in (*first, *second)}
    found: list[Pair] = []
    for left, right in ((first, second), (second, first)):
        views, views_owner = _rows_of(left, 0, None)
        base, base_owner = _rows_of(right, 0, NUM_BASE_VIEWS)
        near = pairs_across(views, base, radius=settings.radius, bands=settings.bands)
        found += [(views_owner[i], base_owner[j]) for i, j in near]
    return _plausible(by_id, found, settings)


def verify_pair(first: Signature, second: Signature, picture_of: PictureOf, settings: DedupSettings) -> Verified:
    """Text gate, then pixels. The order of the two does not matter."""
    if second.element_id < first.element_id:
        first, second = second, first
    pair = (first.element_id, second.element_id)
    match = nearest_views(first, second, settings)
    if match is None:
        return Verified(pair=pair, same=False, hamming=-1, similarity=0.0, reason="no views of one shape are near")
    if not texts_agree(first.tokens, second.tokens):
        return Verified(pair=pair, same=False, hamming=match.hamming, similarity=0.0, reason="different text inside")
    verdict = compare((first, picture_of(first.element_id)), (second, picture_of(second.element_id)), match, settings)
    threshold = max(settings.thresholds.of(first.kind), settings.thresholds.of(second.kind))
    if verdict.overlap < settings.min_overlap:
        same, reason = False, f"only {verdict.overlap:.0%} in common"
    elif verdict.similarity < threshold:
        same, reason = False, f"similarity {verdict.similarity:.3f} is below {threshold:.3f}"
    else:
        same, reason = True, f"similarity {verdict.similarity:.3f}"
    return Verified(pair=pair, same=same, hamming=match.hamming, similarity=verdict.similarity, reason=reason)


def cluster(
    signatures: Sequence[Signature], leaders: Mapping[str, str], checked: Iterable[Verified]
) -> list[DuplicateRow]:
    """A row for every signature."""
    same: dict[str, dict[str, Verified]] = {}
    for proof in checked:
        if proof.same:
            a, b = proof.pair
            same.setdefault(a, {})[b] = proof
            same.setdefault(b, {})[a] = proof
    order = sorted((s for s in signatures if leaders[s.element_id] == s.element_id), key=lambda s: s.rank)
    position = {s.element_id: i for i, s in enumerate(order)}
    chosen: dict[str, Verified | None] = {}
    representative: dict[str, str] = {}
    for each in order:
        near = [name for name in same.get(each.element_id, ()) if representative.get(name) == name]
        found = min(near, key=position.__getitem__, default=None)
        representative[each.element_id] = found or each.element_id
        chosen[each.element_id] = same[each.element_id][found] if found else None
    sizes: dict[str, int] = {}
    for each in signatures:
        name = representative[leaders[each.element_id]]
        sizes[name] = sizes.get(name, 0) + 1
    return [_row(s.element_id, leaders[s.element_id], representative, chosen, sizes) for s in signatures]


def _row(
    name: str,
    leader: str,
    representative: Mapping[str, str],
    chosen: Mapping[str, Verified | None],
    sizes: Mapping[str, int],
) -> DuplicateRow:
    target, proof = representative[leader], chosen[leader]
    if name == target:
        if sizes[name] == 1:
            return DuplicateRow(element_id=name, representative=name, decision="unique")
        return DuplicateRow(element_id=name, representative=name, decision="representative", reason=f"of {sizes[name]}")
    if proof is None:
        return DuplicateRow(
            element_id=name, representative=target, decision="duplicate", verify_score=1.0, reason="same bytes and text"
        )
    return DuplicateRow(
        element_id=name,
        representative=target,
        decision="duplicate",
        hamming=proof.hamming,
        verify_score=round(proof.similarity, 6),
        reason=proof.reason,
    )


def _not_compared(name: str, reason: str) -> DuplicateRow:
    return DuplicateRow(element_id=name, representative=name, decision="not_compared", reason=reason)


def _rows_of(signatures: Sequence[Signature], start: int, stop: int | None) -> tuple[np.ndarray, list[str]]:
    hashes = [view for each in signatures for view in each.hashes[start:stop]]
    owners = [each.element_id for each in signatures for _ in each.hashes[start:stop]]
    return words_of(hashes), owners


def _plausible(by_id: Mapping[str, Signature], pairs: Iterable[Pair], settings: DedupSettings) -> list[Pair]:
    distinct = {(a, b) if a < b else (b, a) for a, b in pairs if a != b}
    return sorted(pair for pair in distinct if nearest_views(by_id[pair[0]], by_id[pair[1]], settings) is not None)
