"""What a measurement depends on, as a digest: units with another one are measured again.

Counted are the claim's name, its settings by value, the mechanism that the arm loses, and the source text of the
claim's module but for its statement `CLAIM = ...`, whose words (statement, criterion, tuning) change no measurement.
Code of the library is not counted: the stamp of a unit names the commit.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json

from s1pro.base.config import config_to_json
from s1pro.recipes.claims.claim import Claim, Setting


def identity_of(claim: Claim, setting: Setting, arm: str, without: str | None = None) -> str:
    """Digest for all seeds of an arm."""
    module = inspect.getmodule(claim.measure)
    assert module is not None
    code = code_without_words(inspect.getsource(module))
    text = json.dumps([claim.name, config_to_json(claim.settings[setting]), claim.loses(arm, without), code])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def code_without_words(source: str) -> str:
    """A module without its statement `CLAIM = ...`."""
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="CLAIM")], end_lineno=int(end)):
                lines[statement.lineno - 1 : end] = [""] * (end - statement.lineno + 1)
    return "\n".join(line for line in lines if line)
