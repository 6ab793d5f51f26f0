"""The whole network for one device: media towers, decoder, language-model head.

    ids_T --embed--> x_TD --(media embeddings replace placeholder rows)--> decoder --> hidden_TD --head--> logits_TV

There is one network for training, serving and reinforcement learning. Its parameters carry the names of the released
checkpoint (experts stacked, see `model.moe`), so publishing weights from trainer to engine needs no mapping.
Everything is packed: tokens of several sequences lie one after another and the `AttentionContext` knows the bounds.

Left out on purpose: padding, masks and caches of Hugging Face (`checkpoint.huggingface` wraps that around this class),
ranks and processes (`parallel/`), files (`checkpoint/`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s1pro.base.media import Media
from s1pro.kernels.attention import AttentionContext
from s1pro.kernels.exact import exact_linear
from s1pro.kernels.linear import linear, wide_product
from s1pro.kernels.precision import without_autocast
from s1pro.model.config import ModelConfig
from s1pro.model.decoder import Decoder
from s1pro.model.layers import Embedding, Linear
from s1pro.model.media import scatter_media
from s1pro.model.moe import Experts
from s1pro.model.rope import RotaryEmbedding
from s1pro.model.router import Router, RouterOutput
from s1pro.model.time_series import TimeSeriesTower
from s1pro.model.vision import VisionTower


@dataclass(frozen=True)
class NetworkOutput:
    """Result of one forward pass.

    Attributes:
        hidden_TD: after the final norm.
        logits: float32 `[N, V]` for the requested rows (all T by default), None if not asked for.
        routers: one per MoE layer.
    """

    hidden_TD: Tensor
    logits: Tensor | None
    routers: tuple[RouterOutput, ...]

    @property
    def routing_LTK(self) -> Tensor:
        """Chosen experts of all MoE layers, int64."""
        return torch.stack([router.topk_ids_TK for router in self.routers])


class Towers(nn.Module):
    """What the released layout stores under `model.`: the decoder and, if configured, the towers of other media."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.language_model = Decoder(config.text)
        if config.vision is not None:
            self.visual = VisionTower(config.vision)
        if config.time_series is not None:
            self.time_series = TimeSeriesTower(config.time_series)


class Network(nn.Module):
    """See the module docstring.

    Args:
        config: the architecture.
        seed: seed of the initial weights. Nothing is drawn under `torch.device("meta")`.

    Attributes:
        origin: for whoever loaded the network: what its folder held besides, so that it can be saved as it was.
        exact: whether rows are computed independently of each other to the last bit (`model.exact` switches it).
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.origin: object | None = None
        self.exact = False
        self.model = Towers(config)
        self.lm_head = Linear(config.text.hidden_size, config.text.vocab_size, bias=False)
        if not self.lm_head.weight.is_meta:
            initialise(self, torch.Generator().manual_seed(seed))

    def forward(
        self,
        input_ids_T: Tensor,
        position_ids_T: Tensor,
        context: AttentionContext,
        *,
        inputs_embeds_TD: Tensor | None = None,
        media: Media[Tensor] | None = None,
        routed_experts_LTK: Tensor | None = None,
        logits_index: Tensor | None = None,
        compute_logits: bool = True,
    ) -> NetworkOutput:
        """Runs packed tokens.

        Args:
            input_ids_T: token ids; not embedded if `inputs_embeds_TD` is given, but still locates placeholders.
            position_ids_T: position of each token in its own sequence, from 0 (FoPE is not translation invariant).
            context: segment bounds, or cache and block table.
            media: images, videos and signals whose placeholders occur in `input_ids_T`.
            routed_experts_LTK: experts to use instead of the router's choice, one row per MoE layer.
            logits_index: rows whose logits are wanted; all by default.
            compute_logits: false returns hidden states only (training uses a fused head and loss).

        Raises:
            ValueError: media that do not match the placeholders, or a replay record that does not fit.
        """
        h_TD = self.model.language_model.embed_tokens(input_ids_T) if inputs_embeds_TD is None else inputs_embeds_TD
        if media is not None:
            h_TD = scatter_media(h_TD, input_ids_T, media, self.model, self.config, exact=self.exact)
        self._check_replay(routed_experts_LTK)
        hidden_TD, routers = self.model.language_model(h_TD, position_ids_T, context, routed_experts_LTK)
        logits = None
        if compute_logits:
            rows = hidden_TD if logits_index is None else hidden_TD[logits_index]
            logits = self.logits(rows)
        return NetworkOutput(hidden_TD, logits, routers)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """The float32 head (precision policy: the same on trainer and engine)."""
        with without_autocast(hidden_ND.device):
            if not self.exact and (wide_NV := wide_product(hidden_ND, self.lm_head.weight)) is not None:
                return wide_NV
            dtype = torch.promote_types(hidden_ND.dtype, torch.float32)
            product = exact_linear if self.exact else linear
            return product(hidden_ND.to(dtype), self.lm_head.weight.to(dtype))

    def _check_replay(self, routed_experts_LTK: Tensor | None) -> None:
        layers = len(self.config.text.moe_layers)
        if routed_experts_LTK is not None and routed_experts_LTK.shape[0] != layers:
            raise ValueError(
                f"routed_experts has {routed_experts_LTK.shape[0]} layers, the model has {layers} MoE layers"
            )


@torch.no_grad()
def initialise(network: Network, generator: torch.Generator) -> None:
    """Draws all weights: normal with `initializer_range`, gates too (a zero gate never learns); biases 0, norms 1.

    The time-series module draws its own, last.
    """
    text, vision = network.config.text, network.config.vision

    def std(name: str) -> float | None:
        if name.startswith("model.time_series"):
            return None
        in_vision = name.startswith("model.visual") and vision is not None
        return vision.initializer_range if in_vision and vision is not None else text.initializer_range

    draw_weights(network, generator, std)
    if network.config.time_series is not None:
        network.model.time_series.initialise(generator)


@torch.no_grad()
def draw_weights(network: nn.Module, generator: torch.Generator, std_of: Callable[[str], float | None]) -> None:
    """Draws the weights of all layers in order; `std_of` gives the standard deviation for the name of a module, or None
    for those that are left alone."""
    for name, module in network.named_modules():
        if (std := std_of(name)) is None:
            continue
        if isinstance(module, RotaryEmbedding):
            module.initialise(generator)
        elif isinstance(module, Linear | Embedding | nn.Conv3d):
            module.weight.normal_(0.0, std, generator=generator)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
        elif isinstance(module, Router):
            module.weight.normal_(0.0, std, generator=generator)
        elif isinstance(module, Experts):
            module.gate_up_proj.normal_(0.0, std, generator=generator)
            module.down_proj.normal_(0.0, std, generator=generator)
