"""The model class `s1pro` of lm-eval: a folder in this process, through our own engine.

    s1pro lm-eval --model s1pro --model_args folder=runs/demo/model --tasks arc_easy --include_path DIR

lm-eval finds models in a table of its own and has no plug-ins, so `s1pro lm-eval` enters this class there and then is
lm-eval.

    loglikelihood           log-probs of the prompt, as the engine computes them for `Sampling.prompt_logprobs`
    loglikelihood_rolling   the same in windows; every token is predicted once, with as much before it as fits
    generate_until          the engine's generation; greedy unless the task samples

Context and continuation are cut where the ids of the context end in those of the whole text, as other classes of
lm-eval do it; blanks at the end of a context belong to the continuation. Control tokens in prompts are control tokens:
the chat template of lm-eval is text. Requests are given to the engine together, which batches them itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from s1pro.base.bars import Bars
from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Sampling
from s1pro.cli.arguments import check_model_folder
from s1pro.serve.client import LocalClient

_END_OF_THOUGHT, _END_OF_TURN = "</think>", "<|im_end|>"
_KNOWN = ("until", "max_gen_toks", "max_tokens", "temperature", "do_sample", "top_p", "top_k", "min_p", "seed")
_LONGEST_ANSWER = 256
Answer = TypeVar("Answer")


class S1ProLM(LM):
    """See the module docstring.

    Args:
        folder: model folder in the released layout.
        dtype: of the weights in memory.
        enable_thinking: chat templates ask the model to reason; what it reasons is no part of answers.
        max_length: of prompt and answer; what the model was made for by default.
        concurrency: requests that the engine knows at once.
        device: `cuda:0` comes from lm-eval whether there is one or not; without one it means the CPU.
        batch_size, max_batch_size: lm-eval always gives them. The engine makes its own batches.
    """

    def __init__(
        self,
        folder: str,
        dtype: str = "float32",
        device: str | None = None,
        enable_thinking: bool = False,
        max_length: int | None = None,
        concurrency: int = 64,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_model_folder(Path(folder))
        self.client = LocalClient.from_folder(
            folder, dtype=dtype, device=_device(device), enable_thinking=enable_thinking, record_routing=False
        )
        self.processor, self.tokenizer = self.client.processor, self.client.processor.tokenizer
        self.folder, self.enable_thinking, self.concurrency = str(folder), enable_thinking, int(concurrency)
        config = self.client.engine.network.config.text
        self.max_length = int(max_length or config.rope.max_position_embeddings)
        self.prefix_token_id = self.tokenizer.eos_token_id

    @property
    def tokenizer_name(self) -> str:
        return self.folder.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The source of the template. There is one, so a name is an error."""
        if isinstance(chat_template, str):
            raise InputError(f"--apply_chat_template {chat_template}: {self.folder} has one chat template; name none")
        return self.processor.template.source

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        text = self.processor.render(
            chat_history, add_generation_prompt=add_generation_prompt, enable_thinking=self.enable_thinking
        )
        return text if add_generation_prompt else text[: text.rindex(_END_OF_TURN)]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        async def one(request: Any) -> tuple[float, bool]:
            answer = await self._score(*self._pair(*request.args))
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
            return answer

        return self._all(one, requests)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        async def one(request: Any) -> float:
            ids = self.tokenizer.encode(request.args[0])
            windows = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length - 1, 1)
            scores = [await self._score(*make_disjoint_window(window)) for window in windows]
            total = sum(score for score, _ in scores)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
            return total

        return self._all(one, requests)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        async def one(request: Any) -> str:
            context, wanted = request.args
            sampling = sampling_of(wanted)
            ids = self.tokenizer.encode(context)[-max(self.max_length - sampling.max_new_tokens, 1) :]
            text = (await self.client.generate(ids, sampling)).text
            if self.enable_thinking:
                text = text.rpartition(_END_OF_THOUGHT)[2].lstrip("\n")
            self.cache_hook.add_partial("generate_until", request.args, text)
            return text

        return self._all(one, requests)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of context and continuation."""
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        before = self.tokenizer.encode(context)
        after = self.tokenizer.encode(context + continuation)[len(before) :]
        return before or [self.prefix_token_id], after

    async def _score(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, bool]:
        """Log-prob of a continuation, and whether it is what greedy generation would give."""
        if not continuation:
            return 0.0, True
        ids = [*context, *continuation][-self.max_length :]
        answer = await self.client.generate(ids, Sampling(max_new_tokens=0, prompt_logprobs=1))
        return continuation_score(answer, ids, min(len(continuation), len(ids) - 1))

    def _all(self, ask: Callable[[Any], Awaitable[Answer]], requests: Iterable[Any]) -> list[Answer]:
        wanted, done = list(requests), 0

        async def gather() -> list[Answer]:
            places = asyncio.Semaphore(self.concurrency)

            async def one(request: Any) -> Answer:
                nonlocal done
                async with places:
                    answer = await ask(request)
                done += 1
                bars.draw("requests", done, len(wanted))
                return answer

            return await asyncio.gather(*(one(request) for request in wanted))

        with Bars("{task.completed} of {task.total}") as bars:
            return asyncio.run(gather())


def _device(wanted: str | None) -> str:
    import torch

    return wanted if wanted and (torch.cuda.is_available() or not wanted.startswith("cuda")) else "cpu"


def continuation_score(answer: Completion, ids: Sequence[int], count: int) -> tuple[float, bool]:
    """Sum over the last `count` tokens of a prompt whose log-probs were asked for."""
    assert answer.prompt_logprobs is not None and answer.prompt_top_logprobs is not None
    values, tops = answer.prompt_logprobs[-count:], answer.prompt_top_logprobs[-count:]
    greedy = all(top is not None and top[0][0] == token for top, token in zip(tops, ids[-count:], strict=True))
    return float(sum(value or 0.0 for value in values)), greedy


def sampling_of(wanted: dict[str, Any]) -> Sampling:
    """What `generation_kwargs` of a task mean here.

    Raises:
        InputError: something that is not known here.
    """
    unknown = sorted(set(wanted) - set(_KNOWN))
    if unknown:
        raise InputError(f"generation_kwargs: {', '.join(unknown)} not known here; known: {', '.join(_KNOWN)}")
    stop = wanted.get("until") or ()
    temperature = float(wanted.get("temperature") or 0.0)
    return Sampling(
        max_new_tokens=int(wanted.get("max_gen_toks") or wanted.get("max_tokens") or _LONGEST_ANSWER),
        temperature=temperature if wanted.get("do_sample", temperature > 0) else 0.0,
        top_p=float(wanted.get("top_p") or 1.0),
        top_k=int(wanted.get("top_k") or 0),
        min_p=float(wanted.get("min_p") or 0.0),
        seed=wanted.get("seed"),
        stop=(stop,) if isinstance(stop, str) else tuple(text for text in stop if text),
    )
