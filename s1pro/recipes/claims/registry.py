"""All claims by name, in the order of their numbers. A new claim is a module with a `CLAIM` and a line here."""

from __future__ import annotations

from s1pro.base.errors import InputError
from s1pro.recipes.claims import balance, captions, expansion, fp8_rl, generalist, positions, signals, straight_through
from s1pro.recipes.claims.claim import Claim

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        balance.CLAIM,
        straight_through.CLAIM,
        expansion.CLAIM,
        positions.CLAIM,
        signals.CLAIM,
        fp8_rl.CLAIM,
        generalist.CLAIM,
        captions.CLAIM,
    )
}


def claims_named(names: list[str]) -> list[Claim]:
    """The claims with these names; `all` is all of them.

    Raises:
        InputError: there is no such claim.
    """
    if names == ["all"]:
        return list(CLAIMS.values())
    for name in names:
        if name == "all":
            raise InputError("all stands for every claim; give it alone, without other names")
        if name not in CLAIMS:
            raise InputError(f"there is no claim {name!r}; known: {', '.join(CLAIMS)}, or all")
    return [CLAIMS[name] for name in dict.fromkeys(names)]
