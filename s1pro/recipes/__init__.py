from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s1pro.recipes.at_scale import intern_s1_pro_cpt, intern_s1_pro_sft, qwen3_30b_cpt, qwen3_30b_sft
from s1pro.recipes.demo_training import joint_recipe, pretrain_recipe

if TYPE_CHECKING:
    from s1pro.train.config import TrainRun

RECIPES: Mapping[str, Callable[[], TrainRun]] = {
    "demo-pretrain": pretrain_recipe,
    "demo-joint": joint_recipe,
    "30b-a3b-cpt": qwen3_30b_cpt,
    "30b-a3b-sft": qwen3_30b_sft,
    "intern-s1-pro-cpt": intern_s1_pro_cpt,
    "intern-s1-pro-sft": intern_s1_pro_sft,
}
"""What `s1pro train --recipe NAME` knows."""
