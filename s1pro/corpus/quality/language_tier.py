"""What a language model says about a text, asked through a client.

The log-probs of the tokens of the text are requested (`Sampling.prompt_logprobs`, nothing is generated), once for the
text as it is and once with its words shuffled. Of the surprisals `-log p` seven numbers are kept:

    mean, spread            how surprising the tokens are, and how unevenly
    high, worst, low        the surprisal that one token in ten exceeds, the worst window of 16 tokens, the best one
    contrast                how much more surprising the shuffled words are: near zero if the order meant nothing
    per_letter              surprisal by the number of letters: damaged words need many tokens

Any model that returns log-probs of its prompt will do; `s1pro.recipes.quality` trains a tiny one in minutes and fits
the weights of this tier on what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from s1pro.base.client import ModelClient
from s1pro.base.records import Sampling

SURPRISAL_FEATURES = (
    "model_mean", "model_spread", "model_high", "model_worst", "model_low", "model_contrast", "model_per_letter",
)  # fmt: skip
_WINDOW = 16
_MAX_CHARACTERS = 1200
_MIN_TOKENS = 12


async def measure(client: ModelClient, texts: Mapping[str, str], *, at_once: int = 32) -> dict[str, np.ndarray]:
    """The numbers of `SURPRISAL_FEATURES` by text id; texts that are too short for them are left out.

    Raises:
        ValueError: the client gives no log-probs of prompts.
    """
    free = asyncio.Semaphore(at_once)

    async def one(name: str, text: str) -> tuple[str, np.ndarray | None]:
        cut = text[:_MAX_CHARACTERS]
        async with free:
            plain = await surprisal(client, cut)
            if len(plain) < _MIN_TOKENS:
                return name, None
            mixed = await surprisal(client, shuffled(cut))
        return name, numbers_of(plain, mixed, len(cut))

    found = await asyncio.gather(*(one(name, text) for name, text in texts.items()))
    return {name: numbers for name, numbers in found if numbers is not None}


async def surprisal(client: ModelClient, text: str) -> np.ndarray:
    """`-log p` in nats of every token but the first."""
    completion = await client.complete(text, Sampling(max_new_tokens=0, prompt_logprobs=0))
    if completion.prompt_logprobs is None:
        raise ValueError("this client gives no log-probs of prompts, which the language model tier is made of")
    return -np.array([value for value in completion.prompt_logprobs if value is not None])


def shuffled(text: str) -> str:
    """The words in another order; always the same one for a text."""
    words = text.split()
    return " ".join(words[i] for i in np.random.default_rng(len(text)).permutation(len(words)))


def numbers_of(plain: Sequence[float] | np.ndarray, mixed: Sequence[float] | np.ndarray, letters: int) -> np.ndarray:
    """The values of `SURPRISAL_FEATURES`."""
    surprisals = np.asarray(plain, dtype=float)
    window = min(_WINDOW, len(surprisals))
    windows = np.convolve(surprisals, np.ones(window) / window, mode="valid")
    return np.array(
        [
            surprisals.mean(),
            surprisals.std(),
            np.quantile(surprisals, 0.9),
            windows.max(),
            windows.min(),
            float(np.mean(mixed)) - surprisals.mean(),
            surprisals.sum() / max(1, letters),
        ]
    )
