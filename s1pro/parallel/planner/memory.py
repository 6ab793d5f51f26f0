"""Bytes of one rank in every phase of a training step.

What the real code keeps alive, tensor by tensor (w bytes per value; T tokens per rank, R = T K routed rows, X tokens
that stand before the experts of a rank: P T with an all-gather over P ranks, R with an all-to-all, T on one rank):

| part | bytes |
|---|---|
| state | `weights.shards`; gradients add up over micro-batches in float32, beside those of the last one |
| kept per block | its input w T D, router logits and probabilities 8 T E, ids and weights 12 T K |
| a block | inputs of its products: w T (3 D + 3 H C + 3 J C) + 4 T D (gate), and of its experts: w X D + 2 w R F |
| experts, backwards | w (2 X D + 3 R D + 6 R F) beside that |
| gathered | experts of one layer while it runs, rest of the block, the head during the whole step |
| head and loss | gathered head, its gradient, two slices of logits: 4 V (2 D + 2 chunk) |
| reduction | gradients of a layer's experts, whole, and again in float32; or that and twice this rank's share |

Phases: forward (experts of the last layer), loss, backward (experts of the last layer with all blocks kept, or of the
first with all gradients there), reduce (experts of the first layer), update. The peak is the largest. Without
recomputation the blocks themselves are kept.

Left out: Newton-Schulz buffers of Muon, and media inside the towers (their weights count).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from s1pro.model.config import ModelConfig
from s1pro.parallel.planner.request import Job, Layout
from s1pro.parallel.planner.weights import Shards, shards, unit_numel

Parts = Mapping[str, float]
"""Bytes by part."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    name: str
    parts: Parts

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def training_phases(config: ModelConfig, job: Job, layout: Layout, *, busiest: float = 1.0) -> list[Phase]:
    """All phases of a training step, in their order; `busiest` is the share of rows of this rank over the mean."""
    return _Step(config, job, layout, busiest).phases()


class _Step:
    """The quantities of the table, in bytes."""

    def __init__(self, config: ModelConfig, job: Job, layout: Layout, busiest: float) -> None:
        text, tokens, w = config.text, layout.tokens_per_batch, job.value_bytes
        self.text, self.job, self.layout, self.w, self.tokens = text, job, layout, w, tokens
        self.moe = len(text.moe_layers)
        self.layers = text.num_hidden_layers
        self.state: Shards = shards(config, job, layout)
        self.hidden = w * tokens * text.hidden_size
        self.rows = tokens * text.router.top_k * busiest if self.moe else 0
        self.experts = w * unit_numel(config, "experts") / max(self.moe, 1) / layout.ep
        self.block_weights = w * unit_numel(config, "block") / self.layers
        self.head = 4 * unit_numel(config, "head")
        self.embedding = w * unit_numel(config, "embedding")
        self.towers = w * unit_numel(config, "tower")
        self.logits = 4 * 2 * job.loss_chunk * text.vocab_size
        self.accumulates = layout.accumulation(job.tokens_per_step) > 1

    @property
    def at_experts(self) -> float:
        """X D: what stands before the experts of this rank."""
        if self.layout.ep == 1:
            return self.hidden
        return self.hidden * self.layout.ep if self.layout.dispatch == "all_gather" else self.wide_rows

    @property
    def wide_rows(self) -> float:
        """R D."""
        return self.w * self.rows * self.text.hidden_size

    @property
    def narrow_rows(self) -> float:
        """R F."""
        return self.w * self.rows * self.text.moe_intermediate_size

    @property
    def routing(self) -> float:
        """Logits of a layer, its probabilities if they are kept for the balance loss, ids and weights."""
        if not self.moe:
            return 0
        router = self.text.router
        return self.tokens * ((8 if self.job.balance_loss else 4) * router.num_experts + 12 * router.top_k)

    @property
    def kept(self) -> float:
        """Of one block, from its forward to its backward pass."""
        return self.hidden + self.routing + (0 if self.layout.checkpointing else self.attention + self.expert_inputs)

    @property
    def attention(self) -> float:
        """What a block keeps besides its input and its experts, when it is not recomputed."""
        text = self.text
        q, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
        values = 3 * text.hidden_size + 3 * q + 3 * kv
        gate = 4 * text.hidden_size + 4 * text.router.num_experts if self.moe and self.w < 4 else 0
        return self.tokens * (self.w * values + 4 * text.num_attention_heads + gate)

    @property
    def expert_inputs(self) -> float:
        """What the experts of a layer keep: their tokens, output of gate and up, and order of the rows."""
        if not self.moe:
            return 3 * self.w * self.tokens * self.text.intermediate_size
        tokens = self.at_experts if self.layout.ep > 1 else 0
        return tokens + 2 * self.narrow_rows + 24 * self.rows

    @property
    def table(self) -> float:
        """Sines and cosines, as they are and per channel."""
        heads = self.text.num_key_value_heads if self.text.rope.fope and self.text.rope.sep_head else 1
        return 4 * 3 * self.tokens * heads * self.text.head_dim

    def phases(self) -> list[Phase]:
        gathered = self.experts + self.block_weights
        return [
            self._phase("forward", kept=self.layers, gathered=gathered, working=self._forward_work()),
            self._phase("loss", kept=self.layers, head=2 * self.head, logits=self.logits, working=3 * self.hidden),
            self._backward("backward, last", self.layers - 1),
            self._backward("backward, first", 0),
            self._reduce(),
            self._update(),
        ]

    def _phase(
        self,
        name: str,
        *,
        kept: float,
        gathered: float = 0,
        working: float = 0,
        head: float | None = None,
        logits: float = 0,
        gradients: float = 0,
        reduction: float = 0,
    ) -> Phase:
        state = self.state
        return Phase(
            name=name,
            parts={
                "parameters": state.parameters,
                "optimizer": state.optimizer,
                "gradients": gradients + (state.accumulated if self.accumulates else 0),
                "kept activations": kept * self.kept + self.table,
                "working activations": working,
                "gathered weights": gathered + self.towers,
                "head and logits": (self.head if head is None else head) + logits,
                "reduction": reduction,
            },
        )

    def _forward_work(self) -> float:
        """Experts at work, or their weights on the way from the collective to their place."""
        tokens, act = (self.at_experts, 2 * self.narrow_rows) if self.layout.checkpointing else (0, 0)
        experts = self.at_experts + 2 * self.wide_rows + self.narrow_rows + tokens + act
        return max(experts + 3 * self.hidden, self.experts)

    def _recomputed(self) -> float:
        return self.attention + self.expert_inputs if self.layout.checkpointing else 0

    def _backward(self, name: str, layer: int) -> Phase:
        experts = 2 * self.at_experts + 3 * self.wide_rows + 6 * self.narrow_rows
        pending = 4 / self.w * self.block_weights if layer < self.layers - 1 else 0
        return self._phase(
            name,
            kept=layer + 1,
            gathered=self.experts,
            working=self._recomputed() + experts + 2 * self.hidden,
            head=2 * self.head,
            gradients=self._gradients(layer) + self.experts,
            reduction=pending + self._waiting(layer),
        )

    def _reduce(self) -> Phase:
        """The experts of the first layer are done: their gradients go into one float32 buffer, and a share comes out.

        Whole gradients are gone when the result is there; it exists twice for a moment.
        """
        wide = 4 / self.w * self.experts
        return self._phase(
            "reduce",
            kept=1 if self.layout.checkpointing else 1 - self.expert_inputs / self.kept,
            gathered=self.embedding + self.block_weights,
            working=2 * self.hidden + (self.attention if self.layout.checkpointing else 0),
            head=2 * self.head,
            gradients=self._gradients(0),
            reduction=wide + max(self.experts, 2 * wide / self.layout.expert_shard) + self._waiting(0),
        )

    def _gradients(self, layer: int) -> float:
        """Sharded ones of the layers behind `layer`."""
        return self.state.gradients * (self.layers - 1 - layer) / self.layers

    def _waiting(self, layer: int) -> float:
        """Float32 gradients of the layers behind `layer`: FSDP2 holds what copies add up until the pass has ended."""
        if self.layout.dp_replicate == 1 and self.layout.expert_replicate == 1:
            return 0
        wide = self.state.gradients if self.w == 4 else self.state.accumulated
        return wide * (self.layers - 1 - layer) / self.layers

    def _update(self) -> Phase:
        """Gradients change into the float32 ones of the masters, or are added to them."""
        state = self.state
        both = state.gradients + state.accumulated
        parts = {
            "parameters": state.parameters,
            "optimizer": state.optimizer,
            "gradients": both if self.accumulates else max(state.gradients, state.accumulated),
        }
        return Phase(name="update", parts=parts)
