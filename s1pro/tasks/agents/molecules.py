"""What RDKit says about a structure, for models: bounded like everything that reads SMILES here (`science`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1pro.science.formula import hill
from s1pro.science.groups import groups_of
from s1pro.science.molecules import count_atoms
from s1pro.science.rdkit_access import UnreadableSmiles, canonical_smiles, chem, read_smiles
from s1pro.tasks.agents.toolbox import Tool, ToolError, parameters, text_of

_SMILES = {"type": "string", "description": "SMILES of a molecule"}


def described(smiles: str) -> dict[str, Any]:
    """Formula, molar mass, atoms, rings, functional groups and canonical SMILES.

    Raises:
        ToolError: not the SMILES of a molecule within the limits.
        MissingExtraError: RDKit is not installed.
    """
    from rdkit.Chem import rdMolDescriptors

    try:
        molecule = read_smiles(smiles.strip())
    except UnreadableSmiles as error:
        raise ToolError(str(error)) from error
    return {
        "canonical_smiles": str(chem().MolToSmiles(molecule)),
        "formula": hill(count_atoms(molecule)),
        "molar_mass": f"{rdMolDescriptors._CalcMolWt(molecule):.2f} g/mol",
        "heavy_atoms": molecule.GetNumAtoms(),
        "rings": molecule.GetRingInfo().NumRings(),
        "groups": list(groups_of(molecule)),
        "charge": chem().GetFormalCharge(molecule),
    }


def molecule() -> Tool:
    """`described` as a tool."""

    async def run(arguments: Mapping[str, Any]) -> str:
        return text_of(described(arguments["smiles"]))

    return Tool(
        name="molecule",
        description="Formula, molar mass, rings, functional groups and canonical SMILES of a molecule.",
        parameters=parameters(["smiles"], smiles=_SMILES),
        run=run,
    )


def same_molecule() -> Tool:
    """Whether two structures are the same molecule."""

    async def run(arguments: Mapping[str, Any]) -> str:
        try:
            one, other = (canonical_smiles(arguments[name].strip()) for name in ("first", "second"))
        except UnreadableSmiles as error:
            raise ToolError(str(error)) from error
        return text_of({"same": one == other, "first": one, "second": other})

    return Tool(
        name="same_molecule",
        description="Whether two SMILES are the same molecule.",
        parameters=parameters(["first", "second"], first=_SMILES, second=_SMILES),
        run=run,
    )
