from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s1pro.recipes.demo_training import joint_recipe, pretrain_recipe

if TYPE_CHECKING:
    from s1pro.train.config import TrainRun

RECIPES: Mapping[str, Callable[[], TrainRun]] = {
    "demo-pretrain": pretrain_recipe,
    "demo-joint": joint_recipe,
}
"""What `s1pro train --recipe NAME` knows."""
