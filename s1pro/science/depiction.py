"""Structural formulas as small pictures, and questions about them (chemistry).

RDKit lays a molecule out in two dimensions and draws it black on white with thick bonds, so that it can be read at 96
pixels. The layout depends on the SMILES alone, so a picture is the same in every run with one version of RDKit.

    formula_in_depiction   molecular formula; hydrogen has to be counted from valences
    rings_in_depiction     number of rings, 0 to 2
    group_in_depiction     whether a functional group is there

Splits are those of the molecules (`science.split`): a scaffold is in one of them only.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.science import slots
from s1pro.science.media import Choice, Count, Example, Formula, MediaFamily, Medium, place_in
from s1pro.science.molecules import Molecule
from s1pro.science.questions import ASKED_GROUPS
from s1pro.science.rdkit_access import read_smiles
from s1pro.science.split import Split, select
from s1pro.science.templates import Bank, SlotKind

SMALLEST_SIDE, LARGEST_SIDE = 48, 2048
RING_COUNTS = (0, 1, 2)
# Groups that have less than this share of the molecules of the most frequent one are not asked about.
RARE = 0.25

_KINDS: Mapping[str, SlotKind] = {"group": slots.GROUP}

FORMULA = Bank(
    {},
    "What is the (molecular |chemical |)formula of (this molecule|the molecule in the picture)?",
    "(Give|Tell me|Write) the (molecular |chemical |)formula of (this molecule|the structure)[, please].",
    "(Which|What) (molecular |)formula does (this molecule|the structure) have?",
    "(Formula|Molecular formula|Sum formula)?",
    held_out=("Which atoms, and how many of each, are drawn or implied?",),
)
RINGS = Bank(
    {},
    "How many rings (does this molecule have|does the molecule have|are drawn|do you see|are there)?",
    "(Count|Count all|Count the) rings (of the molecule|in the picture).",
    "(Number of rings|Rings)?",
    held_out=("Look at the structure. The number of its rings?",),
)
GROUP = Bank(
    _KINDS,
    "(Does|Would) (this molecule|the molecule) (contain|have|carry) {group}?",
    "Is there {group} in (this molecule|the structure|the picture)?",
    "(Tell me|Say|Decide) whether (the molecule has|there is) {group}.",
    "{group}: yes or no?",
    held_out=("Can one find {group} in the drawing?",),
)


def depict(smiles: str, side: int = 96) -> npt.NDArray[np.uint8]:
    """The structural formula as uint8 `[side, side, 3]`, black on white.

    Raises:
        UnreadableSmiles: not a molecule within the limits of `rdkit_access`.
        MissingExtraError: RDKit or Pillow is not installed.
    """
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise InputError(f"depictions have {SMALLEST_SIDE} to {LARGEST_SIDE} pixels on a side, got {side}")
    molecule = read_smiles(smiles)
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "science") from error
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    rdDepictor.Compute2DCoords(molecule)
    drawer = rdMolDraw2D.MolDraw2DCairo(side, side)
    options: Any = drawer.drawOptions()
    options.useBWAtomPalette()
    options.padding = 0.06
    options.bondLineWidth = 2 if side >= 96 else 1
    options.scaleBondWidth = False
    options.fixedBondLength = side / 4.5  # small molecules are not blown up
    options.minFontSize, options.maxFontSize = 12 if side >= 96 else 8, max(14, side // 8)
    options.prepareMolsBeforeDrawing = True
    drawer.DrawMolecule(molecule)
    drawer.FinishDrawing()
    with Image.open(io.BytesIO(drawer.GetDrawingText())) as picture:
        return np.array(picture.convert("RGB"), dtype=np.uint8)


def depiction_families(molecules: Callable[[], Sequence[Molecule]], *, side: int = 96) -> tuple[MediaFamily, ...]:
    """The three families of the module docstring.

    Args:
        molecules: gives the molecules of all splits; called when the first example is drawn.
    """

    @functools.cache
    def pool(split: Split) -> list[Molecule]:
        found = select(sorted(molecules(), key=lambda molecule: molecule.smiles), split)
        if not found:
            raise InputError(f"no molecule falls into the split {split!r}; load more molecules")
        return found

    return (_formula_family(pool, side), _ring_family(pool, side), _group_family(pool, side))


_Pool = Callable[[Split], list[Molecule]]


def _example(molecule: Molecule, side: int, answer: str, asked: Mapping[str, Any] | None = None) -> Example:
    return Example(
        entity=molecule.cluster,
        asked=asked or {},
        answer={"text": answer},
        render=lambda: Medium(kind="image", array=depict(molecule.smiles, side)),
    )


def _formula_family(pool: _Pool, side: int) -> MediaFamily:
    def draw(split: Split, number: int, seed: int) -> Example:
        molecules = pool(split)
        molecule = molecules[place_in(len(molecules), number, "formulas", split, seed)]
        return _example(molecule, side, molecule.formula)

    return MediaFamily(
        name="formula_in_depiction",
        domain="chemistry",
        modality="image",
        questions=FORMULA,
        answer=Formula(),
        draw=draw,
        limits=lambda split: len(pool(split)),
    )


def _ring_family(pool: _Pool, side: int) -> MediaFamily:
    @functools.cache
    def by_rings(split: Split) -> list[list[Molecule]]:
        found = [[m for m in pool(split) if m.rings == count] for count in RING_COUNTS]
        return [having for having in found if having]

    def draw(split: Split, number: int, seed: int) -> Example:
        pools = by_rings(split)
        turn, which = divmod(number, len(pools))
        molecule = pools[which][place_in(len(pools[which]), turn, "rings", which, split, seed)]
        return _example(molecule, side, str(molecule.rings))

    return MediaFamily(
        name="rings_in_depiction",
        domain="chemistry",
        modality="image",
        questions=RINGS,
        answer=Count(),
        draw=draw,
        limits=lambda split: len(by_rings(split)) * min(map(len, by_rings(split))),
    )


def _group_family(pool: _Pool, side: int) -> MediaFamily:
    @functools.cache
    def by_group(split: Split) -> list[tuple[str, dict[bool, list[Molecule]]]]:
        found = []
        for group in ASKED_GROUPS:
            sides = {truth: [m for m in pool(split) if (group in m.groups) == truth] for truth in (True, False)}
            found.append((group, sides))
        most = max(_smaller(sides) for _, sides in found)
        if not most:
            raise InputError(f"no functional group is asked about in the split {split!r}; load more molecules")
        return [(group, sides) for group, sides in found if _smaller(sides) >= RARE * most]

    def draw(split: Split, number: int, seed: int) -> Example:
        groups, truth = by_group(split), number % 2 == 0
        turn, which = divmod(number // 2, len(groups))
        group, sides = groups[which]
        molecule = sides[truth][place_in(len(sides[truth]), turn, "groups", group, truth, split, seed)]
        return _example(molecule, side, "yes" if truth else "no", {"group": group})

    return MediaFamily(
        name="group_in_depiction",
        domain="chemistry",
        modality="image",
        questions=GROUP,
        answer=Choice(labels=("yes", "no")),
        draw=draw,
        kind="group",
        limits=lambda split: 2 * len(by_group(split)) * min(_smaller(sides) for _, sides in by_group(split)),
    )


def _smaller(sides: Mapping[bool, list[Molecule]]) -> int:
    return min(map(len, sides.values()))
