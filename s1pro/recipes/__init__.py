from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s1pro.recipes import demo_training, vision_language

if TYPE_CHECKING:
    from s1pro.train.config import RunConfig

RECIPES: Mapping[str, Callable[[], RunConfig]] = {
    "demo-pretrain": demo_training.pretrain_recipe,
    "demo-joint": demo_training.joint_recipe,
    "vision-contrastive": vision_language.contrastive_recipe,
    "vision-projectors": vision_language.projectors_recipe,
    "vision-joint": vision_language.joint_recipe,
}
"""What `s1pro train --recipe NAME` knows."""
