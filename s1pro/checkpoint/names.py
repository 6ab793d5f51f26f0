"""The one table of names and layouts between our network and files in the released layout.

Our parameters carry the released names already, with one exception: the experts of a layer are stacked. A `Piece` says
which view of which of our tensors a released tensor is. The same view is read when saving and written when loading, so
the two directions cannot drift apart.

| layout | files hold |
|---|---|
| `per_expert` | `mlp.experts.7.gate_proj.weight` [F, D], `up_proj` [F, D], `down_proj` [D, F] (the release) |
| `fused` | `mlp.experts.gate_up_proj` [E, D, 2F], `mlp.experts.down_proj` [E, F, D] |
| `fused_out_in` | the same names with [E, 2F, D] and [E, D, F] (transformers 5) |

Two liberties of files with a time-series module are read, and never written. Its encoder may hold queries, keys and
values packed as `qkv_proj`, rows q, k, v: each of ours is then a third of it. And it may hold what nothing depends
on: a table of fixed sinusoids, and a bias of the keys, which adds the same number to all scores of a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Size, Tensor

from s1pro.base.region import Region

Layout = Literal["per_expert", "fused", "fused_out_in"]

GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
_QUANTISED = re.compile(
    r"^model\.language_model\..*\.(self_attn\.[qkvo]_proj|mlp\.experts\.\d+\.(gate|up|down)_proj)\.weight$"
)
_PACKED = re.compile(r"^(model\.time_series\.encoder\.layers\.\d+\.self_attn\.)qkv_proj(\.weight|\.bias)$")
_WITHOUT_EFFECT = re.compile(
    r"^model\.time_series\.(encoder_embed\.pos_encoder\.pe|encoder\.layers\.\d+\.self_attn\.k_proj\.bias)$"
)
_TEXT_ONLY = re.compile(r"^model\.(?=(embed_tokens|layers|norm|rotary_emb)\b)")


@dataclass(frozen=True)
class Piece:
    """A released tensor as a view of one of ours.

    Attributes:
        released: its name in files.
        own: name of our tensor.
        expert: index on the first dim, or None for the whole tensor.
        half: 0 for the gate rows, 1 for the up rows of the expert, None for all rows.
        transposed: the last two dims are swapped.
    """

    released: str
    own: str
    expert: int | None = None
    half: int | None = None
    transposed: bool = False

    def view(self, tensor: Tensor) -> Tensor:
        """The released tensor inside our `tensor`, sharing its memory."""
        if self.expert is not None:
            tensor = tensor[self.expert]
        if self.half is not None:
            tensor = tensor.chunk(2, dim=0)[self.half]
        return tensor.transpose(-1, -2) if self.transposed else tensor

    def region(self, own: tuple[int, ...]) -> Region:
        """The box of our tensor, of shape `own`, that the released tensor is; see `boxed`."""
        start, size = [0] * len(own), list(own)
        if self.expert is not None:
            start[0], size[0] = self.expert, 1
        if self.half is not None:
            dim = 0 if self.expert is None else 1
            size[dim] //= 2
            start[dim] = self.half * size[dim]
        return Region(tuple(own), tuple(start), tuple(size))

    def boxed(self, released: Tensor) -> Tensor:
        """The released tensor in the shape of its box, sharing its memory."""
        tensor = released.transpose(-1, -2) if self.transposed else released
        return tensor if self.expert is None else tensor[None]

    def unboxed(self, box: Tensor) -> Tensor:
        """The inverse of `boxed`."""
        tensor = box if self.expert is None else box[0]
        return tensor.transpose(-1, -2) if self.transposed else tensor

    def shape(self, own: Size) -> tuple[int, ...]:
        """Shape of the released tensor, given the shape of ours."""
        shape = list(own if self.expert is None else own[1:])
        if self.half is not None:
            shape[0] //= 2
        if self.transposed:
            shape[-1], shape[-2] = shape[-2], shape[-1]
        return tuple(shape)

    @property
    def quantised(self) -> bool:
        """Whether an FP8 folder stores it as e4m3 blocks: attention projections and single experts."""
        return _QUANTISED.search(self.released) is not None

    def stored_in_fp8(self, *, experts_only: bool = False) -> bool:
        """The same, in a folder where only experts are."""
        return self.quantised and (self.expert is not None or not experts_only)


def pieces(shapes: Mapping[str, Size], layout: Layout) -> list[Piece]:
    """All released tensors of a network, in the order of `shapes` (its state dict)."""
    return [piece for own, shape in shapes.items() for piece in _pieces_of(own, shape, layout)]


def _pieces_of(own: str, shape: Size, layout: Layout) -> list[Piece]:
    if not own.endswith((GATE_UP, DOWN)):
        return [Piece(own, own)]
    if layout != "per_expert":
        return [Piece(own, own, transposed=layout == "fused")]
    stem = own.rsplit(".", 1)[0]
    if own.endswith(DOWN):
        return [Piece(f"{stem}.{e}.down_proj.weight", own, expert=e) for e in range(shape[0])]
    names = ("gate_proj", "up_proj")
    return [
        Piece(f"{stem}.{e}.{name}.weight", own, expert=e, half=half)
        for e in range(shape[0])
        for half, name in enumerate(names)
    ]


def detect_layout(stored: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Size]) -> Layout:
    """Which layout a file has, from names and, for fused experts, shapes (both tensors decide: D may equal F or 2F)."""
    fused = {name: shape for name, shape in stored.items() if name.endswith((GATE_UP, DOWN))}
    if not fused:
        return "per_expert"
    out_in = all(name in shapes and tuple(shapes[name]) == shape for name, shape in fused.items())
    return "fused_out_in" if out_in else "fused"


def canonical_name(name: str) -> str:
    """Names of text-only models (`model.layers…`) as those of the whole network (`model.language_model.layers…`)."""
    return _TEXT_ONLY.sub("model.language_model.", name)


def has_effect(name: str) -> bool:
    """Whether anything depends on the tensor; see the module docstring."""
    return _WITHOUT_EFFECT.match(name) is None


def stored_parts(name: str) -> list[tuple[str, int | None]]:
    """What a tensor of a file holds: canonical names, each with the third of the rows that it is, or None for all."""
    packed = _PACKED.match(name)
    if packed is None:
        return [(canonical_name(name), None)]
    stem, kind = packed.groups()
    return [(f"{stem}{part}_proj{kind}", third) for third, part in enumerate("qkv")]


def modules_not_converted(all_pieces: Iterable[Piece], *, experts_only: bool = False) -> list[str]:
    """Modules an FP8 folder leaves alone (`modules_to_not_convert`), sorted; 623 for the release.

    Args:
        experts_only: attention projections are left alone too.
    """
    plain = {piece.released for piece in all_pieces if not piece.stored_in_fp8(experts_only=experts_only)}
    return sorted({name.rsplit(".", 1)[0] for name in plain})
