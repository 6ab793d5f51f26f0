from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s1pro.recipes import at_scale, demo_rl, demo_training, vision_language

if TYPE_CHECKING:
    from s1pro.train.config import RunConfig

RECIPES: Mapping[str, Callable[[], RunConfig]] = {
    "demo-pretrain": demo_training.pretrain_recipe,
    "demo-joint": demo_training.joint_recipe,
    "demo-rl": demo_rl.rl_recipe,
    "vision-contrastive": vision_language.contrastive_recipe,
    "vision-projectors": vision_language.projectors_recipe,
    "vision-joint": vision_language.joint_recipe,
    "30b-a3b-cpt": at_scale.qwen3_30b_cpt,
    "30b-a3b-sft": at_scale.qwen3_30b_sft,
    "30b-a3b-rl": at_scale.qwen3_30b_rl,
    "intern-s1-pro-cpt": at_scale.intern_s1_pro_cpt,
    "intern-s1-pro-sft": at_scale.intern_s1_pro_sft,
    "intern-s1-pro-rl": at_scale.intern_s1_pro_rl,
}
"""What `s1pro train --recipe NAME` and, for reinforcement learning, `s1pro rl --recipe NAME` know."""
