"""An engine without a network: what it writes is given, and log-probabilities and routing are functions of the tokens
before, so that every record can be checked against what it must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from s1pro.base.records import Completion, RoutingTrace, Sampling

LAYERS, EXPERTS, TOP_K = 2, 8, 2
SHAPE = (LAYERS, TOP_K)


def digests(ids: Sequence[int]) -> list[int]:
    """One per token, of all tokens up to it: a congruential generator fed with the tokens."""
    found, last = [], 1
    for token in ids:
        last = (last * 6364136223846793005 + 2 * int(token) + 1) % 2**64
        found.append(last)
    return found


def logprob_of(digest: int) -> float:
    """Of the token that this digest ends with, given those before it."""
    return -(digest >> 40) / 2**22


def experts_of(digest: int) -> list[list[int]]:
    """`[L, K]` of the token that this digest ends with, when it is fed."""
    return [[(digest >> (32 + 3 * (2 * layer + k))) % EXPERTS for k in range(TOP_K)] for layer in range(LAYERS)]


class ScriptedClient:
    """A `ModelClient` of tokens.

    Args:
        write: prompt ids and sampling to the text of the turn, and whether it ends by itself.
        encode, decode, end: of the tokenizer.
        damage: changes a completion before it is returned.
    """

    def __init__(
        self,
        write: Callable[[tuple[int, ...], Sampling], tuple[str, bool]],
        tokenizer: object,
        damage: Callable[[Completion], Completion] = lambda completion: completion,
        version: Callable[[], int] = lambda: 0,
    ) -> None:
        self._write, self._tokenizer, self._damage, self._version = write, tokenizer, damage, version
        self.prompts: list[tuple[int, ...]] = []

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        prompt = tuple(prompt_token_ids)
        self.prompts.append(prompt)
        text, ends = self._write(prompt, sampling)
        tokenizer = self._tokenizer
        sampled = [*tokenizer.encode(text), *([tokenizer.eos_token_id] if ends else [])]  # type: ignore[attr-defined]
        cut = len(sampled) > sampling.max_new_tokens
        sampled = sampled[: sampling.max_new_tokens]
        ids = [*prompt, *sampled]
        version = self._version()
        known = digests(ids)
        rows = [experts_of(digest) for digest in known[:-1]]
        trace = RoutingTrace(
            experts_TLK=np.array(rows, dtype=np.uint16).reshape(len(rows), *SHAPE),
            policy_version=version,
            token_ids_T=np.array(ids[:-1], dtype=np.int32),
        )
        return self._damage(
            Completion(
                text=tokenizer.decode(sampled, skip_special_tokens=True),  # type: ignore[attr-defined]
                finish_reason="stop" if ends and not cut else "length",
                prompt_token_ids=prompt,
                token_ids=tuple(sampled),
                logprobs=tuple(map(logprob_of, known[len(prompt) :])),
                routing=trace,
                policy_version=version,
            )
        )
