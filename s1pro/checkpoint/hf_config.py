"""`S1ProConfig`: the architecture as transformers wants to hold it.

It carries the keys of the released `config.json` (rotary settings under `rope_parameters`, as in transformers 5) and
converts to and from `ModelConfig`, which the network is built from. All checks are those of `checkpoint.config_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from s1pro.checkpoint.config_file import config_json, parse_config
from s1pro.checkpoint.config_keys import MODEL_TYPE, TEXT_TYPE, TOKENS, TS_TOKENS, TS_TYPE, VISION_TYPE
from s1pro.model.config import ModelConfig

_GENERATION_KEYS: dict[str, Any] = {"eos_token_id": None, "bos_token_id": None, "use_cache": True}
"""Keys that transformers would drop as settings of generation."""


class S1ProTextConfig(PretrainedConfig):
    """Keys of `text_config`, as attributes."""

    model_type = TEXT_TYPE
    base_config_key = "text_config"

    def __init__(self, **kwargs: Any) -> None:
        rope = {**(kwargs.pop("rope_parameters", None) or {}), **(kwargs.pop("rope_scaling", None) or {})}
        rope.setdefault("rope_theta", kwargs.pop("rope_theta", 10000.0))
        kwargs.pop("model_type", None)
        kept = {name: kwargs.pop(name, default) for name, default in _GENERATION_KEYS.items()}
        super().__init__(**kwargs)
        for name, value in kept.items():
            setattr(self, name, value)
        self.tie_word_embeddings = False
        self.rope_parameters = rope


class S1ProVisionConfig(PretrainedConfig):
    """Keys of `vision_config`, as attributes."""

    model_type = VISION_TYPE
    base_config_key = "vision_config"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)


class S1ProTimeSeriesConfig(PretrainedConfig):
    """Keys of `ts_config`, as attributes."""

    model_type = TS_TYPE
    base_config_key = "ts_config"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)


class S1ProConfig(PretrainedConfig):
    """Configuration of `S1ProForConditionalGeneration`.

    Args:
        text_config, vision_config, ts_config: dictionaries or configurations; without one of the last two there is no
            vision tower or no time-series module.
        kwargs: token ids and other top-level keys of the released `config.json`.
    """

    model_type = MODEL_TYPE
    sub_configs = {  # noqa: RUF012
        "text_config": S1ProTextConfig,
        "vision_config": S1ProVisionConfig,
        "ts_config": S1ProTimeSeriesConfig,
    }
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        text_config: Mapping[str, Any] | S1ProTextConfig | None = None,
        vision_config: Mapping[str, Any] | S1ProVisionConfig | None = None,
        ts_config: Mapping[str, Any] | S1ProTimeSeriesConfig | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(text_config, S1ProTextConfig):
            text_config = S1ProTextConfig(**(text_config or {}))
        if vision_config is not None and not isinstance(vision_config, S1ProVisionConfig):
            vision_config = S1ProVisionConfig(**vision_config)
        if ts_config is not None and not isinstance(ts_config, S1ProTimeSeriesConfig):
            ts_config = S1ProTimeSeriesConfig(**ts_config)
        for name in ("model_type", "tie_word_embeddings"):
            kwargs.pop(name, None)
        self.text_config = text_config
        self.vision_config = vision_config
        self.ts_config = ts_config
        super().__init__(**kwargs)
        self.tie_word_embeddings = False

    @classmethod
    def from_model_config(cls, config: ModelConfig) -> S1ProConfig:
        """The transformers view of an architecture, for example `s1pro.model.presets.tiny()`."""
        data = config_json(config)
        data.pop("dtype", None)
        return cls(**data)

    def to_model_config(self) -> ModelConfig:
        """The architecture.

        Raises:
            InputError: a key that does not exist, or an impossible value.
        """
        names = ("architectures", "tie_word_embeddings", *TOKENS, *TS_TOKENS)
        data: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name, None) is not None}
        data["model_type"] = self.model_type
        data["text_config"] = _keys(self.text_config)
        if self.vision_config is not None:
            data["vision_config"] = _keys(self.vision_config)
        if self.ts_config is not None:
            data["ts_config"] = _keys(self.ts_config)
        return parse_config(data, where="S1ProConfig")


def _keys(config: PretrainedConfig) -> dict[str, Any]:
    """What the released schema knows of a part; transformers adds defaults of its own to every configuration."""
    added = PretrainedConfig().to_dict().keys() - {"model_type"}
    return {key: value for key, value in config.to_dict().items() if key not in added and value is not None} | {
        "model_type": config.model_type
    }
