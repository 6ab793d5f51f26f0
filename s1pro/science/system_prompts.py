"""System prompts: one set for scientific data, another for general data, never shared.

Scientific answers are short and strict, general ones diverse; trained under one prompt the two spoil each other (paper,
continued pre-training). So the prompt group is a function of the domain, and writers and packing refuse mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping

from s1pro.base.records import PromptGroup

SYSTEM_PROMPTS: Mapping[PromptGroup, str] = {
    "science": "You are a scientist.",
    "general": "You are a helpful assistant.",
}

# Domain to prompt group. A domain that is missing here cannot be written.
DOMAIN_GROUPS: Mapping[str, PromptGroup] = {
    **dict.fromkeys(("chemistry", "materials", "life", "earth", "physics", "papers"), "science"),
    **dict.fromkeys(("english", "pictures"), "general"),
}


def group_of_domain(domain: str) -> PromptGroup:
    """The prompt group of a domain. Raises `ValueError` for a domain that is not in the table."""
    if domain not in DOMAIN_GROUPS:
        raise ValueError(f"no such domain: {domain!r}; known: {', '.join(DOMAIN_GROUPS)}")
    return DOMAIN_GROUPS[domain]
