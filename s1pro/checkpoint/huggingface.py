"""`S1ProForConditionalGeneration`: the network as a transformers model.

Nothing is computed here. Padded batches are packed (`hf_packing`), the network runs, results are spread again; files go
through `checkpoint.released`, so quantised folders and all layouts load, and none of transformers' own loading is used.
`generate()` is transformers'; its cache is `S1ProCache`.

Two habits differ from the released code, on purpose (docs/numerics.md): positions count from the first valid token also
under left padding (explicit `position_ids` are taken as they are), and padded tokens take no part in the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from s1pro.base.errors import InputError, no_folder
from s1pro.checkpoint.hf_arguments import HUB_ARGUMENTS, parse_device, parse_dtype, parse_num_bytes
from s1pro.checkpoint.hf_cache import S1ProCache
from s1pro.checkpoint.hf_config import S1ProConfig
from s1pro.checkpoint.hf_media import MEDIA_ARGUMENTS, as_tensors, check_rows, media_of, repeat_media
from s1pro.checkpoint.hf_packing import Packing
from s1pro.checkpoint.released import load_network, save_network
from s1pro.kernels.attention import AttentionContext, PackedContext
from s1pro.kernels.cross_entropy import IGNORE_INDEX
from s1pro.model.network import Network, NetworkOutput
from s1pro.model.router import released_balance_loss


@dataclass
class S1ProOutput(ModelOutput):
    """Result of `S1ProForConditionalGeneration.forward`.

    Attributes:
        loss: mean cross-entropy over the targets, if labels were given.
        logits: float32 `[B, S, V]`, 0 at padding; fewer columns with `logits_to_keep`.
        past_key_values: the cache, if used.
        routing: chosen experts int64 `[L, B, S, K]` of the MoE layers, -1 at padding (with `output_routing`).
        router_logits: `[N, E]` per MoE layer, for the N valid tokens (with `output_router_logits`).
        aux_loss: load-balancing loss in the released form (with `output_router_logits`).
        hidden_states: the final ones `[B, S, D]`, as a tuple of one (with `output_hidden_states`).
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: S1ProCache | None = None
    routing: Tensor | None = None
    router_logits: tuple[Tensor, ...] | None = None
    aux_loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class S1ProForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """See the module docstring.

    Args:
        config: the architecture.
        network: an existing network of this architecture; a new one with random weights by default.
    """

    config_class = S1ProConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _no_split_modules = ["DecoderLayer"]  # noqa: RUF012

    def __init__(self, config: S1ProConfig, *, network: Network | None = None) -> None:
        super().__init__(config)
        network = network if network is not None else Network(config.to_model_config())
        self.model, self.lm_head = network.model, network.lm_head
        object.__setattr__(self, "_network", network)  # not a submodule: names in the state dict stay as released
        self.post_init()

    @property
    def network(self) -> Network:
        """The packed network; it shares all parameters with this model."""
        return self._network  # type: ignore[no-any-return]

    def init_weights(self) -> None:
        """The network draws its own weights."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.model.language_model.embed_tokens

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.lm_head

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *_: Any,
        config: S1ProConfig | None = None,
        dtype: torch.dtype | str | None = None,
        device_map: str | torch.device | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> S1ProForConditionalGeneration:
        """Loads a folder in the released layout, FP8 or not.

        Args:
            pretrained_model_name_or_path: a local folder.
            config: ignored but for its type; the folder says what is in it.
            dtype: of the parameters; None or "auto" takes what `config.json` says.
            device_map: one device.

        Raises:
            InputError: the folder is missing, damaged, or of another architecture.
            TypeError: an argument that has no meaning here.
        """
        dtype = kwargs.pop("torch_dtype", dtype)
        unknown = kwargs.keys() - HUB_ARGUMENTS
        if unknown:
            raise TypeError(f"from_pretrained does not know {', '.join(sorted(unknown))}")
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            raise InputError(f"{folder}: {no_folder(folder)}; download the model (hf download) and give its folder")
        network = load_network(folder, dtype=parse_dtype(dtype), device=parse_device(device_map))
        model = cls(S1ProConfig.from_pretrained(folder), network=network)
        if generation_config is not None:
            model.generation_config = generation_config
        elif (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        else:
            model.generation_config = GenerationConfig(eos_token_id=network.config.text.eos_token_id)
        return model.eval()

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        fp8: bool = False,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        max_shard_size: int | str = "5GB",
        **kwargs: Any,
    ) -> None:
        """Writes the released layout: `config.json`, shards, index and `generation_config.json`.

        Args:
            fp8: quantise attention projections and experts in blocks of 128 x 128.
            max_shard_size: bytes, or a string such as "5GB".

        Raises:
            InputError: a weight is not finite.
            TypeError: an argument that has no meaning here.
        """
        unknown = kwargs.keys() - {"safe_serialization", "push_to_hub", "token", "save_original_format", "variant"}
        if state_dict is not None or kwargs.get("push_to_hub") or unknown:
            refused = "state_dict" if state_dict is not None else ", ".join(sorted(unknown)) or "push_to_hub"
            raise TypeError(f"save_pretrained does not support {refused}")
        if not is_main_process:
            return
        folder = save_network(self.network, save_directory, fp8=fp8, max_shard_bytes=parse_num_bytes(max_shard_size))
        if self.generation_config is not None:
            self.generation_config.save_pretrained(folder)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: S1ProCache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        ts_values: Tensor | Sequence[Tensor] | None = None,
        ts_lens: Tensor | None = None,
        ts_sr: Tensor | None = None,
        labels: Tensor | None = None,
        routed_experts: Tensor | None = None,
        output_routing: bool = False,
        output_router_logits: bool = False,
        output_hidden_states: bool | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> S1ProOutput | tuple[Any, ...]:
        """Runs a padded batch.

        Args:
            input_ids: int64 `[B, S]`, or
            inputs_embeds: `[B, S, D]`.
            attention_mask: `[B, past + S]`, 0 is padding, on either side.
            position_ids: `[B, S]`; by default each sequence counts its valid tokens from 0.
            past_key_values: an `S1ProCache` of an earlier call.
            pixel_values, image_grid_thw: patches `[P, X]` of all images and their grids `[N, 3]`.
            pixel_values_videos, video_grid_thw: the same for videos.
            ts_values: standardised signals `[N, longest, channels]`, or a list of N `[length, channels]`.
            ts_lens: points of each signal `[N]`; needed with a padded tensor.
            ts_sr: sampling rates `[N]` in Hz; default the released rule, a quarter of the length and at least 1.
            labels: int64 `[B, S]`, -100 is ignored; shifted by one inside.
            routed_experts: `[L, B, S, K]`, experts to use instead of the router's choice; padding is not read.
            output_routing, output_router_logits, output_hidden_states: see `S1ProOutput`.
            use_cache: defaults to the configuration's value when no gradient is recorded.
            logits_to_keep: logits of the last columns only; 0 for all.
            kwargs: `num_items_in_batch` divides the loss instead of the number of targets here.

        Raises:
            ValueError: inputs that do not fit together or are not supported.
        """
        media = media_of(
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            pixel_values_videos=pixel_values_videos,
            video_grid_thw=video_grid_thw,
            ts_values=ts_values,
            ts_lens=ts_lens,
            ts_sr=ts_sr,
        )
        shape = _batch_shape(input_ids, inputs_embeds)
        cache = self._cache(past_key_values, use_cache, shape[0])
        past = cache.get_seq_length() if cache else 0
        packing = Packing.from_mask(attention_mask, position_ids, shape, past)
        if input_ids is not None and media is not None:
            valid_BS = torch.ones(shape, dtype=torch.bool) if attention_mask is None else attention_mask[:, past:] != 0
            check_rows(input_ids, valid_BS.to(input_ids.device), media, self.network.config)
        ids_N = (
            packing.pack(input_ids) if input_ids is not None else packing.index_N.new_full((len(packing.index_N),), -1)
        )
        output = self.network(
            ids_N.to(self.device),
            packing.position_ids_N.to(self.device),
            _context(packing, cache),
            inputs_embeds_TD=None if inputs_embeds is None else packing.pack(inputs_embeds),
            media=None if media is None else media.map(lambda tensor: tensor.to(self.device)),
            routed_experts_LTK=None if routed_experts is None else _pack_routing(packing, routed_experts),
            logits_index=None if labels is not None else packing.last_columns(logits_to_keep),
        )
        shown = packing if labels is not None else packing.restricted(logits_to_keep)
        result = S1ProOutput(logits=shown.unpack(output.logits), past_key_values=cache)
        if output_routing:
            result["routing"] = torch.stack([packing.unpack(ids, -1) for ids in output.routing_LTK])
        if output_hidden_states:
            result["hidden_states"] = (packing.unpack(output.hidden_TD),)
        self._add_losses(result, output, packing, labels, output_router_logits, kwargs.get("num_items_in_batch"))
        return result if return_dict is None or return_dict else result.to_tuple()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`; arrays of numpy, as the processor gives them, are taken too."""
        return super().__call__(*args, **as_tensors(kwargs, self.device))

    def generate(self, inputs: Any = None, **kwargs: Any) -> Any:
        """transformers' `generate`; arrays of numpy, as the processor gives them, are taken too."""
        inputs = None if inputs is None else as_tensors({"inputs": inputs}, self.device)["inputs"]
        return super().generate(inputs, **as_tensors(kwargs, self.device))

    def prepare_inputs_for_generation(self, input_ids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What transformers prepares; values of signals belong to the first pass only, as pixels do."""
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        if not kwargs.get("is_first_iteration") and kwargs.get("use_cache", True):
            prepared.pop("ts_values", None)
        return prepared

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Every row `expand_size` times, with its own media each time (beams, several answers)."""
        media = {name: model_kwargs.pop(name) for name in MEDIA_ARGUMENTS if model_kwargs.get(name) is not None}
        if expand_size > 1 and media:
            media = repeat_media(media, input_ids, expand_size, self.network.config)
        ids, expanded = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return ids, {**expanded, **media}

    def _cache(self, cache: Any, use_cache: bool | None, batch: int) -> S1ProCache | None:
        if cache is not None and not isinstance(cache, S1ProCache):
            raise ValueError(
                f"past_key_values is a {type(cache).__name__}; pass None or the S1ProCache of an earlier call"
            )
        if use_cache is None:
            use_cache = cache is not None or (bool(self.config.text_config.use_cache) and not torch.is_grad_enabled())
        if not use_cache:
            return None
        if torch.is_grad_enabled():
            raise ValueError("the cache keeps no gradients; call under torch.no_grad() or with use_cache=False")
        return cache or S1ProCache(self.network.config.text, batch, self.lm_head.weight.dtype, self.device)

    def _add_losses(
        self,
        result: S1ProOutput,
        output: NetworkOutput,
        packing: Packing,
        labels: Tensor | None,
        output_router_logits: bool,
        num_items: Tensor | int | None,
    ) -> None:
        if labels is not None:
            assert output.logits is not None
            result["loss"] = causal_loss(output.logits, packing, labels.to(self.device), num_items)
        if output_router_logits:
            result["router_logits"] = tuple(router.logits_TE for router in output.routers)
            aux_loss = released_balance_loss(output.routers)
            result["aux_loss"] = aux_loss
            if result.loss is not None:
                result["loss"] = result.loss + self._aux_coefficient() * aux_loss

    def _aux_coefficient(self) -> float:
        return float(getattr(self.config.text_config, "router_aux_loss_coef", 0.001) or 0.0)


def causal_loss(logits_NV: Tensor, packing: Packing, labels_BS: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Mean cross-entropy of each token's successor; targets that are -100 or padding do not count."""
    labels_BS = packing.unpack(packing.pack(labels_BS), IGNORE_INDEX)
    targets_BS = torch.nn.functional.pad(labels_BS[:, 1:], (0, 1), value=IGNORE_INDEX)
    targets_N = packing.pack(targets_BS)
    total = cross_entropy(logits_NV, targets_N, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / ((targets_N != IGNORE_INDEX).sum().clamp(min=1) if num_items is None else num_items)


def _batch_shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int]:
    given = input_ids if input_ids is not None else inputs_embeds
    if given is None:
        raise ValueError("give input_ids or inputs_embeds")
    if given.dim() != (2 if given is input_ids else 3):
        raise ValueError(f"input_ids must be [B, S] and inputs_embeds [B, S, D], got {list(given.shape)}")
    return given.shape[0], given.shape[1]


def _context(packing: Packing, cache: S1ProCache | None) -> AttentionContext:
    if cache is not None:
        return cache.extend(packing.lengths, packing.shape[1])
    return PackedContext.from_lengths([length for length in packing.lengths if length])


def _pack_routing(packing: Packing, routed_experts: Tensor) -> Tensor:
    if routed_experts.dim() != 4 or tuple(routed_experts.shape[1:3]) != packing.shape:
        raise ValueError(f"routed_experts has shape {list(routed_experts.shape)}, expected [L, B, S, K]")
    return torch.stack([packing.pack(ids) for ids in routed_experts])
