"""Tokens and log-probs in the forms of OpenAI's two interfaces.

    chat         [{"token": "Hi", "bytes": [72, 105], "logprob": -0.1, "top_logprobs": [...]}]
    completions  {"tokens": ["Hi"], "token_logprobs": [-0.1], "top_logprobs": [{"Hi": -0.1}], "text_offset": [0]}

In the second form a position is a dictionary by text, but two tokens may have one text (`CC` as plain text and as a
piece of a SMILES, half a character and another half). The most probable one keeps the text, others are called
`token_id:N`.
The token that stands there is always in its dictionary, so `logprob == max(dictionary)` says whether greedy decoding
would have chosen it, which is what evaluation programs ask.

Log-probs are those of the raw distribution of the model, before temperature and filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s1pro.base.records import Completion, TopLogprobs
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.serve.http.json_text import finite


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Text of one token; a token that is no text by itself is named by its bytes."""
    data = tokenizer.decode_bytes([token])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprobs(
    tokenizer: Tokenizer, ids: Sequence[int], logprobs: Sequence[float], tops: Sequence[TopLogprobs] | None
) -> list[dict[str, Any]]:
    """Entries of `logprobs.content`."""
    entries = []
    for place, (token, logprob) in enumerate(zip(ids, logprobs, strict=True)):
        top = tops[place] if tops is not None else ()
        entries.append(
            {**_entry(tokenizer, token, logprob), "top_logprobs": [_entry(tokenizer, t, value) for t, value in top]}
        )
    return entries


def completion_logprobs(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    logprobs: Sequence[float | None],
    tops: Sequence[TopLogprobs | None] | None,
    *,
    offset: int = 0,
) -> dict[str, Any]:
    """The `logprobs` of a choice; `offset` is where its first token begins in the text."""
    texts = [token_text(tokenizer, token) for token in ids]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    by_text = None
    if tops is not None:
        by_text = [
            None if logprob is None or top is None else _by_text(tokenizer, token, logprob, top)
            for token, logprob, top in zip(ids, logprobs, tops, strict=True)
        ]
    return {
        "tokens": texts,
        "token_logprobs": [None if value is None else finite(value) for value in logprobs],
        "top_logprobs": by_text,
        "text_offset": offsets,
    }


def usage(
    completions: Sequence[Completion], *, prompts: int = 1, reasoning_tokens: int | None = None
) -> dict[str, Any]:
    """What a request has cost. `completions` stand prompt by prompt; the answers to one prompt count it once."""
    per_prompt = max(1, len(completions) // max(1, prompts))
    firsts = completions[::per_prompt]
    prompt = sum(len(completion.prompt_token_ids) for completion in firsts)
    generated = sum(len(completion.token_ids) for completion in completions)
    record: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(completion.cached_tokens for completion in firsts)},
    }
    if reasoning_tokens is not None:
        record["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return record


def _entry(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.decode_bytes([token])
    return {"token": token_text(tokenizer, token), "bytes": list(data), "logprob": finite(logprob)}


def _by_text(tokenizer: Tokenizer, token: int, logprob: float, top: TopLogprobs) -> dict[str, float]:
    ranked = sorted({token: logprob, **dict(top)}.items(), key=lambda item: -item[1])
    named: dict[str, float] = {}
    for index, value in ranked:
        text = token_text(tokenizer, index)
        named[f"token_id:{index}" if text in named else text] = finite(value)
    return named
