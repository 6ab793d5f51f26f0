"""`import s1pro.hf` registers the released architecture with transformers.

Afterwards `AutoConfig`, `AutoModelForCausalLM` and `AutoModelForImageTextToText` load a released folder without remote
code.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from s1pro.checkpoint.hf_config import S1ProConfig, S1ProTextConfig, S1ProTimeSeriesConfig, S1ProVisionConfig
from s1pro.checkpoint.huggingface import S1ProForConditionalGeneration

for _config in (S1ProConfig, S1ProTextConfig, S1ProVisionConfig, S1ProTimeSeriesConfig):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
for _auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
    _auto.register(S1ProConfig, S1ProForConditionalGeneration, exist_ok=True)
