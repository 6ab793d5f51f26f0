"""Generation: prompts in, tokens out, on the network of the trainer.

One step of the engine:

1. the scheduler says which tokens of which requests run (`serve.scheduler`): one of each request that decodes, chunks
   of prompts for the rest of the budget; some of them with guesses of what follows (`serve.lookup`);
2. all of them go through the network in one pass, which fills their slots of the paged cache (`serve.passes`);
3. the sampler draws a token for every request whose known tokens are all in the cache (`serve.sampler`); finished
   requests leave, and others may enter before the next step.

What a request gets depends neither on the others nor on how its tokens were divided into steps, up to rounding: drawn
numbers belong to seed and position, chunks see what a whole prompt would see, and a shared or recomputed block holds
what the request would have computed itself.

Weights can be replaced between two steps (`update_weights`). With experts spread over ranks all ranks run every pass
together (`serve.lockstep`).

Left out: draft models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.base.media import Media
from s1pro.base.records import Completion, Sampling
from s1pro.model.adjacent import lay_together
from s1pro.model.exact import use_exact_operators
from s1pro.model.inner_first import lay_inner_first
from s1pro.model.network import Network
from s1pro.serve.lockstep import SLEEP, WAKE, LockStep
from s1pro.serve.passes import Passes
from s1pro.serve.prepare import Preparation, check_sizes, context_limit
from s1pro.serve.request import OnText, Request
from s1pro.serve.sampler import Sampler
from s1pro.serve.scheduler import Scheduler
from s1pro.serve.shaping import depends_on_history
from s1pro.serve.statistics import Counters, EngineStats
from s1pro.serve.structure import Grammars
from s1pro.serve.text import Decode
from s1pro.serve.weights import checked_weights

GUESSED_ROWS = 64
"""Of all requests together: with more rows a step is no longer bound by reading the weights."""


class Engine:
    """Continuous batching over a paged cache. See the module docstring.

    Args:
        network: in evaluation mode.
        eos_token_ids: ids that end a generation unless the request says `ignore_eos`.
        sampleable: bool mask over the vocabulary; ids without a piece are never sampled. None allows all ids.
        decode: tokens to text, for `Completion.text`, stop strings and streaming. None leaves the text empty.
        grammars: for structured output; None refuses it.
        max_batch: most requests that run at once.
        cache_tokens: token slots of the cache (memory: `model.sizes` bytes per token times this).
        block_size: slots per block.
        max_context: most tokens of prompt and output together; None takes `max_position_embeddings`, or what the cache
            holds if that is less.
        step_tokens: most tokens of one step; longer prompts are cut into chunks.
        prefix_cache: keep the blocks of finished requests, and share blocks of equal prefixes.
        draft_tokens: most guessed tokens per request and step; 0 does not guess.
        record_routing: return the experts of every token with the completion.
        policy_version: version of the weights, stamped on completions.
        exact: switches the network to exact mode (`model.exact`): log-probs and routing have the bits of the trainer's
            forward of that network, whatever the batch, the chunks and the cache. Slower.
        serves_only: nobody trains `network`: its weights are laid out for reading (`model.inner_first`), and steps are
            compiled (`model.decoding_compiled`; a few seconds once on a machine). Not together
            with exact mode, where trainer and engine must take the same products.
        expert_group: ranks over which the experts of `network` are spread (`serve.lockstep`). All of them must call
            `generate` equally often, or `step` until `all_idle`.
        cuda_graphs: whether decoding steps are recorded once and replayed (`serve.decode_graphs`). None does so on a
            GPU wherever it can be done, True refuses a network with which it cannot.

    Attributes:
        progressed: requests that gained tokens in the last step.
        asleep: the memory of the cache is given back; `step` may not be called.
    """

    def __init__(
        self,
        network: Network,
        *,
        eos_token_ids: Collection[int] = (),
        sampleable: npt.NDArray[np.bool_] | Tensor | None = None,
        decode: Decode | None = None,
        grammars: Grammars | None = None,
        max_batch: int = 32,
        cache_tokens: int = 32768,
        block_size: int = 16,
        max_context: int | None = None,
        step_tokens: int = 2048,
        prefix_cache: bool = True,
        draft_tokens: int = 0,
        record_routing: bool = True,
        policy_version: int = 0,
        exact: bool = False,
        serves_only: bool = False,
        expert_group: dist.ProcessGroup | None = None,
        cuda_graphs: bool | None = None,
    ) -> None:
        check_sizes(max_batch, cache_tokens, block_size, step_tokens, draft_tokens)
        if exact:
            use_exact_operators(network)
        if network.exact and serves_only:
            raise ValueError("serves_only lays weights out anew, and then exact mode has not the bits of a trainer")
        lay_together(network)
        if serves_only:
            lay_inner_first(network)
        self.decode = decode
        self.policy_version = policy_version
        self.asleep = False
        self.progressed: list[Request] = []
        self._draft_tokens = draft_tokens
        self._expert_group = expert_group
        self._counters = Counters()
        num_blocks = -(-cache_tokens // block_size)
        self.max_context = context_limit(network.config, max_context, num_blocks * block_size)
        self._preparation = Preparation(
            network.config,
            max_context=self.max_context,
            eos_token_ids=eos_token_ids,
            decode=decode,
            grammars=grammars,
            draft_tokens=draft_tokens,
        )
        self._scheduler = Scheduler(
            num_blocks=num_blocks,
            block_size=block_size,
            max_batch=max_batch,
            step_tokens=step_tokens,
            share_prefixes=prefix_cache,
            counters=self._counters,
        )
        mask = None if sampleable is None else torch.as_tensor(sampleable)
        self._passes = Passes(
            network,
            self._scheduler,
            Sampler(network.config.text.vocab_size, mask, network.lm_head.weight.device),
            self._counters,
            record_routing=record_routing,
            expert_group=expert_group,
            max_context=self.max_context,
            cuda_graphs=cuda_graphs,
        )
        if serves_only:
            self._passes.prepare()

    @property
    def network(self) -> Network:
        """What computes; another one of the same architecture may take its place between two steps."""
        return self._passes.network

    @network.setter
    def network(self, network: Network) -> None:
        self._passes.use(network)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def lockstep(self) -> LockStep | None:
        """With whom every pass is run; None without other ranks."""
        return self._passes.lockstep

    @property
    def all_idle(self) -> bool:
        """Whether no rank had work in the last step; in a single process whether there is none."""
        return self.lockstep.all_idle if self.lockstep is not None else not self.has_work

    @property
    def num_waiting(self) -> int:
        """Requests that are not in the batch; any thread."""
        return len(self._scheduler.waiting) + len(self._scheduler.inbox)

    def stats(self) -> EngineStats:
        """Numbers about the engine; any thread."""
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=self.num_waiting,
            **self._scheduler.pool.counts(),
            policy_version=self.policy_version,
            asleep=self.asleep,
            graphs=self._passes.num_graphs,
            counters=self._counters.copy(),
        )

    def generate(self, prompts: Sequence[Sequence[int]], samplings: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Completes all prompts, in their order. One `Sampling` may serve all of them.

        Raises:
            ValueError: an empty prompt, an id outside the vocabulary, or a prompt that leaves no room for an answer.
        """
        if isinstance(samplings, Sampling):
            samplings = [samplings] * len(prompts)
        if len(samplings) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(samplings)} sampling settings")
        requests = [self.prepare(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
        for request in requests:
            self.submit(request)
        while any(request.finish_reason is None for request in requests):
            self.step()
        if self.lockstep is not None:
            self.step()
            while not self.all_idle:
                self.step()
        return [self.completion(request) for request in requests]

    def prepare(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        media: Media[Any] | None = None,
        streamed: bool = False,
        on_text: OnText | None = None,
    ) -> Request:
        """Checks a request without starting it; any thread, and no work on tensors.

        Args:
            media: of the prompt, as numpy arrays or tensors; their placeholders are in `prompt`.
            streamed: the caller will take deltas.

        Raises:
            ValueError: as `generate`; also media or a structure that cannot be used (`InputError`).
        """
        return self._preparation.request(prompt, sampling, media=media, streamed=streamed, on_text=on_text)

    def submit(self, request: Request) -> None:
        """Queues a prepared request. May be called from another thread than `step`."""
        assert not request.submitted, "a request is submitted once"
        request.submitted = True
        self._scheduler.inbox.append(request)

    def abort(self, request: Request) -> None:
        """Ends a request before its next step. May be called from another thread than `step`."""
        request.aborted = True

    def completion(self, request: Request) -> Completion:
        """The record of a finished request."""
        return request.completion(self.decode, self.policy_version)

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """One pass of the network; returns the requests that are finished now."""
        assert not self.asleep, "the engine sleeps"
        self.progressed = []
        finished = self.take_aborted()
        shares = self._scheduler.schedule(self._draft if self._draft_tokens else None)
        if not shares:
            if self.lockstep is not None:
                self.lockstep.idle()
            return finished
        self._counters.steps += 1
        self.progressed, ended = self._passes.run(shares, self.policy_version)
        return finished + self._leave(ended)

    def reset(self) -> list[Request]:
        """Drops all requests and all contents of the cache, after an error; returns the requests."""
        for request in (*self._scheduler.running, *self._scheduler.waiting):
            request.aborted = True
        dropped = self.take_aborted()
        self._scheduler.copied()
        self._scheduler.pool.forget()
        if not self.asleep:
            self._passes.clear()
        return dropped

    def update_weights(
        self,
        source: Mapping[str, Tensor] | str | Path,
        version: int,
        *,
        partial: bool = False,
        recompute: bool = True,
    ) -> None:
        """Replaces the weights in place, between two steps; the prefix cache is void then. With experts spread over
        ranks it returns when all ranks have called it, and all switch after the same pass.

        Args:
            source: tensors by the names of `network.state_dict()`, or a folder in the released layout; a rank takes
                its share of the experts.
            version: stamped on what is generated from now on.
            partial: tensors may be missing from the mapping.
            recompute: whether requests under way compute their tokens again, as if the new weights had read them. If
                not, they go on with keys, values and routing of the weights that wrote them.

        Raises:
            InputError: the source does not fit, or other ranks got no weights of this version in time; nothing has
                been written.
        """
        write = checked_weights(self.network, source, partial=partial, group=self._expert_group)
        if self.lockstep is not None:
            self.lockstep.meet(version)
        write()
        self.policy_version = version
        self._passes.weights_changed()
        if recompute:
            self._scheduler.preempt_all()
            for request in self._scheduler.waiting:
                request.media_rows = None
        self._scheduler.forget_prefixes()

    def sleep(self) -> None:
        """Gives the memory of the cache back. Requests under way are computed again after `wake`. Other ranks must be
        told as well, and for `wake` too (`LockStep.meet`). Whoever sleeps goes on sleeping."""
        if self.asleep:
            return
        if self.lockstep is not None:
            self.lockstep.meet(SLEEP)
            self.lockstep.cache = None
        self._scheduler.preempt_all()
        self._scheduler.forget_prefixes()
        self._passes.release()
        self.asleep = True

    def wake(self) -> None:
        """Takes the memory of the cache again."""
        if self.asleep:
            if self.lockstep is not None:
                self.lockstep.meet(WAKE)
            self._passes.allocate()
            self.asleep = False

    def take_aborted(self) -> list[Request]:
        """Ends the requests that nobody waits for; `step` does so first, a paused engine can do it alone."""
        for request in self._scheduler.running:
            if request.aborted:
                request.routing = self._passes.trace(request, self.policy_version)
        taken = self._scheduler.take_aborted()
        for request in taken:
            request.finish("abort")
        self._counters.aborted += len(taken)
        return taken

    def _draft(self, request: Request, room: int) -> Sequence[int]:
        if request.lookup is None or depends_on_history(request):
            return ()
        return request.lookup.draft(request.ids, min(room, GUESSED_ROWS // len(self._scheduler.running)))

    def _leave(self, finished: list[Request]) -> list[Request]:
        if finished:
            for request in finished:
                request.routing = self._passes.trace(request, self.policy_version)
                self._counters.left(request.timing, len(request.token_ids))
                request.media = request.media_rows = None
            self._scheduler.leave(finished)
        return finished
