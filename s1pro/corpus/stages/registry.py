"""All stages, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping

from s1pro.base.errors import InputError
from s1pro.corpus.stages.base import Stage
from s1pro.corpus.stages.caption import Caption
from s1pro.corpus.stages.deduplicate import Deduplicate
from s1pro.corpus.stages.engine import Layout
from s1pro.corpus.stages.ingest import Ingest
from s1pro.corpus.stages.judge import Judge
from s1pro.corpus.stages.route import Route

_IN_ORDER: tuple[Stage, ...] = (Ingest(), Layout(), Deduplicate(), Route(), Caption(), Judge())
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _IN_ORDER}


def stage_named(name: str) -> Stage:
    """Raises `InputError` for a name that is no stage."""
    if name not in STAGES:
        raise InputError(f"no such stage: {name!r}; known: {', '.join(STAGES)}")
    return STAGES[name]
